// One thread's part of a forward pass: some rows, some blocks of units, all steps. Included by
// forward.cpp.
#pragma once

#include <algorithm>

#include "cpu/company.hpp"
#include "cpu/forward_inputs.hpp"
#include "cpu/forward_plan.hpp"
#include "cpu/step_pieces.hpp"

namespace lstm_ext {
namespace cpu {

template <class F>
class ForwardWorker {
  using T = typename Format<F>::Value;

 public:
  ForwardWorker(const ForwardPlan<F>& plan, const SharedState<T>& state, int member,
                const Company& company, const WorkerMemory<F>& memory)
      : plan_(plan),
        w_(plan.weights),
        call_(plan.call),
        schedule_(plan.schedule),
        state_(state),
        rows_(group_rows(plan.schedule, call_.shape.batch_size, plan.grid.row_groups,
                         member / plan.grid.unit_groups)),
        share_(member % plan.grid.unit_groups),
        blocks_(split(w_.num_blocks(), plan.grid.unit_groups, share_)),
        company_(company),
        memory_(memory),
        inputs_(plan, rows_, company.input, memory) {
    const int64_t lanes = w_.kernels().lanes;
    units_ = {blocks_.begin * lanes, std::min(blocks_.end * lanes, call_.shape.hidden_size)};
    columns_ = units_;
    if (plan_.projects) {
      const int64_t width = w_.w_hr().panel_width, size = w_.projection_size();
      const Range panels = split(divide_up(size, width), plan.grid.unit_groups, share_);
      columns_ = {panels.begin * width, std::min(panels.end * width, size)};
    }
    variant_ = w_.variant(!call_.activated);
    step_.hidden_size = call_.shape.hidden_size;
    step_.block_begin = blocks_.begin;
    step_.block_end = blocks_.end;
    step_.bias = w_.bias();
    step_.totals = memory_.totals;
    step_.wide = memory_.wide;
    step_.c = own(state_.c, plan_.cell_stride);
    step_.state_row_stride = plan_.cell_stride;
    step_.output_row_stride = call_.output.batch_stride;
    step_.kept_row_step = rows_.stride;
    if (w_.has_variant() || state_.keep) step_.variant = &variant_;
    if (state_.keep) step_.keep = own(state_.keep, plan_.cell_stride);
  }

  void run() {
    read_state();
    reset_before(0);
    meet();
    for (int64_t s = 0; s < schedule_.num_steps(); ++s) {
      if (plan_.chunk > 0 && s % plan_.chunk == 0) project(s);
      step(s);
      if (plan_.finishes_h) finish(s);
      reset_before(s + 1);
      meet();
      if (company_.output) company_.output->advance_to(s + 1);
    }
    write_state();
  }

 private:
  void meet() {
    if (company_.row_group) company_.row_group->barrier.wait();
  }

  // Own rows of an array with one row for each of the batch, in the order of the state.
  T* own(T* state, int64_t stride) const { return state + rows_.base * stride; }
  int64_t row(int64_t index) const { return schedule_.row(rows_.position(index)); }
  int64_t active_rows(int64_t s) const { return rows_.active(schedule_.active(s)); }

  // Own rows of an array (B, size) in the state's order, and those of h as they are multiplied.
  void read_state() const {
    const int64_t padded_end = blocks_.end * w_.kernels().lanes;
    for (int64_t i = 0; i < rows_.count; ++i) {
      read_row(call_.c0, call_.shape.hidden_size, i, units_, own(state_.c, plan_.cell_stride),
               plan_.cell_stride);
      T* const c = own(state_.c, plan_.cell_stride) + i * plan_.cell_stride;
      std::fill(c + units_.end, c + padded_end, T{0});
      T* const h = own(state_.h[0], plan_.h_stride);
      read_row(call_.h0, call_.shape.output_size(), i, columns_, h, plan_.h_stride);
      if (!plan_.projects) {
        std::fill(h + i * plan_.h_stride + units_.end, h + i * plan_.h_stride + padded_end, T{0});
      }
      if (plan_.keeps_h) {
        T* const kept = own(state_.kept_h, plan_.h_stride) + i * plan_.h_stride;
        std::copy(h + i * plan_.h_stride + columns_.begin, h + i * plan_.h_stride + columns_.end,
                  kept + columns_.begin);
        multiply_noise(i, h + i * plan_.h_stride);
      }
      if (schedule_.length(rows_.position(i)) == 0) zero_output(i, 0, call_.shape.seq_len);
    }
  }

  void read_row(const T* from, int64_t size, int64_t index, const Range& part, T* to,
                int64_t stride) const {
    T* const out = to + index * stride;
    if (from) {
      const T* const in = from + row(index) * size;
      std::copy(in + part.begin, in + part.end, out + part.begin);
    } else {
      std::fill(out + part.begin, out + part.end, T{0});
    }
  }

  void write_state() const {
    for (int64_t i = 0; i < rows_.count; ++i) {
      const int64_t position = rows_.position(i);
      const T* const h = plan_.keeps_h ? state_.kept_h : state_.h[schedule_.length(position) % 2];
      write_row(h + (rows_.base + i) * plan_.h_stride, columns_, position,
                call_.h + row(i) * call_.shape.output_size());
      write_row(state_.c + (rows_.base + i) * plan_.cell_stride, units_, position,
                call_.c + row(i) * call_.shape.hidden_size);
    }
  }

  void write_row(const T* from, const Range& part, int64_t position, T* to) const {
    if (schedule_.ends_reset(position)) {
      std::fill(to + part.begin, to + part.end, T{0});
    } else {
      std::copy(from + part.begin, from + part.end, to + part.begin);
    }
  }

  // z (steps, active rows, own blocks) = x · w_ih + bias for the chunk of steps that starts at s.
  void project(int64_t s) {
    const int64_t steps = std::min(plan_.chunk, schedule_.num_steps() - s);
    const int64_t width = kNumGates * w_.kernels().lanes;
    const Rows<F> x = inputs_.x(s, steps);
    GemmArgs<F> gemm{};
    for (int64_t i = s; i < s + steps; ++i) gemm.m += active_rows(i);
    gemm.n = blocks_.size() * width;
    gemm.k = call_.shape.input_size;
    gemm.a = x.data;
    gemm.a_row_stride = x.row_stride;
    gemm.a_column_stride = x.column_stride;
    gemm.panels = w_.w_ih().block(blocks_.begin);
    gemm.panel_width = width;
    gemm.bias = w_.has_norm() ? nullptr : w_.bias() + blocks_.begin * width;
    gemm.c = memory_.z + blocks_.begin * width;
    gemm.c_row_stride = plan_.z_row_size();
    gemm.scales = w_.w_ih().scales(x.scales, blocks_.begin);
    gemm.wide = memory_.wide;
    w_.kernels().gemm(gemm);
    step_.z = memory_.z;
    step_.z_row_stride = plan_.z_row_size();
    if (plan_.piece > 0) meet();  // others may take blocks of this share
  }

  StepOperand<F> operand(const Rows<F>& a, int64_t k, const GatePanels<F>& panels) const {
    return {a.data, a.row_stride, k, panels.data(), panels.scales(a.scales, 0)};
  }

  void step(int64_t s) {
    const LstmShape& shape = call_.shape;
    step_.rows = active_rows(s);
    step_.num_operands = 0;
    if (plan_.chunk == 0) {
      step_.operands[step_.num_operands++] = operand(inputs_.x(s, 1), shape.input_size, w_.w_ih());
    }
    if (s > 0 || !plan_.starts_from_x) {
      const Rows<F> h = inputs_.h(own(state_.h[s % 2], plan_.h_stride), step_.rows);
      step_.operands[step_.num_operands++] = operand(h, shape.output_size(), w_.w_hh());
    }
    // There and back: what a step read last is still in the cache when the next one begins.
    step_.descending = s % 2 == 1;
    step_.h = plan_.projects ? own(state_.made, plan_.cell_stride)
                             : own(state_.h[(s + 1) % 2], plan_.h_stride);
    if (call_.output && !plan_.finishes_h) step_.output = call_.output.at(rows_.first, s);
    if (call_.gates) {
      const int64_t kept = schedule_.offset(s) + rows_.first;
      step_.gates = call_.gates + kept * kNumGates * shape.hidden_size;
      step_.cells = call_.cells + kept * shape.hidden_size;
    }
    if (state_.keep) spread_keep(s);
    make_cells(s);
    if (plan_.chunk > 0) step_.z += step_.rows * plan_.z_row_size();
  }

  void make_cells(int64_t s) {
    if (w_.has_norm()) return norm_cells(s);
    if (plan_.piece == 0) return w_.kernels().step(step_);
    if (plan_.helpers > 1) return make_cells_with_helpers();
    RowGroup& group = *company_.row_group;
    // Nobody works on the next step's pieces before all have met after this one.
    if (share_ == 0) group.shares[(s + 1) % 2].renew();
    StepArgs<F> own = step_;
    group.shares[s % 2].work(share_,
                             [&](int64_t piece) { run_piece(w_, plan_.piece, piece, own); });
  }

  void make_cells_with_helpers() {
    Shares shares(plan_.num_pieces(), plan_.helpers, false);
    company_.helpers->run_with_late([&](int member) {
      if (member >= plan_.helpers) return;
      StepArgs<F> own = step_;
      own.totals += member * plan_.totals_size();
      if (own.wide) own.wide += member * plan_.wide_size();
      shares.work(member, [&](int64_t piece) { run_piece(w_, plan_.piece, piece, own); });
    });
  }

  // The cells of a step with layer normalisation, which `step` has made ready.
  void norm_cells(int64_t s) {
    if constexpr (!Format<F>::kEncodes) {
      const int64_t hidden = call_.shape.hidden_size, columns = kNumGates * hidden;
      T* const zh = memory_.norm;
      T* const z = zh + plan_.max_rows * plan_.z_row_size();
      const StepOperand<F>& h = step_.operands[0];
      GemmArgs<T> gemm{};
      gemm.m = step_.rows;
      gemm.n = w_.num_blocks() * kNumGates * w_.kernels().lanes;
      gemm.k = h.k;
      gemm.a = h.a;
      gemm.a_row_stride = h.a_row_stride;
      gemm.a_column_stride = 1;
      gemm.panels = h.panels;
      gemm.panel_width = kNumGates * w_.kernels().lanes;
      gemm.c = zh;
      gemm.c_row_stride = plan_.z_row_size();
      gemm.descending = step_.descending;
      w_.kernels().gemm(gemm);
      const NormCell<T, F> cell(w_);
      for (int64_t i = 0; i < step_.rows; ++i) {
        const int64_t kept = schedule_.offset(s) + rows_.position(i);
        T* const c = step_.c + i * plan_.cell_stride;
        T* const made = step_.h + i * plan_.h_stride;
        cell.forward(step_.z + i * plan_.z_row_size(), zh + i * plan_.z_row_size(), c, made,
                     call_.gates ? call_.gates + kept * columns : z, call_.activated,
                     call_.normed ? call_.normed + kept * NormedRow<T>::size(hidden) : nullptr,
                     z + columns);
        if (call_.cells) std::copy(c, c + hidden, call_.cells + kept * hidden);
        if (step_.output)
          std::copy(made, made + hidden, step_.output + i * step_.output_row_stride);
      }
    } else {
      static_cast<void>(s);
    }
  }

  // The bytes of noise.cell_zoneout for own rows and units, as numbers.
  void spread_keep(int64_t s) const {
    for (int64_t i = 0; i < active_rows(s); ++i) {
      const uint8_t* const in =
          call_.noise.cell_zoneout + slot_row(s, rows_.position(i)) * call_.shape.hidden_size;
      T* const out = own(state_.keep, plan_.cell_stride) + i * plan_.cell_stride;
      for (int64_t j = units_.begin; j < units_.end; ++j) out[j] = static_cast<T>(in[j] != 0);
      std::fill(out + units_.end, out + blocks_.end * w_.kernels().lanes, T{0});
    }
  }

  // The row of an array (B, T, ...) in the order of the slots.
  int64_t slot_row(int64_t s, int64_t position) const {
    return schedule_.row(position) * call_.shape.seq_len + schedule_.slot(s, position);
  }

  // From what the cells made to h, as it is returned and as it is multiplied next: projection,
  // zoneout, noise, and the slots that have this output.
  void finish(int64_t s) {
    T* const next = own(state_.h[(s + 1) % 2], plan_.h_stride);
    if (plan_.projects) {
      if (call_.hidden) keep_made(s);
      meet();
      project_cells(next, active_rows(s));
    }
    for (int64_t i = 0; i < active_rows(s); ++i) {
      T* const h = next + i * plan_.h_stride;
      const T* result = h;
      if (plan_.keeps_h) {
        T* const kept = own(state_.kept_h, plan_.h_stride) + i * plan_.h_stride;
        zoneout(s, i, h, kept);
        std::copy(kept + columns_.begin, kept + columns_.end, h + columns_.begin);
        multiply_noise(i, h);
        result = kept;
      }
      if (call_.output) write_output(s, i, result);
    }
  }

  void keep_made(int64_t s) const {
    for (int64_t i = 0; i < active_rows(s); ++i) {
      const T* const in = own(state_.made, plan_.cell_stride) + i * plan_.cell_stride;
      T* const out =
          call_.hidden + (schedule_.offset(s) + rows_.position(i)) * call_.shape.hidden_size;
      std::copy(in + units_.begin, in + units_.end, out + units_.begin);
    }
  }

  // h = made · w_hr for own columns.
  void project_cells(T* h, int64_t rows) const {
    if (columns_.size() <= 0) return;
    GemmArgs<T> gemm{};
    gemm.m = rows;
    gemm.n = columns_.size();
    gemm.k = call_.shape.hidden_size;
    gemm.a = own(state_.made, plan_.cell_stride);
    gemm.a_row_stride = plan_.cell_stride;
    gemm.a_column_stride = 1;
    gemm.panels = w_.w_hr().panels + columns_.begin * gemm.k;
    gemm.panel_width = w_.w_hr().panel_width;
    gemm.c = h + columns_.begin;
    gemm.c_row_stride = plan_.h_stride;
    w_.value_kernels().gemm(gemm);
  }

  // kept: h_{t-1} in, h_t out.
  void zoneout(int64_t s, int64_t index, const T* h, T* kept) const {
    const T share = static_cast<T>(w_.cell().zoneout);
    const uint8_t* const keeps =
        call_.noise.zoneout
            ? call_.noise.zoneout + slot_row(s, rows_.position(index)) * call_.shape.output_size()
            : nullptr;
    for (int64_t j = columns_.begin; j < columns_.end; ++j) {
      if (keeps) {
        kept[j] = keeps[j] ? kept[j] : h[j];
      } else {
        kept[j] = share > 0 ? share * kept[j] + (T{1} - share) * h[j] : h[j];
      }
    }
  }

  void multiply_noise(int64_t index, T* h) const {
    if (!call_.noise.h) return;
    const T* const factors = call_.noise.h + row(index) * call_.shape.output_size();
    for (int64_t j = columns_.begin; j < columns_.end; ++j) h[j] *= factors[j];
  }

  // Own columns of a step's output, and zeros in the slots since the last one that have none.
  void write_output(int64_t s, int64_t index, const T* h) const {
    const int64_t position = rows_.position(index);
    const int64_t slot = schedule_.slot(s, position), end = schedule_.output_end(s, position);
    zero_output(index, s > 0 ? schedule_.output_end(s - 1, position) : 0, slot);
    for (int64_t i = slot; i < end; ++i) {
      std::copy(h + columns_.begin, h + columns_.end,
                call_.output.at(row(index), i) + columns_.begin);
    }
    if (s + 1 == schedule_.length(position)) zero_output(index, end, call_.shape.seq_len);
  }

  void zero_output(int64_t index, int64_t begin, int64_t end) const {
    for (int64_t slot = begin; call_.output && slot < end; ++slot) {
      T* const out = call_.output.at(row(index), slot);
      std::fill(out + columns_.begin, out + columns_.end, T{0});
    }
  }

  // Zeroes the state of rows that are reset before step s.
  void reset_before(int64_t s) const {
    if (!schedule_.resets() || s >= schedule_.num_steps()) return;
    for (int64_t i = 0; i < active_rows(s); ++i) {
      if (!schedule_.is_reset(s, rows_.position(i))) continue;
      const auto zero = [&](T* state, int64_t stride, const Range& part) {
        T* const out = own(state, stride) + i * stride;
        std::fill(out + part.begin, out + part.end, T{0});
      };
      zero(state_.c, plan_.cell_stride, units_);
      zero(state_.h[s % 2], plan_.h_stride, columns_);
      if (plan_.keeps_h) zero(state_.kept_h, plan_.h_stride, columns_);
    }
  }

  const ForwardPlan<F>& plan_;
  const PackedWeights<F>& w_;
  const LstmForward<T>& call_;
  const Schedule& schedule_;
  const SharedState<T> state_;
  const GroupRows rows_;
  const int share_;  // of the units
  const Range blocks_;
  Range units_, columns_;  // own part of c, and of h
  const Company company_;
  const WorkerMemory<F> memory_;
  ForwardInputs<F> inputs_;
  CellVariant<T> variant_{};
  StepArgs<F> step_{};
};

}  // namespace cpu
}  // namespace lstm_ext
