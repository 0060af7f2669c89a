// Backward, a launch a step: the gradient of h_t is one product of the gradients of z_{t+1} with
// w_hhᵀ, and the thread that has it undoes the cell of step t. Step -1 leaves the gradient of h0.
// The tiles are those of steps_forward.hpp, 64 rows by 32 units in the wide ones.
#pragma once

#include "cuda/steps_forward.hpp"

namespace lstm_ext {
namespace cuda {

constexpr int kBackUnits = 32;  // of a block of the wide kernels

// d_h: what the product gave. The gradient of c is carried from step to step in d_c0.
template <class S>
LSTM_EXT_DEVICE void finish_backward(const Backward<S>& call, int64_t step, int64_t row,
                                     int64_t unit, Computing<S> d_h) {
  using A = Computing<S>;
  if (row >= call.batch_size || unit >= call.hidden_size) return;
  const int64_t hidden = call.hidden_size, state = row * hidden + unit;
  if (step < 0) {
    call.d_h0[state] = narrow<S>(d_h);
    return;
  }
  const bool is_last = step == call.seq_len - 1;
  if (is_last) d_h = read_or_zero(call.d_h, state);
  d_h += upstream(call, step, row, unit);
  const A d_c = is_last ? read_or_zero(call.d_c, state) : call.d_c0[state];
  const int64_t at = (step * call.batch_size + row) * hidden;
  const S* kept = call.gates + kNumGates * at + unit;
  const A active[] = {widen(kept[0]), widen(kept[hidden]), widen(kept[2 * hidden]),
                      widen(kept[3 * hidden])};
  const A c_prev =
      step > 0 ? call.cells[at - call.batch_size * hidden + unit] : read_or_zero(call.c0, state);
  const CellGradient<Number<A>> gradient =
      cell_backward(gates_of(active), Number<A>{call.cells[at + unit]}, Number<A>{c_prev},
                    Number<A>{d_h}, Number<A>{d_c}, Number<A>{1});
  S* d_z = call.d_gates + kNumGates * at + unit;
  d_z[kInput * hidden] = narrow<S>(gradient.z.input.v);
  d_z[kForget * hidden] = narrow<S>(gradient.z.forget.v);
  d_z[kCandidate * hidden] = narrow<S>(gradient.z.candidate.v);
  d_z[kOutput * hidden] = narrow<S>(gradient.z.output.v);
  call.d_c0[state] = gradient.c_prev.v;
}

// The gradients of z of the step after, (B, 4H), and how many columns there are: none after the
// last step.
template <class S>
struct NextStep {
  const S* d_z;
  int64_t columns;
  LSTM_EXT_DEVICE NextStep(const Backward<S>& call, int64_t step)
      : d_z(call.d_gates + (step + 1) * call.batch_size * kNumGates * call.hidden_size),
        columns(step + 1 < call.seq_len ? kNumGates * call.hidden_size : 0) {}
};

template <class S>
LSTM_EXT_KERNEL(kNarrowThreads)
step_backward_narrow(const Backward<S> call, const int64_t step) {
  using A = Computing<S>;
  LSTM_EXT_SHARED_MEMORY(memory);
  auto* parts = reinterpret_cast<A*>(memory);  // [slice][row][unit]
  const int own = thread_index() / kNarrowSlices, slice = thread_index() % kNarrowSlices;
  const int64_t first_unit = int64_t{block_index()} * kStepUnits;
  const int64_t first_row = int64_t{block_index_y()} * kNarrowRows;
  const NextStep<S> next(call, step);
  A sums[kNarrowRows] = {};
  if (first_unit + own < call.hidden_size) {
    const S* w = call.w_hh + (first_unit + own) * kNumGates * call.hidden_size;
    for (int64_t j = slice; j < next.columns; j += kNarrowSlices) {
      const A weight = widen(w[j]);
      for (int row = 0; row < kNarrowRows; ++row) {
        if (first_row + row >= call.batch_size) break;
        sums[row] = fused(widen(next.d_z[(first_row + row) * next.columns + j]), weight, sums[row]);
      }
    }
  }
  constexpr int kPart = kNarrowRows * kStepUnits;
  for (int row = 0; row < kNarrowRows; ++row) {
    parts[slice * kPart + row * kStepUnits + own] = sums[row];
  }
  sync_block();
  if (thread_index() >= kPart) return;
  A d_h = 0;
  for (int s = 0; s < kNarrowSlices; ++s) d_h += parts[s * kPart + thread_index()];
  finish_backward(call, step, first_row + thread_index() / kStepUnits,
                  first_unit + thread_index() % kStepUnits, d_h);
}

// A thread: 4 rows by 2 units.
template <class S>
LSTM_EXT_KERNEL(kWideThreads)
step_backward_wide(const Backward<S> call, const int64_t step) {
  using A = Computing<S>;
  LSTM_EXT_SHARED_MEMORY(memory);
  constexpr int kUnitStride = kBackUnits + 1, kRowStride = kWideRows + 4;
  auto* d_tile = reinterpret_cast<A*>(memory);   // [j][row]
  A* w_tile = d_tile + kWideDepth * kRowStride;  // [j][unit]
  const int64_t hidden = call.hidden_size, batch = call.batch_size;
  const int64_t first_unit = int64_t{block_index()} * kBackUnits;
  const int64_t first_row = int64_t{block_index_y()} * kWideRows;
  const NextStep<S> next(call, step);
  const int own = thread_index() % 16, rows = thread_index() / 16 * 4;
  A sums[4][2] = {};
  for (int64_t j0 = 0; j0 < next.columns; j0 += kWideDepth) {
    for (int i = thread_index(); i < kWideDepth * kWideRows; i += kWideThreads) {
      const int64_t row = first_row + i / kWideDepth, j = j0 + i % kWideDepth;
      const bool exists = row < batch && j < next.columns;
      d_tile[i % kWideDepth * kRowStride + i / kWideDepth] =
          exists ? widen(next.d_z[row * next.columns + j]) : A(0);
    }
    for (int i = thread_index(); i < kWideDepth * kBackUnits; i += kWideThreads) {
      const int64_t unit = first_unit + i / kWideDepth, j = j0 + i % kWideDepth;
      const bool exists = unit < hidden && j < next.columns;
      w_tile[i % kWideDepth * kUnitStride + i / kWideDepth] =
          exists ? widen(call.w_hh[unit * next.columns + j]) : A(0);
    }
    sync_block();
#pragma unroll
    for (int j = 0; j < kWideDepth; ++j) {
      const auto d = *reinterpret_cast<const Four<A>*>(d_tile + j * kRowStride + rows);
#pragma unroll
      for (int u = 0; u < 2; ++u) {
        const A weight = w_tile[j * kUnitStride + own + 16 * u];
#pragma unroll
        for (int r = 0; r < 4; ++r) sums[r][u] = fused(d.v[r], weight, sums[r][u]);
      }
    }
    sync_block();
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    finish_backward(call, step, first_row + rows + i / 2, first_unit + own + 16 * (i % 2),
                    sums[i / 2][i % 2]);
  }
}

// A warp: 16 rows by 32 units, as 4 fragments of 8.
LSTM_EXT_KERNEL(kMatrixThreads)
step_backward_matrix(const Backward<BFloat16> call, const int64_t step) {
  LSTM_EXT_SHARED_MEMORY(memory);
  constexpr int kTiles = kBackUnits / 8;
  auto* d_tile = reinterpret_cast<uint16_t*>(memory);     // [row][j]
  uint16_t* w_tile = d_tile + kWideRows * kMatrixStride;  // [unit][j]
  const int64_t first_unit = int64_t{block_index()} * kBackUnits;
  const int64_t first_row = int64_t{block_index_y()} * kWideRows;
  const NextStep<BFloat16> next(call, step);
  const int lane = thread_index() % kWarp, warp_row = thread_index() / kWarp * 16;
  float sums[kTiles][4] = {};
  for (int64_t j0 = 0; j0 < next.columns; j0 += kMatrixDepth) {
    for (int i = thread_index(); i < (kWideRows + kBackUnits) * kMatrixDepth; i += kMatrixThreads) {
      const int line = i / kMatrixDepth, j = i % kMatrixDepth;
      const bool is_weight = line >= kWideRows;
      const int64_t from = is_weight ? first_unit + line - kWideRows : first_row + line;
      const int64_t end = is_weight ? call.hidden_size : call.batch_size;
      const BFloat16* source = is_weight ? call.w_hh : next.d_z;
      const bool exists = from < end && j0 + j < next.columns;
      d_tile[line * kMatrixStride + j] =
          exists ? source[from * next.columns + j0 + j].bits : uint16_t{0};
    }
    sync_block();
#pragma unroll
    for (int j = 0; j < kMatrixDepth; j += 16) {
      const auto* x = reinterpret_cast<const uint32_t*>(
          d_tile + (warp_row + lane / 4) * kMatrixStride + j + lane % 4 * 2);
      constexpr int kEightRows = 8 * kMatrixStride / 2;
      const uint32_t a[] = {x[0], x[kEightRows], x[4], x[kEightRows + 4]};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const auto* w = reinterpret_cast<const uint32_t*>(
            w_tile + (tile * 8 + lane / 4) * kMatrixStride + j + lane % 4 * 2);
        multiply_fragments(sums[tile], a, w[0], w[4]);
      }
    }
    sync_block();
  }
#pragma unroll
  for (int i = 0; i < 4 * kTiles; ++i) {
    const int j = i % 4;
    finish_backward(call, step, first_row + warp_row + lane / 4 + j / 2 * 8,
                    first_unit + i / 4 * 8 + lane % 4 * 2 + j % 2, sums[i / 4][j]);
  }
}

}  // namespace cuda
}  // namespace lstm_ext
