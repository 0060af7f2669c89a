#include "cpu/panels.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "cpu/threads.hpp"

namespace lstm_ext {
namespace cpu {
namespace {

// As kernels round activations (kernel_set.hpp).
uint16_t to_bfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  if (magnitude < 0x00800000u) return static_cast<uint16_t>((bits >> 16) & 0x8000u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// The scale of a column (k) of w: its largest magnitude over 127, NaN if it is not finite.
float int8_scale(const float* column, int64_t row_stride, int64_t k) {
  float largest = 0;
  for (int64_t p = 0; p < k; ++p) {
    const float magnitude = std::fabs(column[p * row_stride]);
    if (!std::isfinite(magnitude)) return std::numeric_limits<float>::quiet_NaN();
    largest = std::max(largest, magnitude);
  }
  constexpr float kSmallest = 0x1p-100f;
  return largest < kSmallest ? 0.0f : largest / 127.0f;
}

// A vector has one of a few sizes: those are copied without a call.
template <class From, class To>
void copy_vector(const From* from, To* to, int64_t lanes) {
  const int64_t bytes = lanes * int64_t{sizeof(To)};
  if (std::is_same_v<From, To> && bytes == 64) {
    std::memcpy(to, from, 64);
  } else if (std::is_same_v<From, To> && bytes == 32) {
    std::memcpy(to, from, 32);
  } else {
    std::copy(from, from + lanes, to);
  }
}

// Moving an element takes about as long as so many multiply-adds.
constexpr int64_t kWorkPerElement = 8;

int8_t to_int8(float value, float scale) {
  return scale > 0 ? static_cast<int8_t>(std::nearbyint(value / scale)) : int8_t{0};
}

}  // namespace

template <class F>
GatePanels<F>::GatePanels(const KernelTable<F>& kernels, const T* w, int64_t row_stride, int64_t k,
                          int64_t hidden_size)
    : kernels_(&kernels), padded_k_(round_up(k, kernels.k_multiple)) {
  constexpr int64_t kDepth = Format<F>::kDepthBlock;
  const int64_t lanes = kernels.lanes, blocks = divide_up(hidden_size, lanes);
  block_size_ = padded_k_ * kNumGates * lanes;
  columns_ = blocks * kNumGates * lanes;
  weights_ = Buffer<Weight>(blocks * block_size_);
  if (std::is_same_v<F, Int8>) {
    column_scales_ = Buffer<float>(columns_);
    column_sums_ = Buffer<float>(divide_up(k, kDepth) * columns_);
    starts_ = Buffer<int32_t>(divide_up(k, kDepth) * columns_);
  }
  if constexpr (Format<F>::kEncodes) {
    for_parts(columns_, columns_ * k * kWorkPerElement, [&](const Range& columns) {
      for (int64_t column = columns.begin; column < columns.end; ++column) {
        const int64_t lane = column % lanes, gate = column / lanes % kNumGates;
        const int64_t unit = column / (kNumGates * lanes) * lanes + lane;
        const bool padding = unit >= hidden_size;
        pack_column(padding ? w : w + gate * hidden_size + unit, row_stride, padding ? 0 : k, k,
                    column);
      }
    });
  } else {
    for_parts(k, columns_ * k * kWorkPerElement,
              [&](const Range& rows) { pack_rows(w, row_stride, rows, hidden_size); });
  }
}

// Rows of a format that stores values. A few at a time, so that they are read along their
// contiguous side and panels are written in runs that are longer than a line.
template <class F>
void GatePanels<F>::pack_rows(const T* w, int64_t row_stride, const Range& rows,
                              int64_t hidden_size) {
  constexpr int64_t kRun = 8;
  const int64_t lanes = kernels_->lanes, width = kNumGates * lanes;
  for (int64_t p0 = rows.begin; p0 < rows.end; p0 += kRun) {
    for (int64_t unit = 0; unit < hidden_size; unit += lanes) {
      const int64_t units = std::min<int64_t>(lanes, hidden_size - unit);
      Weight* out = weights_.data() + unit / lanes * block_size_ + p0 * width;
      for (int64_t p = p0; p < std::min(p0 + kRun, rows.end); ++p) {
        for (int64_t gate = 0; gate < kNumGates; ++gate, out += lanes) {
          const T* const in = w + p * row_stride + gate * hidden_size + unit;
          if (units == lanes) {
            copy_vector(in, out, units);
          } else {
            std::copy(in, in + units, out);
            std::fill(out + units, out + lanes, Weight{0});
          }
        }
      }
    }
  }
}

// One column of a small format: its first k of all_k weights, then zeros.
template <class F>
void GatePanels<F>::pack_column(const T* w, int64_t row_stride, int64_t k, int64_t all_k,
                                int64_t column) {
  const int64_t width = kNumGates * kernels_->lanes, group = kernels_->group;
  Weight* const out = weights_.data() + column / width * block_size_ + column % width * group;
  const auto at = [&](int64_t p) -> Weight& {
    const int64_t place = p / 4 * 4 + kernels_->places.of[p % 4];
    return out[place / group * group * width + place % group];
  };
  for (int64_t p = k; p < padded_k_; ++p) at(p) = 0;
  if constexpr (std::is_same_v<F, Bfloat16>) {
    for (int64_t p = 0; p < k; ++p) at(p) = to_bfloat16(w[p * row_stride]);
  } else if constexpr (std::is_same_v<F, Int8>) {
    const float scale = int8_scale(w, row_stride, k);
    for (int64_t p = 0; p < k; ++p) at(p) = to_int8(w[p * row_stride], scale);
    column_scales_.data()[column] = scale;
    constexpr int64_t kDepth = Format<F>::kDepthBlock;
    for (int64_t k0 = 0; k0 < all_k; k0 += kDepth) {
      int32_t sum = 0;
      for (int64_t p = k0; p < std::min(k, k0 + kDepth); ++p) sum += at(p);
      const int64_t place = k0 / kDepth * columns_ + column;
      column_sums_.data()[place] = static_cast<float>(sum) * scale;
      starts_.data()[place] = -kernels_->offset * sum;
    }
  }
}

template <class F>
Scales<F> GatePanels<F>::scales(const Int8Row* rows, int64_t block) const {
  if constexpr (std::is_same_v<F, Int8>) {
    const int64_t column = block * kNumGates * kernels_->lanes;
    return {rows,
            {column_scales_.data() + column, column_sums_.data() + column, starts_.data() + column,
             columns_}};
  } else {
    static_cast<void>(rows);
    static_cast<void>(block);
    return {};
  }
}

template class GatePanels<float>;
template class GatePanels<double>;
template class GatePanels<Bfloat16>;
template class GatePanels<Int8>;

}  // namespace cpu
}  // namespace lstm_ext
