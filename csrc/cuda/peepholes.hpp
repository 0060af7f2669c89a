// The gradient of peepholes: the gradients of z times the cell that they saw, added up over all
// steps and rows in a fixed order.
#pragma once

#include "cuda/cell.hpp"

namespace lstm_ext {
namespace cuda {

constexpr int kPeepholes = 3;  // of a unit
constexpr int kPeepholeWarps = 16;

// A lane has a unit; the warps of a block divide the rows of all steps, and their parts are added
// in their order.
template <class S>
LSTM_EXT_KERNEL(kPeepholeWarps* kWarp)
peephole_sums(const VariantBackward<S> call) {
  LSTM_EXT_SHARED_MEMORY(memory);
  auto* parts = reinterpret_cast<S*>(memory);  // [warp][gate][lane]
  const int lane = thread_index() % kWarp, warp = thread_index() / kWarp;
  const int64_t hidden = call.hidden_size, unit = int64_t{block_index()} * kWarp + lane;
  const int64_t batch = call.batch_size, count = unit < hidden ? call.seq_len * batch : 0;
  S sums[kPeepholes] = {};
#pragma unroll 4
  for (int64_t i = warp; i < count; i += kPeepholeWarps) {
    const unsigned flags = call.flags ? call.flags[i] : 0u;
    if (flags & kMasked) continue;
    const S* d_z = call.d_gates + kNumGates * i * hidden + unit;
    S c_prev = i < batch ? read_or_zero(call.c0, i * hidden + unit)
                         : call.cells[(i - batch) * hidden + unit];
    if (flags & kReset) c_prev = 0;
    sums[0] = fused(d_z[kInput * hidden], c_prev, sums[0]);
    sums[1] = fused(d_z[kForget * hidden], c_prev, sums[1]);
    sums[2] = fused(d_z[kOutput * hidden], call.cells[i * hidden + unit], sums[2]);
  }
  for (int gate = 0; gate < kPeepholes; ++gate) {
    parts[(warp * kPeepholes + gate) * kWarp + lane] = sums[gate];
  }
  sync_block();
  if (warp >= kPeepholes || unit >= hidden) return;
  S sum = 0;
  for (int w = 0; w < kPeepholeWarps; ++w) sum += parts[(w * kPeepholes + warp) * kWarp + lane];
  call.d_peephole[warp * hidden + unit] = sum;
}

template <class S>
void sum_peepholes(const VariantBackward<S>& call, const Execution& execution) {
  const auto blocks = static_cast<int>((call.hidden_size + kWarp - 1) / kWarp);
  constexpr int kThreads = kPeepholeWarps * kWarp;
  launch(Launch{blocks, 1, kThreads, kThreads * kPeepholes * sizeof(S), 1, false, execution.stream},
         &peephole_sums<S>, call);
}

}  // namespace cuda
}  // namespace lstm_ext
