#include "cpu/packed_weights.hpp"

#include <algorithm>

#include "cpu/finite.hpp"
#include "cpu/gemm.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {
namespace {

// w (k, 4H) -> [block][k][gate][lane]
template <class T>
Buffer<T> interleave(const T* w, int64_t row_stride, int64_t k, int64_t hidden, int64_t lanes) {
  const int64_t blocks = divide_up(hidden, lanes);
  Buffer<T> packed(blocks * k * kNumGates * lanes);
  T* out = packed.data();
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t units = std::min(lanes, hidden - block * lanes);
    for (int64_t p = 0; p < k; ++p) {
      for (int64_t gate = 0; gate < kNumGates; ++gate, out += lanes) {
        const T* source = w + p * row_stride + gate * hidden + block * lanes;
        std::copy(source, source + units, out);
        std::fill(out + units, out + lanes, T{0});
      }
    }
  }
  return packed;
}

}  // namespace

template <class T>
PackedWeights<T>::PackedWeights(const KernelSet& set, int64_t input_size, int64_t hidden_size,
                                const T* w_ih, int64_t w_ih_row_stride, const T* w_hh,
                                int64_t w_hh_row_stride, const T* bias)
    : set_(set),
      input_size_(input_size),
      hidden_size_(hidden_size),
      num_blocks_(divide_up(hidden_size, set.table<T>().lanes)),
      has_bias_(bias != nullptr) {
  const int64_t lanes = kernels().lanes;
  w_ih_ = interleave(w_ih, w_ih_row_stride, input_size, hidden_size, lanes);
  w_hh_ = interleave(w_hh, w_hh_row_stride, hidden_size, hidden_size, lanes);
  w_hh_is_finite_ = all_finite(w_hh_.data(), w_hh_.size());
  if (bias) {
    bias_ = interleave(bias, 0, 1, hidden_size, lanes);
  } else {
    bias_ = Buffer<T>(num_blocks_ * kNumGates * lanes);
    std::fill(bias_.data(), bias_.data() + bias_.size(), T{0});
  }
}

template <class T>
typename PackedWeights<T>::Transposed PackedWeights<T>::w_ih_transposed() const {
  return transposed(w_ih_transposed_, w_ih_, input_size_);
}

template <class T>
typename PackedWeights<T>::Transposed PackedWeights<T>::w_hh_transposed() const {
  return transposed(w_hh_transposed_, w_hh_, hidden_size_);
}

// From the interleaved panels, so that the caller's arrays need not be kept: element (p, gate,
// unit) of w (k, 4H) becomes row gate * H + unit, column p.
template <class T>
typename PackedWeights<T>::Transposed PackedWeights<T>::transposed(LazyPanels& lazy,
                                                                   const Buffer<T>& interleaved,
                                                                   int64_t k) const {
  std::call_once(lazy.once, [&] {
    const int64_t lanes = kernels().lanes;
    const int64_t width = panel_width_for(kernels(), k);
    const int64_t rows = kNumGates * hidden_size_;
    Buffer<T> panels(packed_size(rows, k, width));
    for (int64_t column = 0; column < k; column += width) {
      const int64_t columns = std::min(width, k - column);
      T* const panel = panels.data() + column * rows;
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t unit = row % hidden_size_, gate = row / hidden_size_;
        const int64_t block = unit / lanes;
        const T* source = interleaved.data() + (block * k + column) * kNumGates * lanes +
                          gate * lanes + unit % lanes;
        T* const out = panel + row * width;
        for (int64_t j = 0; j < columns; ++j) out[j] = source[j * kNumGates * lanes];
        std::fill(out + columns, out + width, T{0});
      }
    }
    lazy.panel_width = width;
    lazy.panels = std::move(panels);
  });
  return {lazy.panel_width, lazy.panels.data()};
}

template class PackedWeights<float>;
template class PackedWeights<double>;

}  // namespace cpu
}  // namespace lstm_ext
