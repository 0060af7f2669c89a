// How a forward pass is cut up, and the memory that it takes. Included by forward.cpp and what it
// is made of.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/buffer.hpp"
#include "cpu/encoded.hpp"
#include "cpu/layer_norm.hpp"
#include "cpu/packed_weights.hpp"
#include "cpu/partition.hpp"
#include "cpu/schedule.hpp"
#include "cpu/step_pieces.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {

// What all threads of a call share.
//
// The input's part of z is computed in one of two ways, with the same bits. Fused: each step
// multiplies x_t and h_{t-1} in one tile; right when a step has rows enough to reuse the weights.
// Chunked: one product makes the input's part for as many steps as stay in the cache, so that few
// rows do not read the input weights anew in every step.
template <class F>
struct ForwardPlan {
  using T = typename Format<F>::Value;
  static constexpr bool kEncodes = Format<F>::kEncodes;
  static constexpr int64_t kWeightBytes = sizeof(typename Format<F>::Weight);

  const PackedWeights<F>& weights;
  const LstmForward<T>& call;
  const Schedule schedule;
  ThreadGrid grid;
  int64_t max_rows;     // of a row group
  int64_t max_blocks;   // of a unit share
  int64_t chunk;        // steps whose input is projected at once; 0: fused
  bool packs_x;         // rows of x are gathered (or encoded) before they are multiplied
  bool starts_from_x;   // the first step leaves out the product of its h, which is zero
  bool projects;        // h is a product of what the cells make
  bool finishes_h;      // h passes through more than the cells: see ForwardWorker::finish
  bool keeps_h;         // h itself is kept beside what is multiplied next
  int64_t piece;        // blocks that threads who share units take at once; 0: each has its own
  int helpers;          // threads that may take pieces of the only step, its caller among them
  int64_t cell_stride;  // of rows of c, and of what the cells make
  int64_t h_stride;     // of rows of h

  // most_steps limits chunks: for those who wait for the output of a part of the steps.
  // has_team: whether the threads are a team of this call's own, from which it may have helpers.
  ForwardPlan(const PackedWeights<F>& w, const LstmForward<T>& c, int threads, int64_t most_steps,
              bool has_team)
      : weights(w), call(c), schedule(c.shape, c.slots, c.go_backwards) {
    const LstmShape& s = c.shape;
    projects = w.projection_size() > 0;
    keeps_h = c.noise.h != nullptr || c.noise.zoneout != nullptr || w.cell().zoneout > 0;
    finishes_h = projects || keeps_h || !schedule.is_regular();
    // Where only the cells touch the state, it does not matter which thread makes them.
    const bool only_cells =
        !finishes_h && !schedule.resets() && !w.has_norm() && !c.noise.cell_zoneout;
    const bool takes_pieces = only_cells && is_long_step();
    grid = thread_grid(threads, s.batch_size, w.num_blocks(), s.hidden_size, kWeightBytes,
                       w.kernels().rows_at_once, takes_pieces);
    if (w.has_norm()) grid = {static_cast<int>(std::min<int64_t>(threads, s.batch_size)), 1};
    const bool may_wake_late = has_team && only_cells && grid.row_groups == 1 && is_short_call();
    helpers = may_wake_late ? grid.unit_groups : 1;
    if (helpers > 1) grid = {1, 1};
    max_rows = divide_up(s.batch_size, grid.row_groups);
    max_blocks = divide_up(w.num_blocks(), grid.unit_groups);
    chunk = std::min(chunk_steps(), most_steps);
    if (w.has_norm()) chunk = std::max<int64_t>(chunk, 1);
    starts_from_x = chunk == 0 && c.h0 == nullptr && w.w_hh_is_finite();
    if (!w.has_w_hh() && (s.seq_len > 1 || !starts_from_x)) refuse_more_than_a_step();
    packs_x = kEncodes || c.x.feature_stride != 1 || (chunk > 0 && max_rows > 1) ||
              !schedule.is_regular();
    const bool shares_units =
        takes_pieces && grid.unit_groups > 1 && w.num_blocks() >= kPiecesEach * grid.unit_groups;
    piece = shares_units || helpers > 1 ? blocks_in_a_piece(max_rows) : 0;
    cell_stride = padded(w.padded_units());
    h_stride = projects ? padded(round_up(w.projection_size(), w.kernels().lanes)) : cell_stride;
  }

  int64_t z_row_size() const { return weights.num_blocks() * kNumGates * weights.kernels().lanes; }
  int64_t num_pieces() const { return piece > 0 ? divide_up(weights.num_blocks(), piece) : 0; }
  int64_t cell_size() const { return call.shape.batch_size * cell_stride; }
  int64_t h_size() const { return call.shape.batch_size * h_stride; }
  int64_t totals_size() const {
    return std::max<int64_t>(max_rows, 2) * kNumGates * weights.kernels().lanes;
  }
  int64_t z_size() const { return chunk * max_rows * z_row_size(); }
  int64_t x_rows() const { return std::max<int64_t>(1, chunk) * max_rows; }
  // Gathered x; of a format that encodes, a row on its way there.
  int64_t x_size() const { return packs_x ? (kEncodes ? 1 : x_rows()) * call.shape.input_size : 0; }
  // h·w_hh of all rows, and what a row takes on its way.
  int64_t norm_size() const {
    if (!weights.has_norm()) return 0;
    return max_rows * z_row_size() + NormCell<T, F>::scratch_size(call.shape.hidden_size) +
           kNumGates * call.shape.hidden_size;
  }
  int64_t wide_size() const {
    if constexpr (kEncodes) {
      const SmallLayout& layout = weights.kernels();
      const int64_t k = std::max(call.shape.input_size, call.shape.output_size());
      return layout.widens_once && max_rows > 1 ? cpu::wide_size(layout, k) : 0;
    }
    return 0;
  }
  EncodedRows<F> encoded_x() const { return {weights.kernels(), x_rows(), call.shape.input_size}; }
  EncodedRows<F> encoded_h() const {
    return {weights.kernels(), max_rows, call.shape.output_size()};
  }
  int64_t bytes() const {
    const auto bytes_for = [](int64_t size) { return Scratch::bytes_for<T>(size); };
    return 2 * bytes_for(h_size()) + bytes_for(cell_size()) + (keeps_h ? bytes_for(h_size()) : 0) +
           (projects ? bytes_for(cell_size()) : 0) +
           (call.noise.cell_zoneout ? bytes_for(cell_size()) : 0) +
           grid.row_groups * bytes_for(z_size()) +
           grid.size() *
               (bytes_for(helpers * totals_size()) + bytes_for(x_size()) + bytes_for(norm_size()) +
                Scratch::bytes_for<float>(helpers * wide_size()) + encoded_x().bytes() +
                encoded_h().bytes());
  }

 private:
  // Of one step and over so soon that a thread may wake too late for it.
  bool is_short_call() const {
    return call.shape.seq_len == 1 && multiply_adds(call.shape) < kShortWork;
  }

  // A power-of-two distance would put all rows of h into the same sets of the cache.
  int64_t padded(int64_t size) const {
    return size + (call.shape.batch_size > 1 ? int64_t{kCacheLine / sizeof(T)} : 0);
  }

  // In short steps taking pieces costs more than waiting for others does.
  bool is_long_step() const {
    constexpr int64_t kLongStep = 3 << 20;  // multiply-adds
    const LstmShape& s = call.shape;
    return s.batch_size * (s.input_size + s.hidden_size) * kNumGates * s.hidden_size >=
           kLongStep * weights.kernels().rows_at_once;
  }

  int64_t chunk_steps() const {
    const int64_t rows_that_reuse_weights = 12 * int64_t{weights.kernels().rows_at_once};
    constexpr int64_t kChunkBytes = 256 << 10;
    constexpr int64_t kSharedCache = 16 << 20, kLargeChunk = 4;
    const LstmShape& s = call.shape;
    if (s.seq_len <= 1) return 0;
    const int64_t input_bytes = s.input_size * kNumGates * s.hidden_size * kWeightBytes;
    if (max_rows < rows_that_reuse_weights) {
      const int64_t columns = max_blocks * kNumGates * weights.kernels().lanes;
      const int64_t step_bytes = max_rows * columns * int64_t{sizeof(T)};
      return std::min(s.seq_len, std::max<int64_t>(1, kChunkBytes / step_bytes));
    }
    // Weights that come from memory: read them once for several steps.
    return input_bytes > kSharedCache ? std::min(s.seq_len, kLargeChunk) : 0;
  }
};

// What a thread writes for itself alone, and the projected input of its row group.
template <class F>
struct WorkerMemory {
  using T = typename Format<F>::Value;

  WorkerMemory(const ForwardPlan<F>& plan, Scratch& scratch, T* group_z)
      : totals(scratch.take<T>(plan.helpers * plan.totals_size())),
        z(group_z),
        x(scratch.take<T>(plan.x_size())),
        norm(scratch.take<T>(plan.norm_size())),
        wide(plan.wide_size() > 0 ? scratch.take<float>(plan.helpers * plan.wide_size()) : nullptr),
        encoded_x(plan.encoded_x()),
        encoded_h(plan.encoded_h()) {
    encoded_x.place(scratch.take<unsigned char>(encoded_x.bytes()));
    encoded_h.place(scratch.take<unsigned char>(encoded_h.bytes()));
  }

  T* totals;  // of each helper, as `wide`
  T* z;
  T* x;
  T* norm;
  float* wide;
  EncodedRows<F> encoded_x, encoded_h;
};

// The state of all rows, by their place in their row group.
template <class T>
struct SharedState {
  template <class F>
  SharedState(const ForwardPlan<F>& plan, Scratch& scratch) {
    h[0] = scratch.take<T>(plan.h_size());
    h[1] = scratch.take<T>(plan.h_size());
    c = scratch.take<T>(plan.cell_size());
    if (plan.keeps_h) kept_h = scratch.take<T>(plan.h_size());
    if (plan.projects) made = scratch.take<T>(plan.cell_size());
    if (plan.call.noise.cell_zoneout) keep = scratch.take<T>(plan.cell_size());
  }

  T* h[2];              // (B, h_stride) each, as the next step multiplies it: they take turns
  T* c;                 // (B, cell_stride)
  T* kept_h = nullptr;  // (B, h_stride): h itself, where that is another
  T* made = nullptr;    // (B, cell_stride): what the cells make, with a projection
  T* keep = nullptr;    // (B, cell_stride): 1 where c keeps its value in this step, else 0
};

}  // namespace cpu
}  // namespace lstm_ext
