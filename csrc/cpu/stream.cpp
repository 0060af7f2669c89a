#include "cpu/stream.hpp"

#include <algorithm>

#include "cpu/partition.hpp"
#include "cpu/threads.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {
namespace {

constexpr int64_t kCell = 2, kTotals = 3;

}  // namespace

template <class T>
Stream<T>::Stream(std::shared_ptr<const PackedWeights<T>> weights, int64_t batch_size)
    : weights_(std::move(weights)),
      batch_size_(batch_size),
      state_stride_(weights_->padded_units() +
                    (batch_size > 1 ? int64_t{kCacheLine / sizeof(T)} : 0)),
      // One row of totals per row of the batch and block: threads work on different blocks.
      memory_(kTotals * batch_size_ * state_stride_ +
              batch_size_ * kNumGates * weights_->padded_units()) {
  std::fill(memory_.data(), memory_.data() + memory_.size(), T{0});
}

template <class T>
void Stream<T>::step(const T* x, int64_t x_row_stride, T* output, int num_threads) {
  const PackedWeights<T>& w = *weights_;
  StepArgs<T> args{};
  args.rows = batch_size_;
  args.hidden_size = w.hidden_size();
  args.num_operands = 2;
  args.operands[0] = {x, x_row_stride, w.input_size(), w.w_ih()};
  args.operands[1] = {part(current_), state_stride_, w.hidden_size(), w.w_hh()};
  args.bias = w.bias();
  args.c = part(kCell);
  args.h = part(1 - current_);
  args.state_row_stride = state_stride_;
  args.output = output;
  args.output_row_stride = w.hidden_size();
  Team team(multiply_adds({batch_size_, 1, w.input_size(), w.hidden_size()}), num_threads);
  team.run([&](int member) {
    const Range blocks = split(w.num_blocks(), team.size(), member);
    StepArgs<T> own = args;
    own.block_begin = blocks.begin;
    own.block_end = blocks.end;
    own.totals = part(kTotals) + blocks.begin * batch_size_ * kNumGates * w.kernels().lanes;
    w.kernels().step(own);
  });
  current_ = 1 - current_;
}

template <class T>
void Stream<T>::read_state(T* h, T* c) const {
  const int64_t hidden = weights_->hidden_size();
  for (int64_t row = 0; row < batch_size_; ++row) {
    const T* const from_h = part(current_) + row * state_stride_;
    const T* const from_c = part(kCell) + row * state_stride_;
    std::copy(from_h, from_h + hidden, h + row * hidden);
    std::copy(from_c, from_c + hidden, c + row * hidden);
  }
}

template <class T>
void Stream<T>::write_state(const T* h, const T* c) {
  const int64_t hidden = weights_->hidden_size();
  for (int64_t row = 0; row < batch_size_; ++row) {
    std::copy(h + row * hidden, h + (row + 1) * hidden, part(current_) + row * state_stride_);
    std::copy(c + row * hidden, c + (row + 1) * hidden, part(kCell) + row * state_stride_);
  }
}

template <class T>
void Stream<T>::reset(int64_t row) {
  T* const h = part(current_) + row * state_stride_;
  T* const c = part(kCell) + row * state_stride_;
  std::fill(h, h + state_stride_, T{0});
  std::fill(c, c + state_stride_, T{0});
}

template class Stream<float>;
template class Stream<double>;

}  // namespace cpu
}  // namespace lstm_ext
