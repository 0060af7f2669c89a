#include "cpu/stream.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "cpu/layer_norm.hpp"
#include "cpu/partition.hpp"
#include "cpu/shares.hpp"
#include "cpu/step_pieces.hpp"
#include "cpu/threads.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {
template <class F>
Stream<F>::Stream(std::shared_ptr<const PackedWeights<F>> weights, int64_t batch_size)
    : weights_(std::move(weights)),
      batch_size_(batch_size),
      projects_(weights_->projection_size() > 0),
      finishes_h_(projects_ || weights_->cell().zoneout > 0),
      encoded_x_(weights_->kernels(), batch_size, weights_->input_size()),
      encoded_h_(weights_->kernels(), batch_size, weights_->output_size()),
      encoded_memory_(encoded_x_.bytes() + encoded_h_.bytes()) {
  if (!weights_->has_w_hh()) refuse_more_than_a_step();
  encoded_x_.place(encoded_memory_.data());
  encoded_h_.place(encoded_memory_.data() + encoded_x_.bytes());
  const int64_t lanes = weights_->kernels().lanes, units = weights_->padded_units();
  // A power-of-two distance would put all rows of h into the same sets of the cache.
  const int64_t gap = batch_size > 1 ? int64_t{kCacheLine / sizeof(T)} : 0;
  const int64_t cell_stride = units + gap;
  const int64_t h_stride =
      projects_ ? round_up(weights_->projection_size(), lanes) + gap : cell_stride;
  const int64_t hidden = weights_->hidden_size();
  const int64_t norm_size = weights_->has_norm()
                                ? 2 * batch_size * kNumGates * units + kNumGates * hidden +
                                      NormCell<T, F>::scratch_size(hidden)
                                : 0;
  memory_ = Buffer<T>(
      batch_size * (2 * h_stride + (1 + projects_) * cell_stride + kNumGates * units) + norm_size);
  std::fill(memory_.data(), memory_.data() + memory_.size(), T{0});
  T* next = memory_.data();
  const auto take = [&](int64_t stride) {
    const Area area{next, stride};
    next += batch_size * stride;
    return area;
  };
  h_[0] = take(h_stride);
  h_[1] = take(h_stride);
  c_ = take(cell_stride);
  if (projects_) made_ = take(cell_stride);
  totals_ = next;
  norm_ = next + batch_size * kNumGates * units;
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
  const Rows<F> hs = rows(h().data, h().stride, encoded_h_);
  const CellVariant<T> variant = w.variant(false);
  StepArgs<F> args{};
  args.rows = batch_size_;
  args.hidden_size = w.hidden_size();
  args.num_operands = 2;
  args.operands[0] = {xs.data, xs.row_stride, w.input_size(), w.w_ih().data(),
                      w.w_ih().scales(xs.scales, 0)};
  args.operands[1] = {hs.data, hs.row_stride, w.output_size(), w.w_hh().data(),
                      w.w_hh().scales(hs.scales, 0)};
  args.descending = current_ == 1;  // there and back, as in a sequence
  args.bias = w.bias();
  args.c = c_.data;
  args.h = projects_ ? made_.data : next_h().data;
  args.state_row_stride = c_.stride;
  args.output = finishes_h_ ? nullptr : output;
  args.output_row_stride = w.hidden_size();
  args.variant = w.has_variant() ? &variant : nullptr;
  w.has_norm() ? run_norm_cells(args) : run_cells(args, num_threads);
  if (finishes_h_) finish(output);
  current_ = 1 - current_;
}

template <class F>
void Stream<F>::run_cells(const StepArgs<F>& args, int num_threads) {
  using Clock = std::chrono::steady_clock;
  const int64_t work = multiply_adds(weights_->shape(batch_size_, 1));
  const bool is_worth_a_team = threads_worth(work, kMinWorkPerLateThread) > 1;
  const bool times = is_worth_a_team && trial_.tries();
  const Clock::time_point start = times ? Clock::now() : Clock::time_point{};
  {
    Team team(work, is_worth_a_team && trial_.by_team() ? num_threads : 1, kMinWorkPerLateThread);
    run_blocks(args, team);
  }
  if (is_worth_a_team) trial_.done(times ? (Clock::now() - start).count() : 0);
}

template <class F>
void Stream<F>::run_blocks(const StepArgs<F>& args, Team& team) const {
  const PackedWeights<F>& w = *weights_;
  const int64_t size = team.size() == 1 ? w.num_blocks() : blocks_in_a_piece(batch_size_);
  const auto run = [&](int64_t piece) {
    StepArgs<F> own = args;
    own.totals = totals_ + piece * size * batch_size_ * kNumGates * w.kernels().lanes;
    run_piece(w, size, piece, own);
  };
  if (team.size() == 1) return run(0);
  Shares shares(divide_up(w.num_blocks(), size), team.size(), args.descending);
  team.run_with_late([&](int member) { shares.work(member, run); });
}

// On the calling thread: a row's sums need all of its products.
template <class F>
void Stream<F>::run_norm_cells(const StepArgs<F>& args) const {
  if constexpr (!Format<F>::kEncodes) {
    const PackedWeights<F>& w = *weights_;
    const int64_t width = kNumGates * w.kernels().lanes, columns = w.num_blocks() * width;
    T* const products[2] = {norm_, norm_ + batch_size_ * columns};
    T* const z = norm_ + 2 * batch_size_ * columns;
    for (int i = 0; i < 2; ++i) {
      const StepOperand<F>& a = args.operands[i];
      w.kernels().gemm({batch_size_, columns, a.k, a.a, a.a_row_stride, 1, a.panels, width, nullptr,
                        products[i], columns, false});
    }
    const NormCell<T, F> cell(w);
    for (int64_t row = 0; row < batch_size_; ++row) {
      T* const h = args.h + row * args.state_row_stride;
      cell.forward(products[0] + row * columns, products[1] + row * columns, c_.row(row), h, z,
                   false, nullptr, z + kNumGates * w.hidden_size());
      if (args.output) {
        std::copy(h, h + w.hidden_size(), args.output + row * args.output_row_stride);
      }
    }
  } else {
    static_cast<void>(args);
  }
}

// As ForwardWorker's, without noise and masks.
template <class F>
void Stream<F>::finish(T* output) const {
  const PackedWeights<F>& w = *weights_;
  const int64_t size = w.output_size();
  if (projects_) {
    w.value_kernels().gemm({batch_size_, size, w.hidden_size(), made_.data, made_.stride, 1,
                            w.w_hr().panels, w.w_hr().panel_width, nullptr, next_h().data,
                            next_h().stride, false});
  }
  const T share = static_cast<T>(w.cell().zoneout);
  for (int64_t row = 0; row < batch_size_; ++row) {
    T* const next = next_h().row(row);
    const T* const before = h().row(row);
    for (int64_t j = 0; share > 0 && j < size; ++j) {
      next[j] = share * before[j] + (T{1} - share) * next[j];
    }
    std::copy(next, next + size, output + row * size);
  }
}

template <class F>
void Stream<F>::read_state(T* h, T* c) const {
  const int64_t hidden = weights_->hidden_size(), size = weights_->output_size();
  for (int64_t row = 0; row < batch_size_; ++row) {
    std::copy(this->h().row(row), this->h().row(row) + size, h + row * size);
    std::copy(c_.row(row), c_.row(row) + hidden, c + row * hidden);
  }
}

template <class F>
void Stream<F>::write_state(const T* h, const T* c) {
  const int64_t hidden = weights_->hidden_size(), size = weights_->output_size();
  for (int64_t row = 0; row < batch_size_; ++row) {
    std::copy(h + row * size, h + (row + 1) * size, this->h().row(row));
    std::copy(c + row * hidden, c + (row + 1) * hidden, c_.row(row));
  }
}

template <class F>
void Stream<F>::reset(int64_t row) {
  for (const Area* area : {&h(), static_cast<const Area*>(&c_)}) {
    std::fill(area->row(row), area->row(row) + area->stride, T{0});
  }
}

template class Stream<float>;
template class Stream<double>;
template class Stream<Bfloat16>;
template class Stream<Int8>;

}  // namespace cpu
}  // namespace lstm_ext
