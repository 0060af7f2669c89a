// A projection, two launches a step: the cell, as ever but for what becomes of h, and the product
// h = made·w_hr. Backward first the gradient of h of a step, which is that of made·w_hr too, and
// from it, by a product with w_hrᵀ, that of what the cell made. All three products have the form of
// those of steps_backward.hpp, whose kernels compute them, each with an end of its own:
//
//   HiddenForward       made_t · w_hr          zoneout, masks and the output
//   HiddenBackward      dz_{t+1} · w_hhᵀ       the gradient of h_t
//   ProjectedBackward   d_projected_t · w_hrᵀ  the gradients of the cell
//
// In a Hidden... `hidden_size` is P, so that all functions of h find their places.
#pragma once

#include "cuda/steps_launch.hpp"

namespace lstm_ext {
namespace cuda {

template <class S>
struct HiddenForward : VariantForward<S> {
  int64_t cell_size;  // H
  const S* w_hr;      // (P, H): transposed
  const S* made;      // as of ProjectedForward

  explicit HiddenForward(const ProjectedForward<S>& call)
      : VariantForward<S>(call), cell_size(call.hidden_size), w_hr(call.w_hr), made(call.made) {
    this->hidden_size = call.output_size;
  }
};
template <class S>
struct HiddenBackward : VariantBackward<S> {
  int64_t cell_size;
  S* d_projected;  // (T, B, P)

  explicit HiddenBackward(const ProjectedBackward<S>& call)
      : VariantBackward<S>(call), cell_size(call.hidden_size), d_projected(call.d_projected) {
    this->hidden_size = call.output_size;
  }
};

// A call without what it does to h after the projection.
template <class Call>
Call cell_of(Call call) {
  call.variant.zoneout = nullptr;
  call.variant.options.zoneout = 0;
  return call;
}

// Where the values of a step begin that its cell made.
template <class Call>
LSTM_EXT_DEVICE int64_t place_of_made(const Call& call, int64_t step, int64_t units) {
  return call.gates ? step * call.batch_size * units : 0;
}

template <class S>
constexpr bool kProjects<ProjectedForward<S>> = true;
template <class S>
LSTM_EXT_DEVICE S kept_h(const ProjectedForward<S>&, int64_t, int64_t, int64_t) {
  return 0;  // a masked cell makes nothing
}
template <class S>
LSTM_EXT_DEVICE void leave_made(const ProjectedForward<S>& call, int64_t step, int64_t state,
                                S made) {
  call.made[place_of_made(call, step, call.hidden_size) + state] = made;
}

template <class S>
struct Multiplied<HiddenForward<S>> {
  const S* values;
  int64_t columns;
  LSTM_EXT_DEVICE Multiplied(const HiddenForward<S>& call, int64_t step)
      : values(call.made + place_of_made(call, step, call.cell_size)), columns(call.cell_size) {}
};
template <class S>
struct Multiplied<HiddenBackward<S>> {
  const S* values;
  int64_t columns;
  LSTM_EXT_DEVICE Multiplied(const HiddenBackward<S>& call, int64_t step)
      : values(call.d_gates + (step + 1) * call.batch_size * kNumGates * call.cell_size),
        columns(step + 1 < call.seq_len ? kNumGates * call.cell_size : 0) {}
};
template <class S>
struct Multiplied<ProjectedBackward<S>> {
  const S* values;
  int64_t columns;
  LSTM_EXT_DEVICE Multiplied(const ProjectedBackward<S>& call, int64_t step)
      : values(call.d_projected + step * call.batch_size * call.output_size),
        columns(call.output_size) {}
};

template <class S>
LSTM_EXT_DEVICE const S* weights_of(const HiddenForward<S>& call) {
  return call.w_hr;
}
template <class S>
LSTM_EXT_DEVICE const S* weights_of(const ProjectedBackward<S>& call) {
  return call.w_hr;
}

template <class S>
LSTM_EXT_DEVICE const S* weights_row(const HiddenForward<S>& call, int64_t unit) {
  return call.w_hr + unit * call.cell_size;
}
template <class S>
LSTM_EXT_DEVICE const S* weights_row(const HiddenBackward<S>& call, int64_t unit) {
  return call.w_hh + unit * kNumGates * call.cell_size;
}
template <class S>
LSTM_EXT_DEVICE const S* weights_row(const ProjectedBackward<S>& call, int64_t unit) {
  return call.w_hr + unit * call.output_size;
}

// What finish_forward does with h where there is no projection.
template <class S>
LSTM_EXT_DEVICE void finish_backward(const HiddenForward<S>& call, int64_t step, int64_t row,
                                     int64_t unit, Computing<S> h) {
  if (row >= call.batch_size || unit >= call.hidden_size) return;
  const int64_t size = call.hidden_size, at = (step * call.batch_size + row) * size + unit;
  const unsigned flags = flags_of(call, step, row);
  h = flags & kMasked ? kept_h(call, step, row, unit) : keep_h(call, step, row, unit, h);
  call.hidden[at + call.batch_size * size] = as_read(call, step + 1, row, unit, h);
  if (call.output) call.output[at] = flags & kSilent ? S(0) : h;
  if (call.h_factors) call.h[row * size + unit] = h;
}

template <class S>
constexpr Part kPartOf<HiddenBackward<S>> = Part::kHidden;
template <class S>
constexpr Part kPartOf<ProjectedBackward<S>> = Part::kCell;

// From the gradient of h that of made·w_hr, and what passes the step.
template <class S>
LSTM_EXT_DEVICE void leave_projected(const HiddenBackward<S>& call, int64_t step, int64_t row,
                                     int64_t unit, S d_h) {
  const int64_t state = row * call.hidden_size + unit;
  S d_projected = part_gradient(call, step, row, unit, d_h);
  if (flags_of(call, step, row) & kMasked) {
    call.carry[state] = d_h;
    d_projected = 0;
  }
  call.d_projected[step * call.batch_size * call.hidden_size + state] = d_projected;
}

template <class S>
void forward_in_steps(const ProjectedForward<S>& call, const Execution& execution) {
  const ProjectedForward<S> cell = cell_of(call);
  const HiddenForward<S> hidden(call);
  const auto make = forward_step(cell, execution.stream);
  const auto project = backward_step(hidden, execution.stream);
  for (int64_t step = 0; step < call.seq_len; ++step) {
    launch(make.where, make.kernel, cell, step);
    launch(project.where, project.kernel, hidden, step);
  }
}

template <class S>
void backward_in_steps(const ProjectedBackward<S>& call, const Execution& execution) {
  const ProjectedBackward<S> cell = cell_of(call);
  const HiddenBackward<S> hidden(call);
  const auto collect = backward_step(hidden, execution.stream);
  const auto undo = backward_step(cell, execution.stream);
  for (int64_t step = call.seq_len - 1; step >= 0; --step) {
    launch(collect.where, collect.kernel, hidden, step);
    launch(undo.where, undo.kernel, cell, step);
  }
  launch(collect.where, collect.kernel, hidden, int64_t{-1});
}

}  // namespace cuda
}  // namespace lstm_ext
