#include "cpu/packed_weights.hpp"

#include <algorithm>
#include <atomic>

#include "cpu/finite.hpp"
#include "cpu/gemm.hpp"
#include "cpu/threads.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {

template <class F>
PackedWeights<F>::PackedWeights(const KernelSet& set, int64_t input_size, int64_t hidden_size,
                                const T* w_ih, int64_t w_ih_row_stride, const T* w_hh,
                                int64_t w_hh_row_stride, const T* bias)
    : set_(set),
      input_size_(input_size),
      hidden_size_(hidden_size),
      num_blocks_(divide_up(hidden_size, set.table<F>().lanes)),
      has_bias_(bias != nullptr),
      w_hh_is_finite_(true),
      w_ih_(kernels(), w_ih, w_ih_row_stride, input_size, hidden_size),
      w_hh_(kernels(), w_hh, w_hh_row_stride, hidden_size, hidden_size),
      bias_(num_blocks_ * kNumGates * kernels().lanes) {
  const int64_t columns = kNumGates * hidden_size, lanes = kernels().lanes;
  std::atomic<bool> finite{true};
  for_parts(hidden_size, hidden_size * columns, [&](const Range& rows) {
    for (int64_t p = rows.begin; p < rows.end && finite; ++p) {
      if (!all_finite(w_hh + p * w_hh_row_stride, columns)) finite = false;
    }
  });
  w_hh_is_finite_ = finite;
  std::fill(bias_.data(), bias_.data() + bias_.size(), T{0});
  for (int64_t unit = 0; bias && unit < hidden_size; unit += lanes) {
    const int64_t units = std::min(lanes, hidden_size - unit);
    for (int64_t gate = 0; gate < kNumGates; ++gate) {
      const T* const from = bias + gate * hidden_size + unit;
      std::copy(from, from + units, bias_.data() + unit * kNumGates + gate * lanes);
    }
  }
}

template <class F>
typename PackedWeights<F>::Transposed PackedWeights<F>::w_ih_transposed() const {
  return transposed(w_ih_transposed_, w_ih_, input_size_);
}

template <class F>
typename PackedWeights<F>::Transposed PackedWeights<F>::w_hh_transposed() const {
  return transposed(w_hh_transposed_, w_hh_, hidden_size_);
}

// From the interleaved panels, so that the caller's arrays need not be kept: element (p, gate,
// unit) of w (k, 4H) becomes row gate * H + unit, column p.
template <class F>
typename PackedWeights<F>::Transposed PackedWeights<F>::transposed(LazyPanels& lazy,
                                                                   const GatePanels<F>& interleaved,
                                                                   int64_t k) const {
  std::call_once(lazy.once, [&] {
    const int64_t lanes = kernels().lanes;
    const int64_t width = panel_width_for(kernels(), k);
    const int64_t rows = kNumGates * hidden_size_;
    Buffer<T> panels(packed_size(rows, k, width));
    // A square of a vector's lanes and as many columns at a time: both sides of it stay in the
    // first-level cache.
    const auto transpose = [&](int64_t block, int64_t gate, int64_t column) {
      const int64_t units = std::min(lanes, hidden_size_ - block * lanes);
      const int64_t row = gate * hidden_size_ + block * lanes;
      const T* const in = interleaved.block(block) + (column * kNumGates + gate) * lanes;
      T* const out = panels.data() + column / width * width * rows + row * width + column % width;
      const int64_t columns = std::max<int64_t>(0, std::min(lanes, k - column));
      for (int64_t unit = 0; unit < units; ++unit) {
        for (int64_t j = 0; j < columns; ++j) {
          out[unit * width + j] = in[j * kNumGates * lanes + unit];
        }
        std::fill(out + unit * width + columns, out + unit * width + lanes, T{0});
      }
    };
    constexpr int64_t kWorkPerElement = 16;  // in multiply-adds
    for_parts(round_up(k, width) / lanes, rows * k * kWorkPerElement, [&](const Range& part) {
      for (int64_t column = part.begin * lanes; column < part.end * lanes; column += lanes) {
        for (int64_t block = 0; block < num_blocks_; ++block) {
          for (int64_t gate = 0; gate < kNumGates; ++gate) transpose(block, gate, column);
        }
      }
    });
    lazy.panel_width = width;
    lazy.panels = std::move(panels);
  });
  return {lazy.panel_width, lazy.panels.data()};
}

template class PackedWeights<float>;
template class PackedWeights<double>;
template PackedWeights<Bfloat16>::PackedWeights(const KernelSet&, int64_t, int64_t, const float*,
                                                int64_t, const float*, int64_t, const float*);
template PackedWeights<Int8>::PackedWeights(const KernelSet&, int64_t, int64_t, const float*,
                                            int64_t, const float*, int64_t, const float*);

}  // namespace cpu
}  // namespace lstm_ext
