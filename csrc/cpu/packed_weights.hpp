// The weights of one LSTM, laid out for one kernel set.
#pragma once

#include <cstdint>
#include <mutex>

#include "cpu/buffer.hpp"
#include "cpu/kernel_set.hpp"
#include "cpu/panels.hpp"

namespace lstm_ext {
namespace cpu {

// Owns copies; immutable once made, so any number of threads may use it at once. The kernel set is
// chosen here and kept, so that layout and kernel cannot disagree.
template <class F>
class PackedWeights {
 public:
  using T = typename Format<F>::Value;

  // w_ih (I, 4H), w_hh (H, 4H): unit column stride, the given row strides. bias (4H) contiguous, or
  // null for none.
  PackedWeights(const KernelSet& set, int64_t input_size, int64_t hidden_size, const T* w_ih,
                int64_t w_ih_row_stride, const T* w_hh, int64_t w_hh_row_stride, const T* bias);

  const KernelSet& kernel_set() const { return set_; }
  const KernelTable<F>& kernels() const { return set_.table<F>(); }
  int64_t input_size() const { return input_size_; }
  int64_t hidden_size() const { return hidden_size_; }
  bool has_bias() const { return has_bias_; }

  // Units are padded to whole blocks of `lanes`.
  int64_t num_blocks() const { return num_blocks_; }
  int64_t padded_units() const { return num_blocks_ * kernels().lanes; }

  const GatePanels<F>& w_ih() const { return w_ih_; }
  const GatePanels<F>& w_hh() const { return w_hh_; }
  bool w_hh_is_finite() const { return w_hh_is_finite_; }
  const T* bias() const { return bias_.data(); }  // [block][gate][lane], zeros without a bias

  // The transposes (4H, I) and (4H, H), in plain panels, for the backward pass, which small formats
  // have not; made by the first call that asks for them.
  struct Transposed {
    int64_t panel_width;
    const T* panels;
  };
  Transposed w_ih_transposed() const;
  Transposed w_hh_transposed() const;

 private:
  struct LazyPanels {
    std::once_flag once;
    int64_t panel_width = 0;
    Buffer<T> panels;
  };
  Transposed transposed(LazyPanels& lazy, const GatePanels<F>& interleaved, int64_t k) const;

  const KernelSet& set_;
  int64_t input_size_, hidden_size_, num_blocks_;
  bool has_bias_, w_hh_is_finite_;
  GatePanels<F> w_ih_, w_hh_;
  Buffer<T> bias_;
  mutable LazyPanels w_ih_transposed_, w_hh_transposed_;
};

extern template class PackedWeights<float>;
extern template class PackedWeights<double>;
extern template PackedWeights<Bfloat16>::PackedWeights(const KernelSet&, int64_t, int64_t,
                                                       const float*, int64_t, const float*, int64_t,
                                                       const float*);
extern template PackedWeights<Int8>::PackedWeights(const KernelSet&, int64_t, int64_t, const float*,
                                                   int64_t, const float*, int64_t, const float*);

}  // namespace cpu
}  // namespace lstm_ext
