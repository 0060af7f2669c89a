// The cell's equations, forward and backward, once for every processor. `V` is a vector of units
// (or a scalar, in CUDA) with +, -, *, fma(a, b, c) = a*b + c, sigmoid and tanh, found by
// argument-dependent lookup.
//
// Every product-sum names its fma: the compilers may contract nothing, so that each instruction
// set with fused multiply-add rounds alike.
#pragma once

// A function that CUDA has too is LSTM_EXT_INLINE, or LSTM_EXT_FUNCTION where compilers choose.
#ifdef __CUDACC__
#define LSTM_EXT_INLINE __host__ __device__ __forceinline__
#define LSTM_EXT_FUNCTION __host__ __device__
#elif defined(_MSC_VER)
#define LSTM_EXT_INLINE __forceinline
#define LSTM_EXT_FUNCTION
#else
#define LSTM_EXT_INLINE inline __attribute__((always_inline))
#define LSTM_EXT_FUNCTION
#endif

namespace lstm_ext {

// The activated gates of a step.
template <class V>
struct CellGates {
  V input, forget, candidate, output;
};

template <class V>
struct CellState {
  V h, c;
};

// z: pre-activations. c_prev: the cell before the step.
template <class V>
LSTM_EXT_INLINE CellGates<V> activate_gates(const CellGates<V>& z) {
  return {sigmoid(z.input), sigmoid(z.forget), tanh(z.candidate), sigmoid(z.output)};
}

template <class V>
LSTM_EXT_INLINE V next_cell(const CellGates<V>& gates, V c_prev) {
  return fma(gates.forget, c_prev, gates.input * gates.candidate);
}

template <class V>
LSTM_EXT_INLINE V cell_output(const CellGates<V>& gates, V c) {
  return gates.output * tanh(c);
}

template <class V>
LSTM_EXT_INLINE CellState<V> cell_forward(const CellGates<V>& gates, V c_prev) {
  const V c = next_cell(gates, c_prev);
  return {cell_output(gates, c), c};
}

template <class V>
struct CellGradient {
  CellGates<V> z;  // gradients of the pre-activations
  V c_prev;
};

// d_h: gradient of h_t from all its uses. d_c: gradient of c_t from step t+1 and from outside.
// With s' = s(1-s) for a sigmoid and t' = 1 - t*t for a tanh, from the activated values alone.
template <class V>
LSTM_EXT_INLINE CellGradient<V> cell_backward(const CellGates<V>& gates, V c, V c_prev, V d_h,
                                              V d_c, V one) {
  const V tanh_c = tanh(c);
  const V d_cell = fma(d_h * gates.output, one - tanh_c * tanh_c, d_c);
  const V& i = gates.input;
  const V& f = gates.forget;
  const V& g = gates.candidate;
  const V& o = gates.output;
  return {{d_cell * g * (i * (one - i)), d_cell * c_prev * (f * (one - f)),
           d_cell * i * (one - g * g), d_h * tanh_c * (o * (one - o))},
          d_cell * f};
}

}  // namespace lstm_ext
