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

namespace lstm_ext {
namespace cuda {

constexpr int kStepUnits = 16;  // of a block
constexpr int kNarrowRows = 4;
constexpr int kNarrowSlices = 16;
constexpr int kNarrowThreads = kStepUnits * kNarrowSlices;
constexpr int kWideDepth = 8;
constexpr int kWideWarps = 8;
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

// Gates, cell and h of one unit in one row, from its sums over k.
template <class S>
LSTM_EXT_DEVICE void finish_forward(const Forward<S>& call, int64_t step, int64_t row, int64_t unit,
                                    const Computing<S> (&sums)[kNumGates]) {
  using A = Computing<S>;
  if (row >= call.batch_size || unit >= call.hidden_size) return;
  const int64_t hidden = call.hidden_size, state = row * hidden + unit;
  const int64_t at = (step * call.batch_size + row) * hidden;
  const A* projected =
      call.projected + step * call.projected_time_stride + row * call.projected_batch_stride + unit;
  A z[kNumGates];
  for (int gate = 0; gate < kNumGates; ++gate) {
    z[gate] = projected[gate * hidden] + read_or_zero(call.bias, gate * hidden + unit) + sums[gate];
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
#pragma unroll 4
    for (int64_t k = slice; k < hidden; k += kNarrowSlices) {
      const S* w = call.w_hh + k * kNumGates * hidden + unit;
#pragma unroll
      for (int row = 0; row < kNarrowRows; ++row) {
        const bool exists = first_row + row < call.batch_size;
        const A value = exists ? widen(h[(first_row + row) * hidden + k]) : A(0);
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

// What the wide kernels do with a warp: it has the whole tile for every kWarps-th stage of k, in
// shared memory of its own, so that warps never wait for each other until all parts are added, in
// the order of the warps.
template <class A>
struct WideTile {
  static constexpr int kThreadRows = sizeof(A) == 8 ? 4 : 8;
  static constexpr int kRows = 4 * kThreadRows;
  static constexpr int kRowStride = kRows + 4;  // lanes that store eight k of a row: other banks
  static constexpr int kColumns = kNumGates * kStepUnits;
  static constexpr int kWords = kWideDepth * (kRowStride + kColumns);
  static constexpr int kParts = kRows * kColumns;
  static constexpr size_t kSharedBytes =
      kWideWarps * (kWords > kParts ? kWords : kParts) * sizeof(A);
};

// What a lane has of h·w_hh: kThreadRows rows, in fours, of all gates of the units `lane % 8` and
// 8 further.
template <class S>
class WideForward {
 public:
  using A = Computing<S>;
  using Tile = WideTile<A>;

  LSTM_EXT_DEVICE WideForward(const Forward<S>& call, int64_t step, A* memory)
      : call_(call),
        h_(call.hidden + step * call.batch_size * call.hidden_size),
        lane_(thread_index() % kWarp),
        first_unit_(int64_t{block_index()} * kStepUnits),
        first_row_(int64_t{block_index_y()} * Tile::kRows),
        h_tile_(memory + thread_index() / kWarp * Tile::kWords),
        w_tile_(h_tile_ + kWideDepth * Tile::kRowStride) {}

  LSTM_EXT_DEVICE void run() {
    const int64_t first = int64_t{kWideDepth} * (thread_index() / kWarp);
    fetch(first);
    for (int64_t k0 = first; k0 < call_.hidden_size; k0 += kWideDepth * kWideWarps) {
      store();
      sync_warp();
      fetch(k0 + kWideDepth * kWideWarps);
      multiply();
      sync_warp();
    }
  }

  // [row][unit][gate] of this warp.
  LSTM_EXT_DEVICE void write(A* parts) const {
#pragma unroll
    for (int r = 0; r < Tile::kThreadRows; ++r) {
#pragma unroll
      for (int u = 0; u < 2; ++u) {
        const int at = (row_of(r) * kStepUnits + lane_ % 8 + 8 * u) * kNumGates;
#pragma unroll
        for (int gate = 0; gate < kNumGates; ++gate) parts[at + gate] = sums_[r][u].v[gate];
      }
    }
  }

 private:
  static constexpr int kH = Tile::kRows * kWideDepth / kWarp;  // values that a lane brings
  static constexpr int kW = Tile::kColumns * kWideDepth / kWarp;

  LSTM_EXT_DEVICE int row_of(int r) const { return r / 4 * 16 + lane_ / 8 * 4 + r % 4; }

  // Of h eight k of four rows at a time, of w_hh 16 units of two gates.
  LSTM_EXT_DEVICE void fetch(int64_t k0) {
    const int64_t hidden = call_.hidden_size, k = k0 + lane_ % 8;
#pragma unroll
    for (int i = 0; i < kH; ++i) {
      const int64_t row = first_row_ + 4 * i + lane_ / 8;
      next_h_[i] = row < call_.batch_size && k < hidden ? widen(h_[row * hidden + k]) : A(0);
    }
    const int64_t unit = first_unit_ + lane_ % 16;
    const S* w = call_.w_hh + (k0 * kNumGates + lane_ / 16) * hidden + unit;
#pragma unroll
    for (int i = 0; i < kW; ++i) {
      const bool exists = unit < hidden && k0 + i / 2 < hidden;
      next_w_[i] = exists ? widen(w[2 * i * hidden]) : A(0);
    }
  }

  LSTM_EXT_DEVICE void store() {
#pragma unroll
    for (int i = 0; i < kH; ++i) {
      h_tile_[lane_ % 8 * Tile::kRowStride + 4 * i + lane_ / 8] = next_h_[i];
    }
#pragma unroll
    for (int i = 0; i < kW; ++i) {
      const int gate = i % 2 * 2 + lane_ / 16;
      w_tile_[i / 2 * Tile::kColumns + lane_ % 16 * kNumGates + gate] = next_w_[i];
    }
  }

  LSTM_EXT_DEVICE void multiply() {
#pragma unroll
    for (int k = 0; k < kWideDepth; ++k) {
      const auto* w = reinterpret_cast<const Four<A>*>(w_tile_ + k * Tile::kColumns);
      const Four<A> weights[] = {w[lane_ % 8], w[lane_ % 8 + 8]};
#pragma unroll
      for (int r = 0; r < Tile::kThreadRows; r += 4) {
        const auto x =
            *reinterpret_cast<const Four<A>*>(h_tile_ + k * Tile::kRowStride + row_of(r));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int u = 0; u < 2; ++u) {
#pragma unroll
            for (int gate = 0; gate < kNumGates; ++gate) {
              A& sum = sums_[r + i][u].v[gate];
              sum = fused(x.v[i], weights[u].v[gate], sum);
            }
          }
        }
      }
    }
  }

  const Forward<S>& call_;
  const S* h_;
  int lane_;
  int64_t first_unit_, first_row_;
  A* h_tile_;  // [k][row]
  A* w_tile_;  // [k][unit][gate]
  A next_h_[kH], next_w_[kW];
  Four<A> sums_[Tile::kThreadRows][2] = {};
};

template <class S>
LSTM_EXT_KERNEL(kWideWarps* kWarp)
step_forward_wide(const Forward<S> call, const int64_t step) {
  using A = Computing<S>;
  using Tile = WideTile<A>;
  LSTM_EXT_SHARED_MEMORY(memory);
  auto* words = reinterpret_cast<A*>(memory);
  WideForward<S> product(call, step, words);
  product.run();
  sync_block();
  product.write(words + thread_index() / kWarp * Tile::kParts);
  sync_block();
  for (int i = thread_index(); i < Tile::kRows * kStepUnits; i += thread_count()) {
    A sums[kNumGates] = {};
    for (int warp = 0; warp < kWideWarps; ++warp) {
      const A* part = words + warp * Tile::kParts + i * kNumGates;
      for (int gate = 0; gate < kNumGates; ++gate) sums[gate] += part[gate];
    }
    finish_forward(call, step, int64_t{block_index_y()} * Tile::kRows + i / kStepUnits,
                   int64_t{block_index()} * kStepUnits + i % kStepUnits, sums);
  }
}

// A warp: 16 rows by 8 units, as a fragment of 8 columns for each gate, so that a thread has all
// gates of its units. Columns are ordered by gate.
LSTM_EXT_KERNEL(kMatrixThreads)
step_forward_matrix(const Forward<BFloat16> call, const int64_t step) {
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
