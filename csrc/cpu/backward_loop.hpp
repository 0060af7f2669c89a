// One thread's part of a backward pass's time loop: back through the steps, leaving the gradients
// of z in d_gates. Included by backward.cpp.
#pragma once

#include <algorithm>

#include "cpu/backward_plan.hpp"
#include "cpu/threads.hpp"

namespace lstm_ext {
namespace cpu {

template <class T>
class TimeLoop {
 public:
  TimeLoop(const BackwardPlan<T>& plan, const BackwardState<T>& state, int member,
           Barrier* row_group)
      : plan_(plan),
        call_(plan.call),
        schedule_(plan.schedule),
        kernels_(plan.weights.kernels()),
        panels_(BackwardPlan<T>::recurs(call_) ? plan.weights.w_hh_transposed().panels : nullptr),
        state_(state),
        rows_(group_rows(plan.schedule, call_.shape.batch_size, plan.grid.row_groups,
                         member / plan.grid.unit_groups)),
        units_(share(call_.shape.hidden_size, plan.unit_width, member)),
        columns_(share(call_.shape.output_size(), plan.column_width, member)),
        variant_(plan.weights.variant(true)),
        norm_scratch_(state.norm + member * (Scratch::bytes_for<T>(plan.norm_scratch()) /
                                             static_cast<int64_t>(sizeof(T)))),
        row_group_(row_group) {}

  void run() {
    read_state();
    for (int64_t s = schedule_.num_steps() - 1; s >= 0; --s) {
      if (plan_.finishes_h) finish(s);
      plan_.weights.has_norm() ? norm_cells(s) : cells(s);
      meet();
      if (s > 0 || call_.d_h0) recur(s);
    }
    if (call_.d_h0) write_state(state_.d_h, plan_.h_stride, columns_, call_.d_h0);
    if (call_.d_c0) write_state(state_.d_c, plan_.state_stride, units_, call_.d_c0);
  }

 private:
  Range share(int64_t n, int64_t width, int member) const {
    const int64_t groups = plan_.grid.unit_groups;
    const Range panels = split(divide_up(n, width), groups, member % groups);
    return {panels.begin * width, std::min(panels.end * width, n)};
  }

  void meet() const {
    if (row_group_) row_group_->wait();
  }

  T* own(T* state, int64_t stride, int64_t index = 0) const {
    return state + (rows_.base + index) * stride;
  }
  int64_t row(int64_t index) const { return schedule_.row(rows_.position(index)); }
  int64_t active_rows(int64_t s) const { return rows_.active(schedule_.active(s)); }
  // The row of an array (B, T, ...) in the order of the slots.
  int64_t slot_row(int64_t s, int64_t index) const {
    return row(index) * call_.shape.seq_len + schedule_.slot(s, rows_.position(index));
  }

  void read_state() const {
    for (int64_t i = 0; i < rows_.count; ++i) {
      const bool lost = schedule_.ends_reset(rows_.position(i));
      const auto read = [&](const T* from, int64_t size, const Range& part, T* to) {
        if (from && !lost) {
          const T* const in = from + row(i) * size;
          std::copy(in + part.begin, in + part.end, to + part.begin);
        } else {
          std::fill(to + part.begin, to + part.end, T{0});
        }
      };
      const int64_t hidden = call_.shape.hidden_size;
      read(call_.d_h, call_.shape.output_size(), columns_, own(state_.d_h, plan_.h_stride, i));
      read(call_.d_c, hidden, units_, own(state_.d_c, plan_.state_stride, i));
      if (state_.c0) {
        const T* const in = call_.c0 + row(i) * hidden;
        std::copy(in + units_.begin, in + units_.end,
                  state_.c0 + rows_.position(i) * hidden + units_.begin);
      }
    }
  }

  void write_state(T* from, int64_t stride, const Range& part, T* to) const {
    const int64_t size = to == call_.d_h0 ? call_.shape.output_size() : call_.shape.hidden_size;
    for (int64_t i = 0; i < rows_.count; ++i) {
      const T* const in = own(from, stride, i);
      std::copy(in + part.begin, in + part.end, to + row(i) * size + part.begin);
    }
  }

  // From the gradient of h to that of what the cells made: the slots that have this output,
  // zoneout, projection.
  void finish(int64_t s) const {
    for (int64_t i = 0; i < active_rows(s); ++i) {
      T* const d_h = own(state_.d_h, plan_.h_stride, i);
      const int64_t position = rows_.position(i), end = schedule_.output_end(s, position);
      for (int64_t slot = schedule_.slot(s, position); call_.d_output && slot < end; ++slot) {
        const T* const d_output = call_.d_output.at(row(i), slot);
        for (int64_t j = columns_.begin; j < columns_.end; ++j) d_h[j] += d_output[j];
      }
      if (plan_.keeps_h) zoneout(s, i, d_h);
      if (plan_.projects) {
        std::copy(d_h + columns_.begin, d_h + columns_.end,
                  state_.d_projected +
                      (schedule_.offset(s) + position) * call_.shape.output_size() +
                      columns_.begin);
      }
    }
    if (!plan_.projects) return;
    meet();
    const auto w_hr = plan_.weights.w_hr_transposed();
    multiply(active_rows(s), own(state_.d_h, plan_.h_stride), plan_.h_stride,
             call_.shape.output_size(), w_hr.panels, w_hr.panel_width, units_,
             own(state_.d_made, plan_.state_stride), plan_.state_stride, s % 2 == 1);
  }

  // Parts the gradient of h_t into that of what was computed, in place, and that of h_{t-1}.
  void zoneout(int64_t s, int64_t index, T* d_h) const {
    T* const kept = own(state_.d_kept_h, plan_.h_stride, index);
    const T share = static_cast<T>(plan_.weights.cell().zoneout);
    const uint8_t* const keeps =
        call_.noise.zoneout ? call_.noise.zoneout + slot_row(s, index) * call_.shape.output_size()
                            : nullptr;
    for (int64_t j = columns_.begin; j < columns_.end; ++j) {
      const T part = !keeps ? share : keeps[j] ? T{1} : T{0};
      kept[j] = part == 0 ? T{0} : part * d_h[j];
      d_h[j] = part == 1 ? T{0} : (T{1} - part) * d_h[j];
    }
  }

  void spread_keep(int64_t s) const {
    for (int64_t i = 0; i < active_rows(s); ++i) {
      const uint8_t* const in = call_.noise.cell_zoneout + slot_row(s, i) * call_.shape.hidden_size;
      T* const out = own(state_.keep, plan_.state_stride, i);
      for (int64_t j = units_.begin; j < units_.end; ++j) out[j] = static_cast<T>(in[j] != 0);
    }
  }

  void cells(int64_t s) const {
    const LstmShape& shape = call_.shape;
    const int64_t kept = schedule_.offset(s) + rows_.first, hidden = shape.hidden_size;
    CellBackwardArgs<T> args{};
    args.rows = active_rows(s);
    args.hidden_size = hidden;
    args.unit_begin = units_.begin;
    args.unit_end = units_.end;
    args.kept_row_step = rows_.stride;
    args.gates = call_.gates + kept * plan_.gate_columns();
    args.cells = call_.cells + kept * hidden;
    const T* const c0 = state_.c0 ? state_.c0 : call_.c0;
    args.c_prev = s > 0 ? call_.cells + (schedule_.offset(s - 1) + rows_.first) * hidden
                  : c0  ? c0 + rows_.first * hidden
                        : nullptr;
    args.reset = schedule_.resets() ? schedule_.reset_flags() + kept : nullptr;
    if (call_.d_output && !plan_.finishes_h) {
      args.d_output = call_.d_output.at(rows_.first, s);
      args.d_output_row_stride = call_.d_output.batch_stride;
    }
    args.d_h =
        plan_.projects ? own(state_.d_made, plan_.state_stride) : own(state_.d_h, plan_.h_stride);
    args.d_c = own(state_.d_c, plan_.state_stride);
    args.d_state_row_stride = plan_.state_stride;
    args.d_gates = call_.d_gates + kept * plan_.gate_columns();
    if (plan_.weights.has_variant() || state_.keep) args.variant = &variant_;
    if (state_.keep) {
      spread_keep(s);
      args.keep = own(state_.keep, plan_.state_stride);
    }
    kernels_.cell_backward(args);
  }

  // The same with layer normalisation.
  void norm_cells(int64_t s) const {
    const int64_t hidden = call_.shape.hidden_size, columns = plan_.gate_columns();
    const NormCell<T, T> cell(plan_.weights);
    T* const d_h = norm_scratch_;
    for (int64_t i = 0; i < active_rows(s); ++i) {
      const int64_t position = rows_.position(i), kept = schedule_.offset(s) + position;
      const T* const h = own(state_.d_h, plan_.h_stride, i);
      std::copy(h, h + hidden, d_h);
      if (call_.d_output && !plan_.finishes_h) {
        const T* const d_output = call_.d_output.at(row(i), s);
        for (int64_t j = 0; j < hidden; ++j) d_h[j] += d_output[j];
      }
      const bool is_reset = schedule_.is_reset(s, position);
      const T* const c0 = call_.c0 ? call_.c0 + row(i) * hidden : nullptr;
      const T* const c_prev =
          s > 0 ? call_.cells + (schedule_.offset(s - 1) + position) * hidden : c0;
      T* const d_c = own(state_.d_c, plan_.state_stride, i);
      cell.backward(call_.gates + kept * columns, call_.cells + kept * hidden,
                    is_reset ? nullptr : c_prev, call_.normed + kept * NormedRow<T>::size(hidden),
                    d_h, d_c, call_.d_gates + kept * columns,
                    {state_.d_normed + kept * plan_.normed_row(), hidden}, d_h + hidden);
      if (is_reset) std::fill(d_c, d_c + hidden, T{0});
    }
  }

  // The gradient of h_{t-1} for own rows and columns: d_z_s · w_hhᵀ, and what went past the cells.
  void recur(int64_t s) const {
    const int64_t kept = schedule_.offset(s) + rows_.first, k = plan_.gate_columns();
    T* const d_h = own(state_.d_h, plan_.h_stride);
    const auto d_z = gate_gradients(plan_, state_.d_normed);
    multiply(active_rows(s), d_z.hh + kept * d_z.row_stride, rows_.stride * d_z.row_stride, k,
             panels_, plan_.column_width, columns_, d_h, plan_.h_stride, s % 2 == 1);
    if (!plan_.keeps_h && !schedule_.resets()) return;
    for (int64_t i = 0; i < active_rows(s); ++i) {
      T* const out = d_h + i * plan_.h_stride;
      if (schedule_.is_reset(s, rows_.position(i))) {
        std::fill(out + columns_.begin, out + columns_.end, T{0});
        continue;
      }
      if (!plan_.keeps_h) continue;
      const T* const kept_h = own(state_.d_kept_h, plan_.h_stride, i);
      const T* const factors =
          call_.noise.h ? call_.noise.h + row(i) * call_.shape.output_size() : nullptr;
      for (int64_t j = columns_.begin; j < columns_.end; ++j) {
        out[j] = (factors ? out[j] * factors[j] : out[j]) + kept_h[j];
      }
    }
  }

  // c = a (rows, k) · b for some columns. There and back (`descending`), as in the forward pass.
  void multiply(int64_t rows, const T* a, int64_t a_row_stride, int64_t k, const T* panels,
                int64_t panel_width, const Range& columns, T* c, int64_t c_row_stride,
                bool descending) const {
    if (columns.size() <= 0) return;
    GemmArgs<T> gemm{};
    gemm.m = rows;
    gemm.n = columns.size();
    gemm.k = k;
    gemm.a = a;
    gemm.a_row_stride = a_row_stride;
    gemm.a_column_stride = 1;
    gemm.panels = panels + columns.begin * k;
    gemm.panel_width = panel_width;
    gemm.c = c + columns.begin;
    gemm.c_row_stride = c_row_stride;
    gemm.descending = descending;
    kernels_.gemm(gemm);
  }

  const BackwardPlan<T>& plan_;
  const LstmBackward<T>& call_;
  const Schedule& schedule_;
  const KernelTable<T>& kernels_;
  const T* const panels_;  // w_hhᵀ, or null if it is not needed
  const BackwardState<T> state_;
  const GroupRows rows_;
  const Range units_, columns_;  // own part of c, and of h
  const CellVariant<T> variant_;
  T* const norm_scratch_;
  Barrier* const row_group_;
};

}  // namespace cpu
}  // namespace lstm_ext
