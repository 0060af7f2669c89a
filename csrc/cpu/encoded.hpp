// Rows of activations in the form that the kernels of a format multiply.
#pragma once

#include <cstdint>

#include "cpu/buffer.hpp"
#include "cpu/kernel_set.hpp"

namespace lstm_ext {
namespace cpu {

// (rows, k) as kernels read it: strides count Format<F>::Activation.
template <class F>
struct Rows {
  const typename Format<F>::Activation* data;
  int64_t row_stride, column_stride;
  const Int8Row* scales;  // of the rows; null but for Int8
};

// Room for encoded rows of k values: nothing for the formats that need no encoding. The memory is
// the caller's.
template <class F>
class EncodedRows {
 public:
  EncodedRows() = default;
  EncodedRows(const KernelTable<F>& kernels, int64_t rows, int64_t k) : kernels_(&kernels), k_(k) {
    if constexpr (Format<F>::kEncodes) {
      group_bytes_ = kernels.group * kernels.activation_bytes;
      row_bytes_ = round_up(round_up(k, kernels.k_multiple) * kernels.activation_bytes, kCacheLine);
      // A power-of-two distance would put all rows into the same sets of the cache.
      if (rows > 1) row_bytes_ += kCacheLine;
      rows_ = rows;
    }
  }

  int64_t bytes() const {
    return Scratch::bytes_for<Int8Row>(rows_) +
           Scratch::bytes_for<unsigned char>(rows_ * row_bytes_);
  }
  void place(unsigned char* memory) {
    scales_ = reinterpret_cast<Int8Row*>(memory);
    data_ = memory + Scratch::bytes_for<Int8Row>(rows_);
  }

  // x (k) becomes row `row`.
  void encode(int64_t row, const float* x) {
    kernels_->encode(k_, x, data_ + row * row_bytes_, scales_ + row);
  }
  Rows<F> rows(int64_t begin) const {
    return {data_ + begin * row_bytes_, row_bytes_, group_bytes_, scales_ + begin};
  }

 private:
  const KernelTable<F>* kernels_ = nullptr;
  int64_t rows_ = 0, k_ = 0, row_bytes_ = 0, group_bytes_ = 0;
  Int8Row* scales_ = nullptr;
  unsigned char* data_ = nullptr;
};

}  // namespace cpu
}  // namespace lstm_ext
