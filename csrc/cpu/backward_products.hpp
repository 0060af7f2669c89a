// What follows a backward pass's time loop: products over all steps. Included by backward.cpp.
//
//   d_w_ih = Σ x_tᵀ·d_z_t   d_w_hh = Σ h_{t-1}ᵀ·d_z_t   d_bias = Σ d_z_t   d_x_t = d_z_t · w_ihᵀ
//   d_w_hr = Σ made_tᵀ·d_projected_t                      with a projection
//   d_p_i = Σ d_z_i c_{t-1}   d_p_f = Σ d_z_f c_{t-1}   d_p_o = Σ d_z_o c_t     of peepholes
//
// The sums over the N rows are cut into blocks of kDepthBlock like every other, whatever the
// threads.
#pragma once

#include <algorithm>

#include "cpu/backward_plan.hpp"

namespace lstm_ext {
namespace cpu {

// What a thread writes in the products for itself alone.
template <class T>
struct ProductMemory {
  ProductMemory(const BackwardPlan<T>& plan, Scratch& scratch)
      : rows(scratch.take<T>(plan.rows_size())),
        gathered(scratch.take<T>(plan.gathered_size())),
        panel(scratch.take<T>(plan.panel_size())),
        sums(scratch.take<T>(plan.sums_size())) {}

  T *rows, *gathered, *panel, *sums;
};

// Walks through the N rows: which step and position each is.
class RowCursor {
 public:
  RowCursor(const Schedule& schedule, int64_t index) : schedule_(schedule) { seek(index); }

  void seek(int64_t index) {
    if (schedule_.is_regular()) {
      const int64_t rows = std::max<int64_t>(1, schedule_.active(0));
      step = index / rows;
      position = index % rows;
      return;
    }
    while (step + 1 < schedule_.num_steps() && schedule_.offset(step + 1) <= index) ++step;
    position = index - schedule_.offset(step);
  }
  void advance() {
    ++position;
    while (step < schedule_.num_steps() && position >= schedule_.active(step)) {
      position = 0;
      ++step;
    }
  }

  int64_t step = 0, position = 0;

 private:
  const Schedule& schedule_;
};

// Sets the columns of some panels of c (rows, columns) to zero.
template <class T>
void zero_columns(T* c, int64_t rows, int64_t columns, int64_t width, const Range& panels) {
  const int64_t begin = panels.begin * width, end = std::min(panels.end * width, columns);
  for (int64_t row = 0; row < rows; ++row) {
    std::fill(c + row * columns + begin, c + row * columns + end, T{0});
  }
}

// x, of a step and a position.
template <class T>
void gather_x(const BackwardPlan<T>& plan, const RowCursor& at, T* to) {
  const LstmBackward<T>& call = plan.call;
  const T* const x = call.x.at(plan.schedule.row(at.position),
                               plan.input_time(plan.schedule.slot(at.step, at.position)));
  for (int64_t j = 0; j < call.shape.input_size; ++j) to[j] = x[j * call.x.feature_stride];
}

// h_{t-1} as it was multiplied, of a step and a position.
template <class T>
void gather_h_prev(const BackwardPlan<T>& plan, const RowCursor& at, T* to) {
  const LstmBackward<T>& call = plan.call;
  const int64_t row = plan.schedule.row(at.position), size = call.shape.output_size();
  if ((at.step == 0 && !call.h0) || plan.schedule.is_reset(at.step, at.position)) {
    std::fill(to, to + size, T{0});
    return;
  }
  const T* const h = at.step > 0 ? call.output.at(row, plan.schedule.slot(at.step - 1, at.position))
                                 : call.h0 + row * size;
  const int64_t stride = at.step > 0 ? call.output.feature_stride : 1;
  for (int64_t j = 0; j < size; ++j) to[j] = h[j * stride];
  if (!call.noise.h) return;
  for (int64_t j = 0; j < size; ++j) to[j] *= call.noise.h[row * size + j];
}

// to (size, depth), rows kDepthBlock apart: the transpose of the rows that follow `at`, each of
// which gather(at, to) writes. A product then reads them along k, from one end to the other. Some
// rows at a time, so that they stay in the cache and the transpose is written in whole lines:
// beyond `depth` with whatever is there.
template <class T, class Gather>
void gather_columns(RowCursor at, int64_t depth, int64_t size, const Gather& gather, T* rows,
                    int64_t row_stride, T* to) {
  constexpr int64_t kRun = BackwardPlan<T>::kRowsAtOnce;
  for (int64_t p0 = 0; p0 < depth; p0 += kRun, to += kRun) {
    const int64_t run = std::min(kRun, depth - p0);
    for (int64_t p = 0; p < run; ++p, at.advance()) gather(at, rows + p * row_stride);
    for (int64_t j = 0; j < size; ++j) {
      T* const column = to + j * Format<T>::kDepthBlock;
      for (int64_t p = 0; p < kRun; ++p) column[p] = rows[p * row_stride + j];
    }
  }
}

// d_w_ih, d_w_hh and d_bias, for the columns of one thread.
template <class T>
void gate_weight_gradients(const BackwardPlan<T>& plan, const GateGradients<T>& d_z, int member,
                           const ProductMemory<T>& memory) {
  const LstmBackward<T>& call = plan.call;
  const LstmShape& shape = call.shape;
  const int64_t columns = plan.gate_columns(), width = plan.panel_width;
  const Range panels = split(divide_up(columns, width), plan.threads, member);
  const int64_t total_depth = plan.schedule.size();
  constexpr int64_t kDepth = Format<T>::kDepthBlock;
  const int64_t size = shape.output_size();
  T* const x_columns = memory.gathered;
  T* const h_columns = memory.gathered + kDepth * shape.input_size;
  const T one = T{1};
  // A single step from no state: its h is zero, and so is the gradient of w_hh.
  const bool h_is_zero = shape.seq_len == 1 && call.h0 == nullptr && !plan.weights.has_norm() &&
                         plan.weights.kernels().all_finite(total_depth * columns, call.d_gates);
  if (h_is_zero) zero_columns(call.d_w_hh, size, columns, width, panels);
  RowCursor at(plan.schedule, 0);
  int64_t k0 = 0;
  do {
    const int64_t depth = std::min(kDepth, total_depth - k0);
    at.seek(k0);
    if (panels.size() > 0) {
      const auto x = [&](const RowCursor& row, T* to) { gather_x(plan, row, to); };
      gather_columns(at, depth, shape.input_size, x, memory.rows, plan.x_stride, x_columns);
    }
    if (panels.size() > 0 && !h_is_zero) {
      const auto h = [&](const RowCursor& row, T* to) { gather_h_prev(plan, row, to); };
      gather_columns(at, depth, size, h, memory.rows, plan.h_prev_stride, h_columns);
    }
    for (int64_t index = panels.begin; index < panels.end; ++index) {
      const int64_t begin = index * width, end = std::min(begin + width, columns);
      const auto pack = [&](const T* from, int64_t row_stride) {
        pack_panels<T>({from + k0 * row_stride, depth, columns, row_stride, 1}, begin, end, width,
                       memory.panel);
      };
      pack(d_z.ih, d_z.row_stride);
      const auto accumulate = [&](int64_t m, const T* a, int64_t row_stride, int64_t column_stride,
                                  T* c) {
        plan.weights.kernels().gemm({m, end - begin, depth, a, row_stride, column_stride,
                                     memory.panel, width, nullptr, c + begin, columns, k0 > 0});
      };
      accumulate(shape.input_size, x_columns, kDepth, 1, call.d_w_ih);
      if (d_z.hh != d_z.ih) pack(d_z.hh, d_z.row_stride);
      if (!h_is_zero) accumulate(size, h_columns, kDepth, 1, call.d_w_hh);
      if (call.d_bias) {
        if (d_z.ih != call.d_gates) pack(call.d_gates, columns);
        accumulate(1, &one, 0, 0, call.d_bias);
      }
    }
    k0 += kDepth;
  } while (k0 < total_depth);
}

template <class T>
void projection_gradient(const BackwardPlan<T>& plan, const T* d_projected, int member,
                         const ProductMemory<T>& memory) {
  const LstmBackward<T>& call = plan.call;
  const int64_t columns = call.shape.output_size(), hidden = call.shape.hidden_size;
  const int64_t width = plan.column_width, total_depth = plan.schedule.size();
  const Range panels = split(divide_up(columns, width), plan.threads, member);
  int64_t k0 = 0;
  do {
    const int64_t depth = std::min(Format<T>::kDepthBlock, total_depth - k0);
    const Matrix<const T> d_h = {d_projected + k0 * columns, depth, columns, columns, 1};
    for (int64_t index = panels.begin; index < panels.end; ++index) {
      const int64_t begin = index * width, end = std::min(begin + width, columns);
      pack_panels(d_h, begin, end, width, memory.panel);
      plan.weights.kernels().gemm({hidden, end - begin, depth, call.hidden + k0 * hidden, 1, hidden,
                                   memory.panel, width, nullptr, call.d_w_hr + begin, columns,
                                   k0 > 0});
    }
    k0 += Format<T>::kDepthBlock;
  } while (k0 < total_depth);
}

// For the units of one thread. c0: by position, or null for zeros.
template <class T>
void peephole_gradient(const BackwardPlan<T>& plan, const T* c0, int member,
                       const ProductMemory<T>& memory) {
  const LstmBackward<T>& call = plan.call;
  const int64_t hidden = call.shape.hidden_size, total_depth = plan.schedule.size();
  const Range units = split(hidden, plan.threads, member);
  const auto each = [&](const auto& function) {
    for (int64_t part = 0; part < 3; ++part) {
      for (int64_t u = units.begin; u < units.end; ++u) function(part * hidden + u);
    }
  };
  each([&](int64_t i) { call.d_peephole[i] = 0; });
  RowCursor at(plan.schedule, 0);
  for (int64_t k0 = 0; k0 < total_depth; k0 += Format<T>::kDepthBlock) {
    T* const sum = memory.sums;
    each([&](int64_t i) { sum[i] = 0; });
    const int64_t end = std::min(k0 + Format<T>::kDepthBlock, total_depth);
    for (int64_t p = k0; p < end; ++p, at.advance()) {
      const T* const d_z = call.d_gates + p * plan.gate_columns();
      const T* const c = call.cells + p * hidden;
      const T* c_prev =
          at.step > 0 ? call.cells + (plan.schedule.offset(at.step - 1) + at.position) * hidden
          : c0        ? c0 + at.position * hidden
                      : nullptr;
      if (plan.schedule.is_reset(at.step, at.position)) c_prev = nullptr;
      for (int64_t u = units.begin; u < units.end; ++u) {
        if (c_prev) {
          sum[u] += d_z[kInput * hidden + u] * c_prev[u];
          sum[hidden + u] += d_z[kForget * hidden + u] * c_prev[u];
        }
        sum[2 * hidden + u] += d_z[kOutput * hidden + u] * c[u];
      }
    }
    each([&](int64_t i) { call.d_peephole[i] += sum[i]; });
  }
}

// Of gains and offset with layer normalisation, for the columns of one thread: sums over the N rows
// of products with what was normalised.
template <class T>
void norm_gradient(const BackwardPlan<T>& plan, T* d_normed, int member,
                   const ProductMemory<T>& memory) {
  const LstmBackward<T>& call = plan.call;
  const int64_t hidden = call.shape.hidden_size, columns = plan.gate_columns();
  const int64_t total_depth = plan.schedule.size();
  const Range gates = split(columns, plan.threads, member);
  const Range units = split(hidden, plan.threads, member);
  T* const sum = memory.sums;
  const auto each = [&](const auto& function) {
    for (int64_t j = gates.begin; j < gates.end; ++j) function(j), function(columns + j);
    for (int64_t u = units.begin; u < units.end; ++u) {
      function(2 * columns + u), function(2 * columns + hidden + u);
    }
  };
  each([&](int64_t i) { call.d_norm[i] = 0; });
  for (int64_t k0 = 0; k0 < total_depth; k0 += Format<T>::kDepthBlock) {
    each([&](int64_t i) { sum[i] = 0; });
    const int64_t end = std::min(k0 + Format<T>::kDepthBlock, total_depth);
    for (int64_t p = k0; p < end; ++p) {
      const NormedRow<T> n(call.normed + p * NormedRow<T>::size(hidden), hidden);
      const NormedGradientRow<T> d(d_normed + p * plan.normed_row(), hidden);
      const T* const d_z = call.d_gates + p * columns;
      for (int64_t j = gates.begin; j < gates.end; ++j) {
        sum[j] += d_z[j] * n.x_hat[j];
        sum[columns + j] += d_z[j] * n.h_hat[j];
      }
      for (int64_t u = units.begin; u < units.end; ++u) {
        sum[2 * columns + u] += d.d_y[u] * d.c_hat[u];
        sum[2 * columns + hidden + u] += d.d_y[u];
      }
    }
    each([&](int64_t i) { call.d_norm[i] += sum[i]; });
  }
}

// d_x, for one thread's part of the N rows: a block of them at a time, so that w_ihᵀ is read once
// for many, and then each to its place.
template <class T>
void input_gradient(const BackwardPlan<T>& plan, const GateGradients<T>& d_z, int member,
                    const ProductMemory<T>& memory) {
  const LstmBackward<T>& call = plan.call;
  const auto w = plan.weights.w_ih_transposed();
  const int64_t columns = plan.gate_columns(), size = call.shape.input_size;
  const Range own = split(plan.schedule.size(), plan.threads, member);
  RowCursor at(plan.schedule, own.begin);
  for (int64_t begin = own.begin; begin < own.end; begin += Format<T>::kDepthBlock) {
    const int64_t rows = std::min(Format<T>::kDepthBlock, own.end - begin);
    plan.weights.kernels().gemm({rows, size, columns, d_z.ih + begin * d_z.row_stride,
                                 d_z.row_stride, 1, w.panels, w.panel_width, nullptr,
                                 memory.gathered, plan.x_stride, false});
    for (int64_t i = 0; i < rows; ++i, at.advance()) {
      const T* const in = memory.gathered + i * plan.x_stride;
      T* const out = call.d_x.at(plan.schedule.row(at.position),
                                 plan.input_time(plan.schedule.slot(at.step, at.position)));
      if (call.adds_to_d_x) {
        for (int64_t j = 0; j < size; ++j) out[j] += in[j];
      } else {
        std::copy(in, in + size, out);
      }
    }
  }
}

}  // namespace cpu
}  // namespace lstm_ext
