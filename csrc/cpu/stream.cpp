#include "cpu/stream.hpp"

#include <algorithm>

#include "cpu/partition.hpp"
#include "cpu/shares.hpp"
#include "cpu/threads.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {
namespace {

constexpr int64_t kCell = 2, kTotals = 3;

}  // namespace

template <class F>
Stream<F>::Stream(std::shared_ptr<const PackedWeights<F>> weights, int64_t batch_size)
    : weights_(std::move(weights)),
      batch_size_(batch_size),
      state_stride_(weights_->padded_units() +
                    (batch_size > 1 ? int64_t{kCacheLine / sizeof(T)} : 0)),
      // One row of totals per row of the batch and block: threads work on different blocks.
      memory_(kTotals * batch_size_ * state_stride_ +
              batch_size_ * kNumGates * weights_->padded_units()),
      encoded_x_(weights_->kernels(), batch_size, weights_->input_size()),
      encoded_h_(weights_->kernels(), batch_size, weights_->hidden_size()),
      encoded_memory_(encoded_x_.bytes() + encoded_h_.bytes()) {
  encoded_x_.place(encoded_memory_.data());
  encoded_h_.place(encoded_memory_.data() + encoded_x_.bytes());
  std::fill(memory_.data(), memory_.data() + memory_.size(), T{0});
}

template <class F>
Rows<F> Stream<F>::rows(const T* x, int64_t row_stride, EncodedRows<F>& encoded) const {
  if constexpr (Format<F>::kEncodes) {
    for (int64_t row = 0; row < batch_size_; ++row) encoded.encode(row, x + row * row_stride);
    return encoded.rows(0);
  } else {
    return {x, row_stride, 1, nullptr};
  }
}

template <class F>
void Stream<F>::step(const T* x, int64_t x_row_stride, T* output, int num_threads) {
  const PackedWeights<F>& w = *weights_;
  const Rows<F> xs = rows(x, x_row_stride, encoded_x_);
  const Rows<F> hs = rows(part(current_), state_stride_, encoded_h_);
  StepArgs<F> args{};
  args.rows = batch_size_;
  args.hidden_size = w.hidden_size();
  args.num_operands = 2;
  args.operands[0] = {xs.data, xs.row_stride, w.input_size(), w.w_ih().data(),
                      w.w_ih().scales(xs.scales, 0)};
  args.operands[1] = {hs.data, hs.row_stride, w.hidden_size(), w.w_hh().data(),
                      w.w_hh().scales(hs.scales, 0)};
  args.descending = current_ == 1;  // there and back, as in a sequence
  args.bias = w.bias();
  args.c = part(kCell);
  args.h = part(1 - current_);
  args.state_row_stride = state_stride_;
  args.output = output;
  args.output_row_stride = w.hidden_size();
  Team team(multiply_adds({batch_size_, 1, w.input_size(), w.hidden_size()}), num_threads);
  const auto run = [&](int64_t begin, int64_t end) {
    StepArgs<F> own = args;
    own.block_begin = begin;
    own.block_end = end;
    own.totals = part(kTotals) + begin * batch_size_ * kNumGates * w.kernels().lanes;
    w.kernels().step(own);
  };
  if (team.size() == 1) {
    run(0, w.num_blocks());
  } else {
    Shares shares(w.num_blocks(), team.size(), args.descending);
    team.run_with_late(
        [&](int member) { shares.work(member, [&](int64_t block) { run(block, block + 1); }); });
  }
  current_ = 1 - current_;
}

template <class F>
void Stream<F>::read_state(T* h, T* c) const {
  const int64_t hidden = weights_->hidden_size();
  for (int64_t row = 0; row < batch_size_; ++row) {
    const T* const from_h = part(current_) + row * state_stride_;
    const T* const from_c = part(kCell) + row * state_stride_;
    std::copy(from_h, from_h + hidden, h + row * hidden);
    std::copy(from_c, from_c + hidden, c + row * hidden);
  }
}

template <class F>
void Stream<F>::write_state(const T* h, const T* c) {
  const int64_t hidden = weights_->hidden_size();
  for (int64_t row = 0; row < batch_size_; ++row) {
    std::copy(h + row * hidden, h + (row + 1) * hidden, part(current_) + row * state_stride_);
    std::copy(c + row * hidden, c + (row + 1) * hidden, part(kCell) + row * state_stride_);
  }
}

template <class F>
void Stream<F>::reset(int64_t row) {
  T* const h = part(current_) + row * state_stride_;
  T* const c = part(kCell) + row * state_stride_;
  std::fill(h, h + state_stride_, T{0});
  std::fill(c, c + state_stride_, T{0});
}

template class Stream<float>;
template class Stream<double>;
template class Stream<Bfloat16>;
template class Stream<Int8>;

}  // namespace cpu
}  // namespace lstm_ext
