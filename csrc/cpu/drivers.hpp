// The CPU's forward and backward passes over the contract of lstm.hpp.
#pragma once

#include "cpu/packed_weights.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {

// num_threads is a limit, 0 the process's own: small calls run on one thread. No bit of any result
// depends on it.
// Both throw std::bad_alloc when scratch memory cannot be had; outputs are then undefined.
// gates and cells must be null for a small format: it has no backward pass.
template <class F>
void lstm_forward(const PackedWeights<F>& weights,
                  const LstmForward<typename Format<F>::Value>& call, int num_threads);

template <class T>
void lstm_backward(const PackedWeights<T>& weights, const LstmBackward<T>& call, int num_threads);

}  // namespace cpu
}  // namespace lstm_ext
