// Forward, a launch a step: one product h·w_hh whose tiles end with all four gates of a unit in one
// thread, which applies them. For every type, shape and chip.
//
//   narrow  4 rows; the threads of a block divide k, and add their parts in its order
//   wide    64 rows; tiles of h and w_hh in shared memory, in bfloat16 for the matrix units
#pragma once

#include "cuda/cell.hpp"

namespace lstm_ext {
namespace cuda {

constexpr int kStepUnits = 16;  // of a block
constexpr int kNarrowRows = 4;
constexpr int kNarrowSlices = 16;
constexpr int kNarrowThreads = kStepUnits * kNarrowSlices;
constexpr int kWideRows = 64;
constexpr int kWideDepth = 16;
constexpr int kWideThreads = 256;
constexpr int kMatrixDepth = 32;
constexpr int kMatrixStride = kMatrixDepth + 8;  // rows of a fragment in different banks
constexpr int kMatrixThreads = 128;

template <class A>
struct alignas(16) Four {
  A v[4];
};

// Gates, cell and h of one unit in one row, from its sums over k.
template <class S>
LSTM_EXT_DEVICE void finish_forward(const Forward<S>& call, int64_t step, int64_t row, int64_t unit,
                                    const Computing<S> (&sums)[kNumGates]) {
  using A = Computing<S>;
  if (row >= call.batch_size || unit >= call.hidden_size) return;
  const int64_t hidden = call.hidden_size, state = row * hidden + unit;
  const int64_t at = (step * call.batch_size + row) * hidden;
  A z[kNumGates];
  for (int gate = 0; gate < kNumGates; ++gate) {
    z[gate] = call.projected[kNumGates * at + gate * hidden + unit] +
              read_or_zero(call.bias, gate * hidden + unit) + sums[gate];
  }
  const CellGates<Number<A>> gates = activate_gates(gates_of(z));
  const A c_prev = step > 0 ? call.c[state] : read_or_zero(call.c0, state);
  const CellState<Number<A>> next = cell_forward(gates, Number<A>{c_prev});
  call.c[state] = next.c.v;
  call.hidden[at + call.batch_size * hidden + unit] = narrow<S>(next.h.v);
  if (!call.gates) return;
  S* kept = call.gates + kNumGates * at + unit;
  kept[kInput * hidden] = narrow<S>(gates.input.v);
  kept[kForget * hidden] = narrow<S>(gates.forget.v);
  kept[kCandidate * hidden] = narrow<S>(gates.candidate.v);
  kept[kOutput * hidden] = narrow<S>(gates.output.v);
  call.cells[at + unit] = next.c.v;
}

template <class S>
LSTM_EXT_KERNEL(kNarrowThreads)
step_forward_narrow(const Forward<S> call, const int64_t step) {
  using A = Computing<S>;
  LSTM_EXT_SHARED_MEMORY(memory);
  auto* parts = reinterpret_cast<A*>(memory);  // [slice][row][gate][unit]
  constexpr int kPart = kNarrowRows * kNumGates * kStepUnits;
  A* z = parts + kNarrowSlices * kPart;  // [row][gate][unit]
  const int own = thread_index() % kStepUnits, slice = thread_index() / kStepUnits;
  const int64_t hidden = call.hidden_size;
  const int64_t unit = int64_t{block_index()} * kStepUnits + own;
  const int64_t first_row = int64_t{block_index_y()} * kNarrowRows;
  const S* h = call.hidden + step * call.batch_size * hidden;
  A sums[kNarrowRows][kNumGates] = {};
  if (unit < hidden) {
    for (int64_t k = slice; k < hidden; k += kNarrowSlices) {
      const S* w = call.w_hh + k * kNumGates * hidden + unit;
      for (int row = 0; row < kNarrowRows; ++row) {
        if (first_row + row >= call.batch_size) break;
        const A value = widen(h[(first_row + row) * hidden + k]);
        for (int gate = 0; gate < kNumGates; ++gate) {
          sums[row][gate] = fused(value, widen(w[gate * hidden]), sums[row][gate]);
        }
      }
    }
  }
  for (int row = 0; row < kNarrowRows; ++row) {
    for (int gate = 0; gate < kNumGates; ++gate) {
      parts[slice * kPart + (row * kNumGates + gate) * kStepUnits + own] = sums[row][gate];
    }
  }
  sync_block();
  A sum = 0;
  for (int s = 0; s < kNarrowSlices; ++s) sum += parts[s * kPart + thread_index()];
  z[thread_index()] = sum;
  sync_block();
  if (slice >= kNarrowRows) return;
  A all[kNumGates];
  for (int gate = 0; gate < kNumGates; ++gate) {
    all[gate] = z[(slice * kNumGates + gate) * kStepUnits + own];
  }
  finish_forward(call, step, first_row + slice, unit, all);
}

// A thread: 4 rows by the 4 gates of a unit.
template <class S>
LSTM_EXT_KERNEL(kWideThreads)
step_forward_wide(const Forward<S> call, const int64_t step) {
  using A = Computing<S>;
  LSTM_EXT_SHARED_MEMORY(memory);
  auto* h_tile = reinterpret_cast<A*>(memory);  // [k][row]
  A* w_tile = h_tile + kWideDepth * kWideRows;  // [k][unit][gate]
  const int64_t hidden = call.hidden_size, batch = call.batch_size;
  const int64_t first_unit = int64_t{block_index()} * kStepUnits;
  const int64_t first_row = int64_t{block_index_y()} * kWideRows;
  const S* h = call.hidden + step * batch * hidden;
  const int own = thread_index() % kStepUnits, rows = thread_index() / kStepUnits * 4;
  A sums[4][kNumGates] = {};
  for (int64_t k0 = 0; k0 < hidden; k0 += kWideDepth) {
    for (int i = thread_index(); i < kWideDepth * kWideRows; i += kWideThreads) {
      const int64_t row = first_row + i / kWideDepth, k = k0 + i % kWideDepth;
      const bool exists = row < batch && k < hidden;
      h_tile[i % kWideDepth * kWideRows + i / kWideDepth] =
          exists ? widen(h[row * hidden + k]) : A(0);
    }
    for (int i = thread_index(); i < kWideDepth * kNumGates * kStepUnits; i += kWideThreads) {
      const int unit = i % kStepUnits, gate = i / kStepUnits % kNumGates;
      const int64_t k = k0 + i / (kStepUnits * kNumGates);
      const bool exists = k < hidden && first_unit + unit < hidden;
      w_tile[(i / (kStepUnits * kNumGates) * kStepUnits + unit) * kNumGates + gate] =
          exists ? widen(call.w_hh[(k * kNumGates + gate) * hidden + first_unit + unit]) : A(0);
    }
    sync_block();
#pragma unroll
    for (int k = 0; k < kWideDepth; ++k) {
      const auto x = *reinterpret_cast<const Four<A>*>(h_tile + k * kWideRows + rows);
      const auto w = *reinterpret_cast<const Four<A>*>(w_tile + (k * kStepUnits + own) * kNumGates);
#pragma unroll
      for (int r = 0; r < 4; ++r) {
#pragma unroll
        for (int gate = 0; gate < kNumGates; ++gate) {
          sums[r][gate] = fused(x.v[r], w.v[gate], sums[r][gate]);
        }
      }
    }
    sync_block();
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    finish_forward(call, step, first_row + rows + r, first_unit + own, sums[r]);
  }
}

// A warp: 16 rows by 16 units, as 8 fragments of 8 columns; columns are ordered by gate, so the
// four gates of a unit are in fragments of one thread.
LSTM_EXT_KERNEL(kMatrixThreads)
step_forward_matrix(const Forward<BFloat16> call, const int64_t step) {
  LSTM_EXT_SHARED_MEMORY(memory);
  constexpr int kColumns = kNumGates * kStepUnits, kTiles = kColumns / 8;
  auto* h_tile = reinterpret_cast<uint16_t*>(memory);     // [row][k]
  uint16_t* w_tile = h_tile + kWideRows * kMatrixStride;  // [column][k]
  const int64_t hidden = call.hidden_size, batch = call.batch_size;
  const int64_t first_unit = int64_t{block_index()} * kStepUnits;
  const int64_t first_row = int64_t{block_index_y()} * kWideRows;
  const BFloat16* h = call.hidden + step * batch * hidden;
  const int lane = thread_index() % kWarp, warp_row = thread_index() / kWarp * 16;
  float sums[kTiles][4] = {};
  for (int64_t k0 = 0; k0 < hidden; k0 += kMatrixDepth) {
    for (int i = thread_index(); i < kWideRows * kMatrixDepth; i += kMatrixThreads) {
      const int row = i / kMatrixDepth, k = i % kMatrixDepth;
      const bool exists = first_row + row < batch && k0 + k < hidden;
      h_tile[row * kMatrixStride + k] =
          exists ? h[(first_row + row) * hidden + k0 + k].bits : uint16_t{0};
    }
    for (int i = thread_index(); i < kColumns * kMatrixDepth; i += kMatrixThreads) {
      const int column = i % kColumns, k = i / kColumns;
      const int64_t unit = first_unit + column % kStepUnits;
      const int64_t at = ((k0 + k) * kNumGates + column / kStepUnits) * hidden + unit;
      const bool exists = unit < hidden && k0 + k < hidden;
      w_tile[column * kMatrixStride + k] = exists ? call.w_hh[at].bits : uint16_t{0};
    }
    sync_block();
#pragma unroll
    for (int k = 0; k < kMatrixDepth; k += 16) {
      const auto* x = reinterpret_cast<const uint32_t*>(
          h_tile + (warp_row + lane / 4) * kMatrixStride + k + lane % 4 * 2);
      constexpr int kEightRows = 8 * kMatrixStride / 2;
      const uint32_t a[] = {x[0], x[kEightRows], x[4], x[kEightRows + 4]};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const auto* w = reinterpret_cast<const uint32_t*>(
            w_tile + (tile * 8 + lane / 4) * kMatrixStride + k + lane % 4 * 2);
        multiply_fragments(sums[tile], a, w[0], w[4]);
      }
    }
    sync_block();
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int half = i / 4, j = i % 4;
    const float all[] = {sums[half][j], sums[2 + half][j], sums[4 + half][j], sums[6 + half][j]};
    finish_forward(call, step, first_row + warp_row + lane / 4 + j / 2 * 8,
                   first_unit + half * 8 + lane % 4 * 2 + j % 2, all);
  }
}

}  // namespace cuda
}  // namespace lstm_ext
