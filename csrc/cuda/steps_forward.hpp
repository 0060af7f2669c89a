// Forward, a launch a step: one product h·w_hh whose tiles end with all four gates of a unit in one
// thread, which applies them. For every type, shape and chip.
//
//   narrow  4 rows; the threads of a block divide k, and add their parts in its order
//   wide    32 rows (16 in float64); the warps of a block divide k, each with tiles of h and w_hh
//   in
//           shared memory while its next ones are on their way to registers
//   matrix  tiles of a whole block for the matrix units, in bfloat16, 64 rows
#pragma once

#include "cuda/cell.hpp"
#include "cuda/steps_variants.hpp"

namespace lstm_ext {
namespace cuda {

constexpr int kStepUnits = 16;  // of a block
constexpr int kNarrowRows = 4;
constexpr int kNarrowSlices = 16;
constexpr int kNarrowThreads = kStepUnits * kNarrowSlices;
constexpr int kWideRows = 64;
constexpr int kWideDepth = 32;
constexpr int kMatrixRows = 64;
constexpr int kMatrixDepth = 32;
constexpr int kMatrixStride = kMatrixDepth + 8;  // rows of a fragment in different banks
constexpr int kMatrixThreads = 256;

// The part of a tile that a thread brings: values `thread + i * kThreads` of kCount, in registers
// while the tile before is still in use.
template <class T, int kCount, int kThreads>
struct Ahead {
  T values[kCount / kThreads];

  template <class Read>
  LSTM_EXT_DEVICE void fetch(const Read& read) {
#pragma unroll
    for (int i = 0; i < kCount / kThreads; ++i) values[i] = read(thread_index() + i * kThreads);
  }
  template <class Place>
  LSTM_EXT_DEVICE void store(T* tile, const Place& place) const {
#pragma unroll
    for (int i = 0; i < kCount / kThreads; ++i) {
      tile[place(thread_index() + i * kThreads)] = values[i];
    }
  }
};

// Whether a cell leaves what it made to a projection.
template <class Call>
constexpr bool kProjects = false;

// Gates, cell and h of one unit in one row, from its sums over k.
template <class Call>
LSTM_EXT_DEVICE void finish_forward(const Call& call, int64_t step, int64_t row, int64_t unit,
                                    const typename Call::A (&sums)[kNumGates]) {
  using S = typename Call::Stored;
  using A = typename Call::A;
  if (row >= call.batch_size || unit >= call.hidden_size) return;
  const int64_t hidden = call.hidden_size, state = row * hidden + unit;
  const int64_t at = (step * call.batch_size + row) * hidden;
  const A* projected =
      call.projected + step * call.projected_time_stride + row * call.projected_batch_stride + unit;
  A z[kNumGates];
  for (int gate = 0; gate < kNumGates; ++gate) {
    z[gate] = projected[gate * hidden] + read_or_zero(call.bias, gate * hidden + unit) + sums[gate];
  }
  const CellGates<Number<A>> gates = begin_cell(call, gates_of(z));
  const unsigned flags = flags_of(call, step, row);
  A c_prev = step > 0 ? call.c[state] : read_or_zero(call.c0, state);
  if (flags & kReset) c_prev = 0;
  const StepCell<A> made = make_cell(call, step, row, unit, gates, Number<A>{c_prev});
  CellState<Number<A>> next = made.next;
  if (flags & kMasked) next = {{kept_h(call, step, row, unit)}, {c_prev}};
  call.c[state] = next.c.v;
  if constexpr (kProjects<Call>) {
    leave_made(call, step, state, next.h.v);
  } else {
    const A read_next = as_read(call, step + 1, row, unit, next.h.v);
    call.hidden[at + call.batch_size * hidden + unit] = narrow<S>(read_next);
    const S h = narrow<S>(next.h.v);
    if (call.output) call.output[at + unit] = flags & kSilent ? S{} : h;
    if (call.h_factors) call.h[state] = h;
  }
  if (!call.gates) return;
  S* kept = call.gates + kNumGates * at + unit;
  kept[kInput * hidden] = narrow<S>(made.kept.input.v);
  kept[kForget * hidden] = narrow<S>(made.kept.forget.v);
  kept[kCandidate * hidden] = narrow<S>(made.kept.candidate.v);
  kept[kOutput * hidden] = narrow<S>(made.kept.output.v);
  call.cells[at + unit] = next.c.v;
}

template <class Call>
LSTM_EXT_KERNEL(kNarrowThreads)
step_forward_narrow(const Call call, const int64_t step) {
  using S = typename Call::Stored;
  using A = typename Call::A;
  LSTM_EXT_SHARED_MEMORY(memory);
  auto* parts = reinterpret_cast<A*>(memory);  // [slice][row][gate][unit]
  constexpr int kPart = kNarrowRows * kNumGates * kStepUnits;
  A* z = parts + kNarrowSlices * kPart;  // [row][gate][unit]
  const int own = thread_index() % kStepUnits, slice = thread_index() / kStepUnits;
  const int64_t hidden = call.hidden_size, depth = size_of_h(call);
  const int64_t unit = int64_t{block_index()} * kStepUnits + own;
  const int64_t first_row = int64_t{block_index_y()} * kNarrowRows;
  const S* h = call.hidden + step * call.batch_size * depth;
  A sums[kNarrowRows][kNumGates] = {};
  if (unit < hidden) {
#pragma unroll 4
    for (int64_t k = slice; k < depth; k += kNarrowSlices) {
      const S* w = call.w_hh + k * kNumGates * hidden + unit;
#pragma unroll
      for (int row = 0; row < kNarrowRows; ++row) {
        const bool exists = first_row + row < call.batch_size;
        const A value = exists ? widen(h[(first_row + row) * depth + k]) : A(0);
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
template <class Call, int kRows>
LSTM_EXT_KERNEL(4 * kRows)
step_forward_wide(const Call call, const int64_t step) {
  using S = typename Call::Stored;
  using A = typename Call::A;
  LSTM_EXT_SHARED_MEMORY(memory);
  constexpr int kThreads = 4 * kRows, kColumns = kNumGates * kStepUnits;
  constexpr int kRowStride = kRows + 4;  // threads that store eight k of a row use other banks
  auto* h_tile = reinterpret_cast<A*>(memory);   // [k][row]
  A* w_tile = h_tile + kWideDepth * kRowStride;  // [k][unit][gate]
  const int64_t hidden = call.hidden_size, depth = size_of_h(call), batch = call.batch_size;
  const int64_t first_unit = int64_t{block_index()} * kStepUnits;
  const int64_t first_row = int64_t{block_index_y()} * kRows;
  const S* h = call.hidden + step * batch * depth;
  const int own = thread_index() % kStepUnits, rows = thread_index() / kStepUnits * 4;
  // Of h eight k of a row stand together, of w_hh the units of a gate.
  const auto k_of = [](int at) { return at / (8 * kRows) * 8 + at % 8; };
  const auto row_of = [](int at) { return at / 8 % kRows; };
  Ahead<A, kWideDepth * kRows, kThreads> next_h;
  Ahead<A, kWideDepth * kColumns, kThreads> next_w;
  const auto fetch = [&](int64_t k0) {
    next_h.fetch([&](int at) {
      const int64_t row = first_row + row_of(at), k = k0 + k_of(at);
      return row < batch && k < depth ? widen(h[row * depth + k]) : A(0);
    });
    next_w.fetch([&](int at) {
      const int64_t unit = first_unit + at % kStepUnits, k = k0 + at / kColumns;
      const int64_t row = k * kNumGates + at / kStepUnits % kNumGates;
      return k < depth && unit < hidden ? widen(call.w_hh[row * hidden + unit]) : A(0);
    });
  };
  A sums[4][kNumGates] = {};
  fetch(0);
  for (int64_t k0 = 0; k0 < depth; k0 += kWideDepth) {
    next_h.store(h_tile, [&](int at) { return k_of(at) * kRowStride + row_of(at); });
    next_w.store(w_tile, [](int at) {
      const int unit = at / kColumns * kStepUnits + at % kStepUnits;
      return unit * kNumGates + at / kStepUnits % kNumGates;
    });
    sync_block();
    if (k0 + kWideDepth < depth) fetch(k0 + kWideDepth);
#pragma unroll 16
    for (int k = 0; k < kWideDepth; ++k) {
      const auto x = *reinterpret_cast<const Four<A>*>(h_tile + k * kRowStride + rows);
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

// A warp: 16 rows by 8 units, as a fragment of 8 columns for each gate, so that a thread has all
// gates of its units. Columns are ordered by gate.
template <class Call>
LSTM_EXT_KERNEL(kMatrixThreads)
step_forward_matrix(const Call call, const int64_t step) {
  LSTM_EXT_SHARED_MEMORY(memory);
  constexpr int kColumns = kNumGates * kStepUnits;
  auto* h_tile = reinterpret_cast<uint16_t*>(memory);       // [row][k]
  uint16_t* w_tile = h_tile + kMatrixRows * kMatrixStride;  // [column][k]
  const int64_t hidden = call.hidden_size, batch = call.batch_size;
  const int64_t first_unit = int64_t{block_index()} * kStepUnits;
  const int64_t first_row = int64_t{block_index_y()} * kMatrixRows;
  const BFloat16* h = call.hidden + step * batch * hidden;
  const int lane = thread_index() % kWarp, warp = thread_index() / kWarp;
  const int warp_row = warp % 4 * 16, warp_unit = warp / 4 * 8;
  Ahead<uint16_t, kMatrixRows * kMatrixDepth, kMatrixThreads> next_h;
  Ahead<uint16_t, kColumns * kMatrixDepth, kMatrixThreads> next_w;
  const auto fetch = [&](int64_t k0) {
    next_h.fetch([&](int at) {
      const int64_t row = first_row + at / kMatrixDepth, k = k0 + at % kMatrixDepth;
      return row < batch && k < hidden ? h[row * hidden + k].bits : uint16_t{0};
    });
    next_w.fetch([&](int at) {
      const int64_t unit = first_unit + at % kStepUnits, k = k0 + at / kColumns;
      const int64_t row = k * kNumGates + at / kStepUnits % kNumGates;
      return unit < hidden && k < hidden ? call.w_hh[row * hidden + unit].bits : uint16_t{0};
    });
  };
  float sums[kNumGates][4] = {};
  fetch(0);
  for (int64_t k0 = 0; k0 < hidden; k0 += kMatrixDepth) {
    next_h.store(h_tile,
                 [](int at) { return at / kMatrixDepth * kMatrixStride + at % kMatrixDepth; });
    next_w.store(w_tile, [](int at) { return at % kColumns * kMatrixStride + at / kColumns; });
    sync_block();
    if (k0 + kMatrixDepth < hidden) fetch(k0 + kMatrixDepth);
#pragma unroll
    for (int k = 0; k < kMatrixDepth; k += 16) {
      const auto* x = reinterpret_cast<const uint32_t*>(
          h_tile + (warp_row + lane / 4) * kMatrixStride + k + lane % 4 * 2);
      constexpr int kEightRows = 8 * kMatrixStride / 2;
      const uint32_t a[] = {x[0], x[kEightRows], x[4], x[kEightRows + 4]};
#pragma unroll
      for (int gate = 0; gate < kNumGates; ++gate) {
        const int column = gate * kStepUnits + warp_unit + lane / 4;
        const auto* w =
            reinterpret_cast<const uint32_t*>(w_tile + column * kMatrixStride + k + lane % 4 * 2);
        multiply_fragments(sums[gate], a, w[0], w[4]);
      }
    }
    sync_block();
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float all[] = {sums[0][j], sums[1][j], sums[2][j], sums[3][j]};
    finish_forward(call, step, first_row + warp_row + lane / 4 + j / 2 * 8,
                   first_unit + warp_unit + lane % 4 * 2 + j % 2, all);
  }
}

}  // namespace cuda
}  // namespace lstm_ext
