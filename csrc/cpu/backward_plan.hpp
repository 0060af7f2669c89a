// How a backward pass is cut up, and the memory that it takes. Included by backward.cpp and what it
// is made of.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/buffer.hpp"
#include "cpu/gemm.hpp"
#include "cpu/layer_norm.hpp"
#include "cpu/packed_weights.hpp"
#include "cpu/partition.hpp"
#include "cpu/schedule.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {

// What all threads of a call share.
template <class T>
struct BackwardPlan {
  // Of the N rows, on their way into the weights' gradients. It divides kDepthBlock.
  static constexpr int64_t kRowsAtOnce = 16;

  const PackedWeights<T>& weights;
  const LstmBackward<T>& call;
  const Schedule schedule;
  int threads;                      // of the products after the time loop
  ThreadGrid grid;                  // of the time loop
  bool projects, keeps_h;           // as ForwardPlan's
  bool finishes_h;                  // the gradient of h passes through more than the cells
  int64_t state_stride;             // of rows of d_c, and of gradients of what the cells make
  int64_t h_stride;                 // of rows of d_h
  int64_t x_stride, h_prev_stride;  // of the rows gathered for the weights' gradients
  int64_t panel_width;              // of d_gates as the right-hand side
  int64_t unit_width;               // units are shared out by so many
  int64_t column_width;             // and columns of h

  BackwardPlan(const BackwardTask<T>& task, int loop_threads, int product_threads)
      : weights(*task.weights),
        call(task.call),
        schedule(call.shape, call.slots, call.go_backwards),
        threads(product_threads) {
    const LstmShape& s = call.shape;
    constexpr int64_t kLine = kCacheLine / sizeof(T);
    const auto padded = [](int64_t n) { return round_up(n, kLine) + kLine; };
    const auto width_for = [&](int64_t n) { return panel_width_for(weights.kernels(), n); };
    projects = s.projection_size > 0;
    keeps_h = call.noise.h || call.noise.zoneout || weights.cell().zoneout > 0;
    finishes_h = projects || keeps_h || !schedule.is_regular();
    column_width = width_for(s.output_size());
    unit_width = projects ? width_for(s.hidden_size) : column_width;
    grid = thread_grid(loop_threads, s.batch_size, divide_up(s.hidden_size, unit_width),
                       s.hidden_size, sizeof(T), weights.kernels().rows_at_once);
    if (weights.has_norm()) {
      grid = {static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(loop_threads, s.batch_size))),
              1};
    }
    state_stride = padded(s.hidden_size);
    h_stride = padded(s.output_size());
    x_stride = padded(s.input_size);
    h_prev_stride = padded(s.output_size());
    panel_width = width_for(gate_columns());
  }

  // One step without a state before it needs no gradient of h, nor w_hhᵀ, which is costly to make.
  static bool recurs(const LstmBackward<T>& call) {
    return call.shape.seq_len > 1 || call.d_h0 != nullptr;
  }

  int64_t gate_columns() const { return kNumGates * call.shape.hidden_size; }
  int64_t batch_size() const { return call.shape.batch_size; }
  int64_t state_size() const { return batch_size() * state_stride; }
  int64_t h_size() const { return batch_size() * h_stride; }
  int64_t rows_size() const { return kRowsAtOnce * std::max(x_stride, h_prev_stride); }
  int64_t gathered_size() const { return Format<T>::kDepthBlock * (x_stride + h_prev_stride); }
  int64_t panel_size() const { return Format<T>::kDepthBlock * panel_width; }
  // Partial sums of the gradients of peepholes, or of gains and offset.
  int64_t sums_size() const {
    return (weights.has_norm() ? 10 : call.d_peephole ? 3 : 0) * call.shape.hidden_size;
  }
  int64_t projected_size() const {
    return projects ? schedule.size() * call.shape.output_size() : 0;
  }
  // Rows of gradients that layer normalisation makes of those of z.
  int64_t normed_row() const {
    return weights.has_norm() ? NormedGradientRow<T>::size(call.shape.hidden_size) : 0;
  }
  int64_t norm_scratch() const {
    return weights.has_norm()
               ? NormCell<T, T>::scratch_size(call.shape.hidden_size) + call.shape.hidden_size
               : 0;
  }
  bool orders_c0() const { return call.c0 && !schedule.is_regular(); }

  int64_t bytes() const { return loop_bytes() + threads * product_bytes(); }

  int64_t input_time(int64_t slot) const {
    return call.go_backwards ? call.shape.seq_len - 1 - slot : slot;
  }

 private:
  int64_t loop_bytes() const {
    const auto bytes_for = [](int64_t size) { return Scratch::bytes_for<T>(size); };
    return (1 + projects + (call.noise.cell_zoneout != nullptr)) * bytes_for(state_size()) +
           (1 + keeps_h) * bytes_for(h_size()) +
           (orders_c0() ? bytes_for(batch_size() * call.shape.hidden_size) : 0) +
           bytes_for(projected_size()) + bytes_for(schedule.size() * normed_row()) +
           grid.size() * bytes_for(norm_scratch());
  }
  int64_t product_bytes() const {
    const auto bytes_for = [](int64_t size) { return Scratch::bytes_for<T>(size); };
    return bytes_for(rows_size()) + bytes_for(gathered_size()) + bytes_for(panel_size()) +
           bytes_for(sums_size());
  }
};

// The gradients of the products with w_ih and w_hh, (N, 4H), rows row_stride apart: those of z, but
// with layer normalisation.
template <class T>
struct GateGradients {
  const T *ih, *hh;
  int64_t row_stride;
};

template <class T>
GateGradients<T> gate_gradients(const BackwardPlan<T>& plan, T* d_normed) {
  if (!plan.weights.has_norm()) {
    return {plan.call.d_gates, plan.call.d_gates, plan.gate_columns()};
  }
  const NormedGradientRow<T> first(d_normed, plan.call.shape.hidden_size);
  return {first.d_zx, first.d_zh, plan.normed_row()};
}

// What the time loop's threads write: rows as in the forward pass's state.
template <class T>
struct BackwardState {
  BackwardState(const BackwardPlan<T>& plan, Scratch& scratch) {
    d_h = scratch.take<T>(plan.h_size());
    d_c = scratch.take<T>(plan.state_size());
    if (plan.keeps_h) d_kept_h = scratch.take<T>(plan.h_size());
    if (plan.projects) d_made = scratch.take<T>(plan.state_size());
    if (plan.call.noise.cell_zoneout) keep = scratch.take<T>(plan.state_size());
    if (plan.orders_c0()) c0 = scratch.take<T>(plan.batch_size() * plan.call.shape.hidden_size);
    if (plan.projects) d_projected = scratch.take<T>(plan.projected_size());
    d_normed = scratch.take<T>(plan.schedule.size() * plan.normed_row());
    for (int member = 0; member < plan.grid.size(); ++member) {
      T* const space = scratch.take<T>(plan.norm_scratch());
      if (member == 0) norm = space;
    }
  }

  T* d_h;                    // (B, h_stride)
  T* d_c;                    // (B, state_stride)
  T* d_kept_h = nullptr;     // (B, h_stride): what reaches h_{t-1} past the cells
  T* d_made = nullptr;       // (B, state_stride): of what the cells made, with a projection
  T* keep = nullptr;         // (B, state_stride): as SharedState's
  T* c0 = nullptr;           // (B, H) by position, where that is another order than the rows'
  T* d_projected = nullptr;  // (N, P): of the projection's results
  T* d_normed = nullptr;     // (N, normed_row), with layer normalisation
  T* norm = nullptr;         // scratch of the loop's first thread; the others' follow
};

}  // namespace cpu
}  // namespace lstm_ext
