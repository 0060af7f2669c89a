// Backward, a launch a step: the gradient of h_t is one product of the gradients of z_{t+1} with
// w_hhᵀ, and the thread that has it undoes the cell of step t. Step -1 leaves the gradient of h0.
// The kernels are those of steps_forward.hpp, with 32 units in the wide ones.
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
template <class S, int kRows>
LSTM_EXT_KERNEL(4 * kRows)
step_backward_wide(const Backward<S> call, const int64_t step) {
  using A = Computing<S>;
  LSTM_EXT_SHARED_MEMORY(memory);
  constexpr int kThreads = 4 * kRows;
  constexpr int kUnitStride = kBackUnits + 1, kRowStride = kRows + 4;
  auto* d_tile = reinterpret_cast<A*>(memory);   // [j][row]
  A* w_tile = d_tile + kWideDepth * kRowStride;  // [j][unit]
  const int64_t hidden = call.hidden_size, batch = call.batch_size;
  const int64_t first_unit = int64_t{block_index()} * kBackUnits;
  const int64_t first_row = int64_t{block_index_y()} * kRows;
  const NextStep<S> next(call, step);
  const int own = thread_index() % 16, rows = thread_index() / 16 * 4;
  Ahead<A, kWideDepth * kRows, kThreads> next_d;
  Ahead<A, kWideDepth * kBackUnits, kThreads> next_w;
  const auto fetch = [&](int64_t j0) {
    next_d.fetch([&](int at) {
      const int64_t row = first_row + at / kWideDepth, j = j0 + at % kWideDepth;
      const bool exists = row < batch && j < next.columns;
      return exists ? widen(next.d_z[row * next.columns + j]) : A(0);
    });
    next_w.fetch([&](int at) {
      const int64_t unit = first_unit + at / kWideDepth, j = j0 + at % kWideDepth;
      const bool exists = unit < hidden && j < next.columns;
      return exists ? widen(call.w_hh[unit * next.columns + j]) : A(0);
    });
  };
  A sums[4][2] = {};
  if (next.columns > 0) fetch(0);
  for (int64_t j0 = 0; j0 < next.columns; j0 += kWideDepth) {
    next_d.store(d_tile, [](int at) { return at % kWideDepth * kRowStride + at / kWideDepth; });
    next_w.store(w_tile, [](int at) { return at % kWideDepth * kUnitStride + at / kWideDepth; });
    sync_block();
    if (j0 + kWideDepth < next.columns) fetch(j0 + kWideDepth);
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

// A warp: 16 rows by 16 units, as 2 fragments of 8.
LSTM_EXT_KERNEL(kMatrixThreads)
step_backward_matrix(const Backward<BFloat16> call, const int64_t step) {
  LSTM_EXT_SHARED_MEMORY(memory);
  constexpr int kTiles = 2;
  auto* d_tile = reinterpret_cast<uint16_t*>(memory);     // [row][j]
  uint16_t* w_tile = d_tile + kWideRows * kMatrixStride;  // [unit][j]
  const int64_t first_unit = int64_t{block_index()} * kBackUnits;
  const int64_t first_row = int64_t{block_index_y()} * kWideRows;
  const NextStep<BFloat16> next(call, step);
  const int lane = thread_index() % kWarp, warp = thread_index() / kWarp;
  const int warp_row = warp % 4 * 16, warp_unit = warp / 4 * 8 * kTiles;
  Ahead<uint16_t, (kWideRows + kBackUnits) * kMatrixDepth, kMatrixThreads> ahead;
  const auto fetch = [&](int64_t j0) {
    ahead.fetch([&](int at) {
      const int line = at / kMatrixDepth;
      const bool is_weight = line >= kWideRows;
      const int64_t from = is_weight ? first_unit + line - kWideRows : first_row + line;
      const int64_t end = is_weight ? call.hidden_size : call.batch_size;
      const int64_t j = j0 + at % kMatrixDepth;
      const BFloat16* source = is_weight ? call.w_hh : next.d_z;
      const bool exists = from < end && j < next.columns;
      return exists ? source[from * next.columns + j].bits : uint16_t{0};
    });
  };
  float sums[kTiles][4] = {};
  if (next.columns > 0) fetch(0);
  for (int64_t j0 = 0; j0 < next.columns; j0 += kMatrixDepth) {
    ahead.store(d_tile,
                [](int at) { return at / kMatrixDepth * kMatrixStride + at % kMatrixDepth; });
    sync_block();
    if (j0 + kMatrixDepth < next.columns) fetch(j0 + kMatrixDepth);
#pragma unroll
    for (int j = 0; j < kMatrixDepth; j += 16) {
      const auto* x = reinterpret_cast<const uint32_t*>(
          d_tile + (warp_row + lane / 4) * kMatrixStride + j + lane % 4 * 2);
      constexpr int kEightRows = 8 * kMatrixStride / 2;
      const uint32_t a[] = {x[0], x[kEightRows], x[4], x[kEightRows + 4]};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const auto* w = reinterpret_cast<const uint32_t*>(
            w_tile + (warp_unit + tile * 8 + lane / 4) * kMatrixStride + j + lane % 4 * 2);
        multiply_fragments(sums[tile], a, w[0], w[4]);
      }
    }
    sync_block();
  }
#pragma unroll
  for (int i = 0; i < 4 * kTiles; ++i) {
    const int j = i % 4;
    finish_backward(call, step, first_row + warp_row + lane / 4 + j / 2 * 8,
                    first_unit + warp_unit + i / 4 * 8 + lane % 4 * 2 + j % 2, sums[i / 4][j]);
  }
}

}  // namespace cuda
}  // namespace lstm_ext
