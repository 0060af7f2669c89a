// The CPU's forward and backward passes over the contract of lstm.hpp.
#pragma once

#include <vector>

#include "cpu/packed_weights.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {

// A call and the weights that it is for.
template <class F>
struct ForwardTask {
  const PackedWeights<F>* weights;
  LstmForward<typename Format<F>::Value> call;
};

template <class T>
struct BackwardTask {
  const PackedWeights<T>* weights;
  LstmBackward<T> call;
};

// num_threads is a limit, 0 the process's own: small calls run on one thread. No bit of any result
// depends on it, nor on whether calls are made one by one or together.
// All throw std::bad_alloc when scratch memory cannot be had; outputs are then undefined.
// gates and cells must be null for a small format: it has no backward pass.
template <class F>
void lstm_forward(const PackedWeights<F>& weights,
                  const LstmForward<typename Format<F>::Value>& call, int num_threads);

// Several calls, side by side where there are threads for it. Chained: each one's x is the output
// of the one before, of the same batch, time, slots and direction.
template <class F>
void lstm_forward(const std::vector<ForwardTask<F>>& tasks, bool chained, int num_threads);

template <class T>
void lstm_backward(const PackedWeights<T>& weights, const LstmBackward<T>& call, int num_threads);

// Several calls that have nothing to do with each other, but that a later one may add to the d_x of
// one before.
template <class T>
void lstm_backward(const std::vector<BackwardTask<T>>& tasks, int num_threads);

}  // namespace cpu
}  // namespace lstm_ext
