// Numbers as kernels use them, and the cell's equations over them, by the header that the CPU uses.
#pragma once

#include "cuda/device.hpp"
#include "cuda/recurrence.hpp"
#include "lstm.hpp"
#include "lstm_cell.hpp"

namespace lstm_ext {
namespace cuda {

// What is read from shared memory at once.
template <class A>
struct alignas(16) Four {
  A v[4];
};

LSTM_EXT_DEVICE float widen(float x) { return x; }
LSTM_EXT_DEVICE double widen(double x) { return x; }
LSTM_EXT_DEVICE float widen(BFloat16 x) { return float_of(uint32_t{x.bits} << 16); }

template <class S>
LSTM_EXT_DEVICE S narrow(Computing<S> x) {
  return x;
}
template <>
LSTM_EXT_DEVICE BFloat16 narrow<BFloat16>(float x) {
  return {bfloat16_of(x)};
}

template <class S>
LSTM_EXT_DEVICE Computing<S> read_or_zero(const S* array, int64_t index) {
  return array ? widen(array[index]) : Computing<S>(0);
}

// Those of a slot; none of a step past the last.
template <class Call>
LSTM_EXT_DEVICE unsigned flags_of(const Call& call, int64_t step, int64_t row) {
  return call.flags && step < call.seq_len ? call.flags[step * call.batch_size + row] : 0u;
}

// h of the step before as a step reads it.
template <class S>
LSTM_EXT_DEVICE Computing<S> as_read(const Forward<S>& call, int64_t step, int64_t row,
                                     int64_t unit, Computing<S> h) {
  if (flags_of(call, step, row) & kReset) return 0;
  return call.h_factors ? h * call.h_factors[row * call.hidden_size + unit] : h;
}

// h where a masked step keeps it: what it reads, unless that was multiplied.
template <class S>
LSTM_EXT_DEVICE Computing<S> kept_h(const Forward<S>& call, int64_t step, int64_t row,
                                    int64_t unit) {
  const int64_t state = row * call.hidden_size + unit;
  if (flags_of(call, step, row) & kReset) return 0;
  return widen(call.h_factors ? call.h[state]
                              : call.hidden[step * call.batch_size * call.hidden_size + state]);
}

// The gradient of one output.
template <class S>
LSTM_EXT_DEVICE Computing<S> upstream(const Backward<S>& call, int64_t step, int64_t row,
                                      int64_t unit) {
  if (flags_of(call, step, row) & kSilent) return 0;
  return read_or_zero(call.d_output,
                      row * call.d_output_batch_stride + step * call.d_output_time_stride + unit);
}

// A number with the operations that lstm_cell.hpp and lstm_variants.hpp find by argument-dependent
// lookup.
template <class A>
struct Number {
  using Scalar = A;
  A v;

  LSTM_EXT_DEVICE static Number broadcast(A value) { return {value}; }
};
template <class A>
LSTM_EXT_DEVICE Number<A> operator+(Number<A> a, Number<A> b) {
  return {a.v + b.v};
}
template <class A>
LSTM_EXT_DEVICE Number<A> operator-(Number<A> a, Number<A> b) {
  return {a.v - b.v};
}
template <class A>
LSTM_EXT_DEVICE Number<A> operator*(Number<A> a, Number<A> b) {
  return {a.v * b.v};
}
template <class A>
LSTM_EXT_DEVICE Number<A> operator/(Number<A> a, Number<A> b) {
  return {a.v / b.v};
}
template <class A>
LSTM_EXT_DEVICE Number<A> min(Number<A> a, Number<A> b) {
  return a.v < b.v ? a : b;
}
template <class A>
LSTM_EXT_DEVICE Number<A> max(Number<A> a, Number<A> b) {
  return a.v > b.v ? a : b;
}
template <class A>
LSTM_EXT_DEVICE Number<A> abs(Number<A> x) {
  return x.v < 0 ? Number<A>{-x.v} : x;
}
template <class A>
LSTM_EXT_DEVICE Number<A> where_greater(Number<A> a, Number<A> b, Number<A> x, Number<A> y) {
  return a.v > b.v ? x : y;
}
template <class A>
LSTM_EXT_DEVICE Number<A> fma(Number<A> a, Number<A> b, Number<A> c) {
  return {fused(a.v, b.v, c.v)};
}
template <class A>
LSTM_EXT_DEVICE Number<A> tanh(Number<A> x) {
  return {hyperbolic_tangent(x.v)};
}
// For x far below zero the exponential is infinite and the quotient zero, as it should be.
template <class A>
LSTM_EXT_DEVICE Number<A> sigmoid(Number<A> x) {
  return {A(1) / (A(1) + exponential(-x.v))};
}

// In float32 without a branch, so that lanes with different gates stay together:
//
//   sigmoid(x) = 1 / (1 + 2^(-x log2 e))        tanh(x) = 1 - 2 / (1 + 2^(2x log2 e))
//
// and near zero, where the difference would cancel, tanh by x + x³ p(x²), the minimax polynomial of
// Cephes' tanhf.c (S. Moshier).
constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;

// 1 / (1 + 2^(x scale)). What the product in the exponent loses to rounding comes back through the
// derivative.
LSTM_EXT_DEVICE float logistic(float x, float scale) {
  const float power = x * scale;
  const bool is_ordinary = power > -126.0f && power < 126.0f;
  const float lost = is_ordinary ? fused(x, scale, -power) * kLn2 : 0.0f;
  const float y = reciprocal(1.0f + exponential2(power));
  return fused(y * (y - 1.0f), lost, y);
}
LSTM_EXT_DEVICE float tanh_near_zero(float x) {
  const float square = x * x;
  float p = fused(square, -5.70498872745e-3f, 2.06390887954e-2f);
  p = fused(square, p, -5.37397155531e-2f);
  p = fused(square, p, 1.33314422036e-1f);
  p = fused(square, p, -3.33332819422e-1f);
  return fused(x * square, p, x);
}
// tanh(x), or else sigmoid(x).
LSTM_EXT_DEVICE float activate(float x, bool is_tanh) {
  const float y = logistic(x, is_tanh ? 2.0f * kLog2E : -kLog2E);
  const bool is_near = x > -0.625f && x < 0.625f;
  const float t = is_near ? tanh_near_zero(x) : fused(-2.0f, y, 1.0f);
  return is_tanh ? t : y;
}
LSTM_EXT_DEVICE Number<float> tanh(Number<float> x) { return {activate(x.v, true)}; }
LSTM_EXT_DEVICE Number<float> sigmoid(Number<float> x) { return {logistic(x.v, -kLog2E)}; }

// In double, as on the CPU.
LSTM_EXT_DEVICE double normal_distribution(double z) {
  constexpr double kRootHalf = 0.70710678118654752440;
  return 0.5 * complementary_error(-z * kRootHalf);
}
template <class A>
LSTM_EXT_DEVICE Number<A> softplus(Number<A> x) {
  const double z = x.v, size = z < 0 ? -z : z;
  return {static_cast<A>((z > 0 ? z : 0) + logarithm_of_one_plus(exponential(-size)))};
}
template <class A>
LSTM_EXT_DEVICE Number<A> gelu(Number<A> x) {
  const double z = x.v;
  return {static_cast<A>(z * normal_distribution(z))};
}
template <class A>
LSTM_EXT_DEVICE Number<A> gelu_slope(Number<A> x) {
  constexpr double kRootTwoPi = 2.50662827463100050242;
  const double z = x.v, density = exponential(-0.5 * z * z) / kRootTwoPi;
  return {static_cast<A>(normal_distribution(z) + z * density)};
}

template <class A>
LSTM_EXT_DEVICE CellGates<Number<A>> gates_of(const A (&values)[kNumGates]) {
  return {{values[kInput]}, {values[kForget]}, {values[kCandidate]}, {values[kOutput]}};
}

// What a step keeps of its gates, and the state after it.
template <class A>
struct StepCell {
  CellGates<Number<A>> kept;
  CellState<Number<A>> next;
};

// The cell of a step, in what needs no c and the rest, and its way back. A call with a variant has
// others (steps_variants.hpp).
template <class S, class A>
LSTM_EXT_DEVICE CellGates<Number<A>> begin_cell(const Forward<S>&, const CellGates<Number<A>>& z) {
  return activate_gates(z);
}
template <class S, class A>
LSTM_EXT_DEVICE StepCell<A> make_cell(const Forward<S>&, int64_t, int64_t, int64_t,
                                      const CellGates<Number<A>>& gates, Number<A> c_prev) {
  return {gates, cell_forward(gates, c_prev)};
}
template <class S, class A>
LSTM_EXT_DEVICE CellGradient<Number<A>> undo_cell(const Backward<S>&, int64_t, int64_t, int64_t,
                                                  const CellGates<Number<A>>& gates, Number<A> c,
                                                  Number<A> c_prev, Number<A> d_h, Number<A> d_c) {
  return cell_backward(gates, c, c_prev, d_h, d_c, Number<A>{1});
}
template <class S>
LSTM_EXT_DEVICE bool carries_h(const Backward<S>&) {
  return false;
}
template <class S>
LSTM_EXT_DEVICE Computing<S> part_gradient(const Backward<S>&, int64_t, int64_t, int64_t,
                                           Computing<S> d_h) {
  return d_h;
}

}  // namespace cuda
}  // namespace lstm_ext
