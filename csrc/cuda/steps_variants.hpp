// The cell of a step where a call has a variant of it.
#pragma once

#include "cuda/cell.hpp"
#include "lstm_variants.hpp"

namespace lstm_ext {
namespace cuda {

// Functions of their own: a kernel would else have every activation in it for each gate and row.
template <class V>
LSTM_EXT_APART V activate_apart(const ActivationOptions a, V z) {
  return activate(a, z);
}
template <class V>
LSTM_EXT_APART V slope_apart(const ActivationOptions a, V z, V y) {
  return activation_slope(a, z, y);
}

struct ActivationsApart {
  template <class V>
  LSTM_EXT_DEVICE static V gate(const CellOptions& o, V z) {
    return activate_apart(o.recurrent, z);
  }
  template <class V>
  LSTM_EXT_DEVICE static V candidate(const CellOptions& o, V z) {
    return activate_apart(o.candidate, z);
  }
  template <class V>
  LSTM_EXT_DEVICE static V output(const CellOptions& o, V c) {
    return activate_apart(o.output, c);
  }
  template <class V>
  LSTM_EXT_DEVICE static V gate_slope(const CellOptions& o, V z, V y) {
    return slope_apart(o.recurrent, z, y);
  }
  template <class V>
  LSTM_EXT_DEVICE static V candidate_slope(const CellOptions& o, V z, V y) {
    return slope_apart(o.candidate, z, y);
  }
  template <class V>
  LSTM_EXT_DEVICE static V output_slope(const CellOptions& o, V c, V y) {
    return slope_apart(o.output, c, y);
  }
};

// What is kept of a value: where that was drawn, or else a share.
template <class S>
LSTM_EXT_DEVICE CellExtras<Number<S>> keeping(const uint8_t* drawn, int64_t at, double rate) {
  CellExtras<Number<S>> extras{};
  extras.shares = !drawn;
  extras.has_keep = drawn || rate > 0;
  extras.keep = {drawn ? static_cast<S>(drawn[at]) : static_cast<S>(rate)};
  return extras;
}

// Of h and of c, the latter with all else that a cell has.
template <class Call>
LSTM_EXT_DEVICE CellExtras<Number<typename Call::A>> extras_of_h(const Call& call, int64_t step,
                                                                 int64_t row, int64_t unit) {
  const int64_t at = (row * call.seq_len + step) * call.hidden_size + unit;
  return keeping<typename Call::A>(call.variant.zoneout, at, call.variant.options.zoneout);
}
template <class Call>
LSTM_EXT_DEVICE CellExtras<Number<typename Call::A>> extras_of_c(const Call& call, int64_t step,
                                                                 int64_t row, int64_t unit) {
  using S = typename Call::A;
  const int64_t hidden = call.hidden_size, at = (row * call.seq_len + step) * hidden + unit;
  auto extras = keeping<S>(call.variant.cell_zoneout, at, call.variant.options.cell_zoneout);
  if (const S* p = call.variant.peephole) {
    extras.peephole = {{p[unit]}, {p[hidden + unit]}, {0}, {p[2 * hidden + unit]}};
    extras.has_peephole = true;
  }
  return extras;
}

// Zoneout of h that a step made.
template <class S>
LSTM_EXT_DEVICE S keep_h(const VariantForward<S>& call, int64_t step, int64_t row, int64_t unit,
                         S h) {
  if (!keeps_h(call.variant)) return h;
  const Number<S> before{kept_h(call, step, row, unit)};
  return keep_part(extras_of_h(call, step, row, unit), before, Number<S>{h}).v;
}

template <class S>
LSTM_EXT_DEVICE CellGates<Number<S>> begin_cell(const VariantForward<S>&,
                                                const CellGates<Number<S>>& z) {
  return z;
}
template <class S>
LSTM_EXT_DEVICE StepCell<S> make_cell(const VariantForward<S>& call, int64_t step, int64_t row,
                                      int64_t unit, const CellGates<Number<S>>& z,
                                      Number<S> c_prev) {
  VariantStep<Number<S>> made = variant_forward<ActivationsApart>(
      call.variant.options, extras_of_c(call, step, row, unit), z, c_prev);
  made.h.v = keep_h(call, step, row, unit, made.h.v);
  return {call.activated ? made.gates : made.z, {made.h, made.c}};
}
template <class S>
LSTM_EXT_DEVICE CellGradient<Number<S>> undo_cell(const VariantBackward<S>& call, int64_t step,
                                                  int64_t row, int64_t unit,
                                                  const CellGates<Number<S>>& z, Number<S> c,
                                                  Number<S> c_prev, Number<S> d_h, Number<S> d_c) {
  const CellOptions& options = call.variant.options;
  return variant_backward<ActivationsApart>(options, extras_of_c(call, step, row, unit),
                                            slopes_from_z<ActivationsApart>(options, z), c, c_prev,
                                            d_h, d_c);
}

template <class S>
LSTM_EXT_DEVICE bool carries_h(const VariantBackward<S>& call) {
  return keeps_h(call.variant);
}
// What of the gradient of h belongs to what the cell made; the rest is carried to the step before.
template <class S>
LSTM_EXT_DEVICE S part_gradient(const VariantBackward<S>& call, int64_t step, int64_t row,
                                int64_t unit, S d_h) {
  if (!keeps_h(call.variant)) return d_h;
  const S share = extras_of_h(call, step, row, unit).keep.v;
  call.carry[row * call.hidden_size + unit] = share == 0 ? S(0) : share * d_h;
  return share == 1 ? S(0) : (S(1) - share) * d_h;
}

}  // namespace cuda
}  // namespace lstm_ext
