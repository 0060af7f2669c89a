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

template <class S>
LSTM_EXT_DEVICE CellExtras<Number<S>> extras_of(const Variant<S>& variant, int64_t hidden,
                                                int64_t unit) {
  CellExtras<Number<S>> extras{};
  if (const S* p = variant.peephole) {
    extras.peephole = {{p[unit]}, {p[hidden + unit]}, {0}, {p[2 * hidden + unit]}};
    extras.has_peephole = true;
  }
  return extras;
}

template <class S>
LSTM_EXT_DEVICE CellGates<Number<S>> begin_cell(const VariantForward<S>&,
                                                const CellGates<Number<S>>& z) {
  return z;
}
template <class S>
LSTM_EXT_DEVICE StepCell<S> make_cell(const VariantForward<S>& call, int64_t, int64_t, int64_t unit,
                                      const CellGates<Number<S>>& z, Number<S> c_prev) {
  const CellExtras<Number<S>> extras = extras_of(call.variant, call.hidden_size, unit);
  const VariantStep<Number<S>> made =
      variant_forward<ActivationsApart>(call.variant.options, extras, z, c_prev);
  return {call.activated ? made.gates : made.z, {made.h, made.c}};
}
template <class S>
LSTM_EXT_DEVICE CellGradient<Number<S>> undo_cell(const VariantBackward<S>& call, int64_t, int64_t,
                                                  int64_t unit, const CellGates<Number<S>>& z,
                                                  Number<S> c, Number<S> c_prev, Number<S> d_h,
                                                  Number<S> d_c) {
  const CellOptions& options = call.variant.options;
  const CellExtras<Number<S>> extras = extras_of(call.variant, call.hidden_size, unit);
  return variant_backward<ActivationsApart>(
      options, extras, slopes_from_z<ActivationsApart>(options, z), c, c_prev, d_h, d_c);
}

}  // namespace cuda
}  // namespace lstm_ext
