// Numbers as kernels use them, and the cell's equations over them, by the header that the CPU uses.
#pragma once

#include "cuda/device.hpp"
#include "cuda/recurrence.hpp"
#include "lstm.hpp"
#include "lstm_cell.hpp"

namespace lstm_ext {
namespace cuda {

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

// The gradient of one output.
template <class S>
LSTM_EXT_DEVICE Computing<S> upstream(const Backward<S>& call, int64_t step, int64_t row,
                                      int64_t unit) {
  return read_or_zero(call.d_output,
                      row * call.d_output_batch_stride + step * call.d_output_time_stride + unit);
}

// A number with the operations that lstm_cell.hpp finds by argument-dependent lookup.
template <class A>
struct Number {
  A v;
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

template <class A>
LSTM_EXT_DEVICE CellGates<Number<A>> gates_of(const A (&values)[kNumGates]) {
  return {{values[kInput]}, {values[kForget]}, {values[kCandidate]}, {values[kOutput]}};
}

}  // namespace cuda
}  // namespace lstm_ext
