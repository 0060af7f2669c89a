// The equations of every cell that is not the plain one, forward and backward, once for every
// processor. `V` is what lstm_cell.hpp asks for, and has min, max, abs and where_greater(a, b, x,
// y) = x where a > b, else y; softplus, gelu and gelu_slope. min and max pass a NaN in their second
// operand.
//
//   z_i += p_i c_{t-1}, z_f += p_f c_{t-1}, z_o += p_o c_t
//     peepholes (Gers, Schmidhuber 2000)
//
//   z within [-clip, clip]
//     after bias and peephole
//
//   f = 1 - i
//     with input_forget
//
//   c' = f c_{t-1} + i g
//     within [-cell_clip, cell_clip]
//
//   c_t = c_{t-1} where it is kept, else c'
//     zoneout (Krueger et al. 2017)
//
// A clip's derivative is zero at its bound and beyond.
#pragma once

#include "lstm.hpp"
#include "lstm_cell.hpp"

namespace lstm_ext {

template <class V>
LSTM_EXT_INLINE V exp_minus_one_below_zero(V z) {
  // By the half angle: nothing cancels, since tanh(z / 2) <= 0.
  const V t = tanh(V::broadcast(0.5f) * min(V::broadcast(0), z));
  return (t + t) / (V::broadcast(1) - t);
}

template <class V>
LSTM_EXT_FUNCTION V activate(const ActivationOptions& a, V z) {
  using T = typename V::Scalar;
  const V alpha = V::broadcast(static_cast<T>(a.alpha)),
          beta = V::broadcast(static_cast<T>(a.beta));
  const V zero = V::broadcast(0), one = V::broadcast(1);
  switch (a.kind) {
    case ActivationKind::kSigmoid:
      return sigmoid(z);
    case ActivationKind::kTanh:
      return alpha * tanh(beta * z);
    case ActivationKind::kAffine:
      return fma(alpha, z, beta);
    case ActivationKind::kHardSigmoid:
      return max(zero, min(one, fma(alpha, z, beta)));
    case ActivationKind::kRelu:
      return max(zero, z);
    case ActivationKind::kLeakyRelu:
      return where_greater(z, zero, z, alpha * z);
    case ActivationKind::kThresholdedRelu:
      return where_greater(z, alpha, z, zero);
    case ActivationKind::kElu:
      return beta * where_greater(z, zero, z, alpha * exp_minus_one_below_zero(z));
    case ActivationKind::kSoftsign:
      return z / (one + abs(z));
    case ActivationKind::kExponential:
      return sigmoid(z) / sigmoid(zero - z);
    case ActivationKind::kSilu:
      return z * sigmoid(z);
    case ActivationKind::kSoftplus:
      return softplus(z);
    case ActivationKind::kGelu:
      return gelu(z);
  }
  return z;
}

// dy/dz, given y = activate(a, z).
template <class V>
LSTM_EXT_FUNCTION V activation_slope(const ActivationOptions& a, V z, V y) {
  using T = typename V::Scalar;
  const V alpha = V::broadcast(static_cast<T>(a.alpha)),
          beta = V::broadcast(static_cast<T>(a.beta));
  const V zero = V::broadcast(0), one = V::broadcast(1);
  switch (a.kind) {
    case ActivationKind::kSigmoid:
      return y * (one - y);
    case ActivationKind::kTanh: {
      const V t = tanh(beta * z);
      return alpha * beta * (one - t * t);
    }
    case ActivationKind::kAffine:
      return alpha;
    case ActivationKind::kHardSigmoid:
      return where_greater(y, zero, where_greater(one, y, alpha, zero), zero);
    case ActivationKind::kRelu:
      return where_greater(z, zero, one, zero);
    case ActivationKind::kLeakyRelu:
      return where_greater(z, zero, one, alpha);
    case ActivationKind::kThresholdedRelu:
      return where_greater(z, alpha, one, zero);
    case ActivationKind::kElu:
      return beta * where_greater(z, zero, one, fma(alpha, exp_minus_one_below_zero(z), alpha));
    case ActivationKind::kSoftsign: {
      const V d = one + abs(z);
      return one / (d * d);
    }
    case ActivationKind::kExponential:
      return y;
    case ActivationKind::kSilu:
      return sigmoid(z) * fma(z, sigmoid(zero - z), one);
    case ActivationKind::kSoftplus:
      return sigmoid(z);
    case ActivationKind::kGelu:
      return gelu_slope(z);
  }
  return one;
}

template <class V>
LSTM_EXT_INLINE V within(double bound, V x) {
  if (bound == 0) return x;
  using T = typename V::Scalar;
  const V limit = V::broadcast(static_cast<T>(bound));
  return min(limit, max(V::broadcast(static_cast<T>(-bound)), x));
}

// Zero where |x| >= bound, else d: where x is NaN, which lies at no bound, too.
template <class V>
LSTM_EXT_INLINE V gradient_within(double bound, V x, V d) {
  if (bound == 0) return d;
  const V limit = V::broadcast(static_cast<typename V::Scalar>(bound)), size = abs(x);
  const V at_bound = where_greater(size, V::broadcast(0), V::broadcast(0), d);
  return where_greater(limit, size, d, at_bound);
}

// What a unit has besides its state.
template <class V>
struct CellExtras {
  CellGates<V> peephole;  // the candidate has none
  V keep;                 // above 1/2 where c is kept; with `shares`, the share of it that is kept
  bool has_peephole, has_keep, shares;
};

template <class V>
struct VariantStep {
  CellGates<V> z, gates;  // z after peepholes and clips
  V c, h;
};

template <class V>
LSTM_EXT_INLINE V keep_part(const CellExtras<V>& e, V before, V fresh) {
  if (!e.has_keep) return fresh;
  if (e.shares) return fma(e.keep, before, (V::broadcast(1) - e.keep) * fresh);
  return where_greater(e.keep, V::broadcast(0.5f), before, fresh);
}

// The activations of a cell. The usual ones need no choice at each vector, and their slopes are
// those of lstm_cell.hpp, from y alone.
struct UsualActivations {
  template <class V>
  LSTM_EXT_INLINE static V gate(const CellOptions&, V z) {
    return sigmoid(z);
  }
  template <class V>
  LSTM_EXT_INLINE static V candidate(const CellOptions&, V z) {
    return tanh(z);
  }
  template <class V>
  LSTM_EXT_INLINE static V output(const CellOptions&, V c) {
    return tanh(c);
  }
  template <class V>
  LSTM_EXT_INLINE static V gate_slope(const CellOptions&, V, V y) {
    return y * (V::broadcast(1) - y);
  }
  template <class V>
  LSTM_EXT_INLINE static V candidate_slope(const CellOptions&, V, V y) {
    return V::broadcast(1) - y * y;
  }
  template <class V>
  LSTM_EXT_INLINE static V output_slope(const CellOptions&, V, V y) {
    return V::broadcast(1) - y * y;
  }
};

struct ChosenActivations {
  template <class V>
  LSTM_EXT_FUNCTION static V gate(const CellOptions& o, V z) {
    return activate(o.recurrent, z);
  }
  template <class V>
  LSTM_EXT_FUNCTION static V candidate(const CellOptions& o, V z) {
    return activate(o.candidate, z);
  }
  template <class V>
  LSTM_EXT_FUNCTION static V output(const CellOptions& o, V c) {
    return activate(o.output, c);
  }
  template <class V>
  LSTM_EXT_FUNCTION static V gate_slope(const CellOptions& o, V z, V y) {
    return activation_slope(o.recurrent, z, y);
  }
  template <class V>
  LSTM_EXT_FUNCTION static V candidate_slope(const CellOptions& o, V z, V y) {
    return activation_slope(o.candidate, z, y);
  }
  template <class V>
  LSTM_EXT_FUNCTION static V output_slope(const CellOptions& o, V c, V y) {
    return activation_slope(o.output, c, y);
  }
};

// From z before peepholes and clips.
template <class A, class V>
LSTM_EXT_INLINE VariantStep<V> variant_forward(const CellOptions& o, const CellExtras<V>& e,
                                               CellGates<V> z, V c_prev) {
  VariantStep<V> s;
  if (e.has_peephole) {
    z.input = fma(e.peephole.input, c_prev, z.input);
    z.forget = fma(e.peephole.forget, c_prev, z.forget);
  }
  s.z.input = within(o.clip, z.input);
  s.z.forget = within(o.clip, z.forget);
  s.z.candidate = within(o.clip, z.candidate);
  s.gates.input = A::gate(o, s.z.input);
  s.gates.forget = o.input_forget ? V::broadcast(1) - s.gates.input : A::gate(o, s.z.forget);
  s.gates.candidate = A::candidate(o, s.z.candidate);
  const V fresh =
      within(o.cell_clip, fma(s.gates.forget, c_prev, s.gates.input * s.gates.candidate));
  s.c = keep_part(e, c_prev, fresh);
  if (e.has_peephole) z.output = fma(e.peephole.output, s.c, z.output);
  s.z.output = within(o.clip, z.output);
  s.gates.output = A::gate(o, s.z.output);
  s.h = s.gates.output * A::output(o, s.c);
  return s;
}

// The gates of a backward step and their slopes; z is read only where there is a clip.
template <class V>
struct GateSlopes {
  CellGates<V> z, gates, slopes;
};

// From z after peepholes and clips.
template <class A, class V>
LSTM_EXT_INLINE GateSlopes<V> slopes_from_z(const CellOptions& o, const CellGates<V>& z) {
  GateSlopes<V> s;
  s.z = z;
  s.gates.input = A::gate(o, z.input);
  s.gates.forget = o.input_forget ? V::broadcast(1) - s.gates.input : A::gate(o, z.forget);
  s.gates.candidate = A::candidate(o, z.candidate);
  s.gates.output = A::gate(o, z.output);
  s.slopes.input = A::gate_slope(o, z.input, s.gates.input);
  s.slopes.forget = A::gate_slope(o, z.forget, s.gates.forget);
  s.slopes.candidate = A::candidate_slope(o, z.candidate, s.gates.candidate);
  s.slopes.output = A::gate_slope(o, z.output, s.gates.output);
  return s;
}

// From the activated gates, of the usual activations without a clip.
template <class V>
LSTM_EXT_INLINE GateSlopes<V> slopes_from_gates(const CellOptions& o, const CellGates<V>& gates) {
  using A = UsualActivations;
  return {gates,
          gates,
          {A::gate_slope(o, gates.input, gates.input), A::gate_slope(o, gates.forget, gates.forget),
           A::candidate_slope(o, gates.candidate, gates.candidate),
           A::gate_slope(o, gates.output, gates.output)}};
}

// d_h: gradient of h. d_c: gradient of c_t from step t+1 and from outside.
template <class A, class V>
LSTM_EXT_INLINE CellGradient<V> variant_backward(const CellOptions& o, const CellExtras<V>& e,
                                                 const GateSlopes<V>& s, V c, V c_prev, V d_h,
                                                 V d_c) {
  const V one = V::broadcast(1), zero = V::broadcast(0);
  const CellGates<V>& gates = s.gates;
  const V y = A::output(o, c);
  CellGradient<V> d;
  d.z.output = gradient_within(o.clip, s.z.output, d_h * y * s.slopes.output);
  V d_cell = fma(d_h * gates.output, A::output_slope(o, c, y), d_c);
  if (e.has_peephole) d_cell = fma(d.z.output, e.peephole.output, d_cell);

  V d_kept = zero;
  if (e.has_keep && e.shares) {
    d_kept = d_cell * e.keep;
    d_cell = d_cell * (one - e.keep);
  } else if (e.has_keep) {
    const V half = V::broadcast(0.5f);
    d_kept = where_greater(e.keep, half, d_cell, zero);
    d_cell = where_greater(e.keep, half, zero, d_cell);
  }
  if (o.cell_clip != 0) {
    const V fresh = fma(gates.forget, c_prev, gates.input * gates.candidate);
    d_cell = gradient_within(o.cell_clip, fresh, d_cell);
  }

  V d_i = d_cell * gates.candidate;
  const V d_f = d_cell * c_prev;
  if (o.input_forget) d_i = d_i - d_f;
  d.z.input = gradient_within(o.clip, s.z.input, d_i * s.slopes.input);
  d.z.forget = o.input_forget ? zero : gradient_within(o.clip, s.z.forget, d_f * s.slopes.forget);
  d.z.candidate = gradient_within(o.clip, s.z.candidate, d_cell * gates.input * s.slopes.candidate);
  d.c_prev = fma(d_cell, gates.forget, d_kept);
  if (e.has_peephole) {
    d.c_prev = fma(d.z.input, e.peephole.input, d.c_prev);
    d.c_prev = fma(d.z.forget, e.peephole.forget, d.c_prev);
  }
  return d;
}

}  // namespace lstm_ext
