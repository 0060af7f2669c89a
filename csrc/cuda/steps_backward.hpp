// Backward, a launch a step: the gradient of h_t is one product of the gradients of z_{t+1} with
// w_hhᵀ, and the thread that has it undoes the cell of step t. Step -1 leaves the gradient of h0.
// The kernels are those of steps_forward.hpp, with tiles of their own.
#pragma once

#include <type_traits>

#include "cuda/steps_forward.hpp"

namespace lstm_ext {
namespace cuda {

constexpr int kBackDepth = 16;
constexpr int kBackUnits = 32;  // of a block of the matrix kernel

// Which part of a step back the end of a product is: all of it, or beside a projection the gradient
// of h, up to that of made·w_hr, or that of the cell.
enum class Part { kWhole, kHidden, kCell };
template <class Call>
constexpr Part kPartOf = Part::kWhole;

// d_h: what the product gave, in kCell the gradient of what the cell made. The gradient of c is
// carried from step to step in d_c0.
template <class Call>
LSTM_EXT_DEVICE void finish_backward(const Call& call, int64_t step, int64_t row, int64_t unit,
                                     typename Call::A d_h) {
  using S = typename Call::Stored;
  using A = typename Call::A;
  if (row >= call.batch_size || unit >= call.hidden_size) return;
  const int64_t hidden = call.hidden_size, state = row * hidden + unit;
  if constexpr (kPartOf<Call> != Part::kCell) {
    const unsigned after = flags_of(call, step + 1, row);
    d_h *= call.h_factors ? call.h_factors[state] : A(1);
    if (after & kMasked) {
      d_h = call.carry[state];
    } else if (carries_h(call) && step + 1 < call.seq_len) {
      d_h += call.carry[state];
    }
    if (after & kReset) d_h = 0;
    if (step < 0) {
      call.d_h0[state] = narrow<S>(d_h);
      return;
    }
  }
  const bool is_last = step == call.seq_len - 1;
  if constexpr (kPartOf<Call> != Part::kCell) {
    if (is_last) d_h = read_or_zero(call.d_h, state);
    d_h += upstream(call, step, row, unit);
  }
  if constexpr (kPartOf<Call> == Part::kHidden) {
    leave_projected(call, step, row, unit, d_h);
  } else {
    const A d_c = is_last ? read_or_zero(call.d_c, state) : call.d_c0[state];
    const unsigned flags = flags_of(call, step, row);
    const int64_t at = (step * call.batch_size + row) * hidden;
    const S* kept = call.gates + kNumGates * at + unit;
    const A values[] = {widen(kept[0]), widen(kept[hidden]), widen(kept[2 * hidden]),
                        widen(kept[3 * hidden])};
    A c_prev =
        step > 0 ? call.cells[at - call.batch_size * hidden + unit] : read_or_zero(call.c0, state);
    if (flags & kReset) c_prev = 0;
    const A d_made = part_gradient(call, step, row, unit, d_h);
    CellGradient<Number<A>> gradient =
        undo_cell(call, step, row, unit, gates_of(values), Number<A>{call.cells[at + unit]},
                  Number<A>{c_prev}, Number<A>{d_made}, Number<A>{d_c});
    if (flags & kMasked) {
      gradient = {{{0}, {0}, {0}, {0}}, {d_c}};
      if constexpr (kPartOf<Call> == Part::kWhole) call.carry[state] = d_h;
    }
    if (flags & kReset) gradient.c_prev.v = 0;
    S* d_z = call.d_gates + kNumGates * at + unit;
    d_z[kInput * hidden] = narrow<S>(gradient.z.input.v);
    d_z[kForget * hidden] = narrow<S>(gradient.z.forget.v);
    d_z[kCandidate * hidden] = narrow<S>(gradient.z.candidate.v);
    d_z[kOutput * hidden] = narrow<S>(gradient.z.output.v);
    call.d_c0[state] = gradient.c_prev.v;
  }
}

// What a product multiplies with the weights: the gradients of z of the step after, (B, 4H), and
// how many columns there are: none after the last step.
template <class Call>
struct Multiplied {
  using S = typename Call::Stored;
  const S* values;
  int64_t columns;
  LSTM_EXT_DEVICE Multiplied(const Call& call, int64_t step)
      : values(call.d_gates + (step + 1) * call.batch_size * kNumGates * call.hidden_size),
        columns(step + 1 < call.seq_len ? kNumGates * call.hidden_size : 0) {}
};
// And the weights, with a row of so many columns for each of hidden_size results.
template <class S>
LSTM_EXT_DEVICE const S* weights_of(const Backward<S>& call) {
  return call.w_hh;
}
template <class S>
LSTM_EXT_DEVICE const S* weights_row(const Backward<S>& call, int64_t unit) {
  return call.w_hh + unit * kNumGates * call.hidden_size;
}

template <class Call>
LSTM_EXT_KERNEL(kNarrowThreads)
step_backward_narrow(const Call call, const int64_t step) {
  using S = typename Call::Stored;
  using A = typename Call::A;
  LSTM_EXT_SHARED_MEMORY(memory);
  auto* parts = reinterpret_cast<A*>(memory);  // [slice][row][unit]
  const int own = thread_index() / kNarrowSlices, slice = thread_index() % kNarrowSlices;
  const int64_t first_unit = int64_t{block_index()} * kStepUnits;
  const int64_t first_row = int64_t{block_index_y()} * kNarrowRows;
  const Multiplied<Call> next(call, step);
  A sums[kNarrowRows] = {};
  if (first_unit + own < call.hidden_size) {
    const S* w = weights_row(call, first_unit + own);
#pragma unroll 4
    for (int64_t j = slice; j < next.columns; j += kNarrowSlices) {
      const A weight = widen(w[j]);
#pragma unroll
      for (int row = 0; row < kNarrowRows; ++row) {
        if (first_row + row >= call.batch_size) continue;
        sums[row] =
            fused(widen(next.values[(first_row + row) * next.columns + j]), weight, sums[row]);
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

// A warp of the wide kernel has the whole tile for every kWarps-th stage of the columns of dz, in
// shared memory of its own, so that warps do not wait for each other until all parts are added, in
// the order of the warps. With more of them the registers would not hold a variant in double, nor a
// projection.
template <class Call>
struct BackTile {
  using A = typename Call::A;
  static constexpr bool kIsLight = std::is_same_v<Call, Backward<typename Call::Stored>> ||
                                   std::is_same_v<Call, VariantBackward<float>>;
  static constexpr int kWarps = kIsLight ? 16 : 8;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kThreadRows = sizeof(A) == 8 ? 2 : 4;
  static constexpr int kRows = 8 * kThreadRows;
  static constexpr int kRowStride = kRows + 4, kUnitStride = kStepUnits + 4;
  static constexpr int kWords = kBackDepth * (kRowStride + kUnitStride);
  static constexpr int kParts = kRows * kStepUnits;
  static constexpr size_t kSharedBytes = kWarps * (kWords > kParts ? kWords : kParts) * sizeof(A);
};

// What a lane has of dz·w_hhᵀ: kThreadRows neighbouring rows of four units.
template <class Call>
class WideBackward {
 public:
  using S = typename Call::Stored;
  using A = typename Call::A;
  using Tile = BackTile<Call>;

  LSTM_EXT_DEVICE WideBackward(const Call& call, int64_t step, A* memory)
      : call_(call),
        next_(call, step),
        lane_(thread_index() % kWarp),
        first_unit_(int64_t{block_index()} * kStepUnits),
        first_row_(int64_t{block_index_y()} * Tile::kRows),
        d_tile_(memory + thread_index() / kWarp * Tile::kWords),
        w_tile_(d_tile_ + kBackDepth * Tile::kRowStride) {}

  LSTM_EXT_DEVICE void run() {
    const int64_t first = int64_t{kBackDepth} * (thread_index() / kWarp);
    fetch(first);
    for (int64_t j0 = first; j0 < next_.columns; j0 += kBackDepth * Tile::kWarps) {
      store();
      sync_warp();
      fetch(j0 + kBackDepth * Tile::kWarps);
      multiply();
      sync_warp();
    }
  }

  // [row][unit] of this warp.
  LSTM_EXT_DEVICE void write(A* parts) const {
#pragma unroll
    for (int r = 0; r < Tile::kThreadRows; ++r) {
#pragma unroll
      for (int u = 0; u < 4; ++u) {
        parts[(row_of(r))*kStepUnits + lane_ % 4 * 4 + u] = sums_[r][u];
      }
    }
  }

 private:
  static constexpr int kD = Tile::kRows * kBackDepth / kWarp;  // values that a lane brings
  static constexpr int kW = kStepUnits * kBackDepth / kWarp;

  LSTM_EXT_DEVICE int row_of(int r) const { return lane_ / 4 * Tile::kThreadRows + r; }

  // Sixteen j of two rows, or of two units, at a time.
  LSTM_EXT_DEVICE void fetch(int64_t j0) {
    const int64_t j = j0 + lane_ % 16;
#pragma unroll
    for (int i = 0; i < kD; ++i) {
      const int64_t row = first_row_ + 2 * i + lane_ / 16;
      const bool exists = row < call_.batch_size && j < next_.columns;
      next_d_[i] = exists ? widen(next_.values[row * next_.columns + j]) : A(0);
    }
#pragma unroll
    for (int i = 0; i < kW; ++i) {
      const int64_t unit = first_unit_ + 2 * i + lane_ / 16;
      const bool exists = unit < call_.hidden_size && j < next_.columns;
      next_w_[i] = exists ? widen(weights_of(call_)[unit * next_.columns + j]) : A(0);
    }
  }

  LSTM_EXT_DEVICE void store() {
    const int j = lane_ % 16;
#pragma unroll
    for (int i = 0; i < kD; ++i) {
      d_tile_[j * Tile::kRowStride + 2 * i + lane_ / 16] = next_d_[i];
    }
#pragma unroll
    for (int i = 0; i < kW; ++i) {
      w_tile_[j * Tile::kUnitStride + 2 * i + lane_ / 16] = next_w_[i];
    }
  }

  LSTM_EXT_DEVICE void multiply() {
#pragma unroll
    for (int j = 0; j < kBackDepth; ++j) {
      const auto w =
          *reinterpret_cast<const Four<A>*>(w_tile_ + j * Tile::kUnitStride + lane_ % 4 * 4);
#pragma unroll
      for (int r = 0; r < Tile::kThreadRows; ++r) {
        const A x = d_tile_[j * Tile::kRowStride + row_of(r)];
#pragma unroll
        for (int u = 0; u < 4; ++u) sums_[r][u] = fused(x, w.v[u], sums_[r][u]);
      }
    }
  }

  const Call& call_;
  const Multiplied<Call> next_;
  int lane_;
  int64_t first_unit_, first_row_;
  A* d_tile_;  // [j][row]
  A* w_tile_;  // [j][unit]
  A next_d_[kD], next_w_[kW];
  A sums_[Tile::kThreadRows][4] = {};
};

template <class Call>
LSTM_EXT_KERNEL(BackTile<Call>::kThreads)
step_backward_wide(const Call call, const int64_t step) {
  using A = typename Call::A;
  using Tile = BackTile<Call>;
  LSTM_EXT_SHARED_MEMORY(memory);
  auto* words = reinterpret_cast<A*>(memory);
  WideBackward<Call> product(call, step, words);
  product.run();
  sync_block();
  product.write(words + thread_index() / kWarp * Tile::kParts);
  sync_block();
  for (int i = thread_index(); i < Tile::kParts; i += thread_count()) {
    A sum = 0;
    for (int warp = 0; warp < Tile::kWarps; ++warp) sum += words[warp * Tile::kParts + i];
    finish_backward(call, step, int64_t{block_index_y()} * Tile::kRows + i / kStepUnits,
                    int64_t{block_index()} * kStepUnits + i % kStepUnits, sum);
  }
}

// A warp: 16 rows by 16 units, as 2 fragments of 8.
template <class Call>
LSTM_EXT_KERNEL(kMatrixThreads)
step_backward_matrix(const Call call, const int64_t step) {
  LSTM_EXT_SHARED_MEMORY(memory);
  constexpr int kTiles = 2;
  auto* d_tile = reinterpret_cast<uint16_t*>(memory);       // [row][j]
  uint16_t* w_tile = d_tile + kMatrixRows * kMatrixStride;  // [unit][j]
  const int64_t first_unit = int64_t{block_index()} * kBackUnits;
  const int64_t first_row = int64_t{block_index_y()} * kMatrixRows;
  const Multiplied<Call> next(call, step);
  const int lane = thread_index() % kWarp, warp = thread_index() / kWarp;
  const int warp_row = warp % 4 * 16, warp_unit = warp / 4 * 8 * kTiles;
  Ahead<uint16_t, (kMatrixRows + kBackUnits) * kMatrixDepth, kMatrixThreads> ahead;
  const auto fetch = [&](int64_t j0) {
    ahead.fetch([&](int at) {
      const int line = at / kMatrixDepth;
      const bool is_weight = line >= kMatrixRows;
      const int64_t from = is_weight ? first_unit + line - kMatrixRows : first_row + line;
      const int64_t end = is_weight ? call.hidden_size : call.batch_size;
      const int64_t j = j0 + at % kMatrixDepth;
      const BFloat16* source = is_weight ? weights_of(call) : next.values;
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
