// Gate-interleaved panels of one matrix of weights, in the format that a kernel set multiplies.
#pragma once

#include <cstdint>

#include "cpu/buffer.hpp"
#include "cpu/kernel_set.hpp"
#include "cpu/partition.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {

// w (k, 4H) as [block of lanes][k / group][gate][lane][k % group], in the order of the kernels'
// places, zero where there is no k or no unit. Owns its memory.
template <class F>
class GatePanels {
 public:
  using T = typename Format<F>::Value;
  using Weight = typename Format<F>::Weight;

  GatePanels() = default;
  // Unit column stride, the given row stride. The kernels outlive this.
  GatePanels(const KernelTable<F>& kernels, const T* w, int64_t row_stride, int64_t k,
             int64_t hidden_size);

  const Weight* data() const { return weights_.data(); }
  const Weight* block(int64_t block) const { return data() + block * block_size_; }
  int64_t bytes() const { return weights_.size() * int64_t{sizeof(Weight)}; }

  // For these rows of activations, and columns from this block on.
  Scales<F> scales(const Int8Row* rows, int64_t block) const;

 private:
  void pack_rows(const T* w, int64_t row_stride, const Range& rows, int64_t hidden_size);
  void pack_column(const T* w, int64_t row_stride, int64_t k, int64_t all_k, int64_t column);

  const KernelTable<F>* kernels_ = nullptr;
  int64_t padded_k_ = 0;
  int64_t block_size_ = 0, columns_ = 0;
  Buffer<Weight> weights_;
  Buffer<float> column_scales_, column_sums_;  // Int8 only, as the next: see Int8Columns
  Buffer<int32_t> starts_;
};

extern template class GatePanels<float>;
extern template class GatePanels<double>;
extern template class GatePanels<Bfloat16>;
extern template class GatePanels<Int8>;

}  // namespace cpu
}  // namespace lstm_ext
