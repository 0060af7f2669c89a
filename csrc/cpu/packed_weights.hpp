// The weights of one LSTM, laid out for one kernel set.
#pragma once

#include <cstdint>
#include <mutex>

#include "cpu/buffer.hpp"
#include "cpu/kernel_set.hpp"
#include "cpu/panels.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {

// The weights of one LSTM as they come, and what kind of cell they are for. w_ih (I, 4H) and w_hh
// (P, 4H) have unit column stride; the others are contiguous, or null for none. Copied by whoever
// takes them.
template <class T>
struct WeightArrays {
  int64_t input_size, hidden_size;
  int64_t projection_size;  // 0: none
  const T* w_ih;
  int64_t w_ih_row_stride;
  const T* w_hh;
  int64_t w_hh_row_stride;
  const T* bias;                // (4H)
  const T* peephole = nullptr;  // (3H): i, f, o
  const T* w_hr = nullptr;      // (H, P), with a projection
  // All four or none, which is no layer normalisation.
  const T *kernel_gain = nullptr, *recurrent_gain = nullptr;  // (4H)
  const T *cell_gain = nullptr, *cell_offset = nullptr;       // (H)
  CellOptions cell{};

  int64_t output_size() const { return projection_size > 0 ? projection_size : hidden_size; }
};

// What weights are laid out for. A single step from no state multiplies its h, which is zero, by
// nothing: w_hh is then left out.
enum class StepsOf { kAnySequence, kSingleStep };

[[noreturn]] void refuse_more_than_a_step();

// Owns copies; immutable once made, so any number of threads may use it at once. The kernel set is
// chosen here and kept, so that layout and kernel cannot disagree.
template <class F>
class PackedWeights {
 public:
  using Stored = F;
  using T = typename Format<F>::Value;

  PackedWeights(const KernelSet& set, const WeightArrays<T>& arrays,
                StepsOf steps = StepsOf::kAnySequence);

  const KernelSet& kernel_set() const { return set_; }
  const KernelTable<F>& kernels() const { return set_.table<F>(); }
  // For products with weights that are stored as they are.
  const KernelTable<T>& value_kernels() const { return set_.table<T>(); }
  int64_t input_size() const { return input_size_; }
  int64_t hidden_size() const { return hidden_size_; }
  int64_t projection_size() const { return projection_size_; }
  int64_t output_size() const { return projection_size_ > 0 ? projection_size_ : hidden_size_; }
  bool has_bias() const { return has_bias_; }
  LstmShape shape(int64_t batch_size, int64_t seq_len) const {
    return {batch_size, seq_len, input_size_, hidden_size_, projection_size_};
  }

  const CellOptions& cell() const { return cell_; }
  // Whether the cells of a step are others than the plain ones. A projection and zoneout of h come
  // after them.
  bool has_variant() const { return peephole() || !is_plain_; }
  // What kernels are told of them. A backward pass reads z where the gates do not tell the slopes.
  CellVariant<T> variant(bool for_backward) const {
    return {&cell_, peephole(), is_plain_, is_usual_,
            for_backward && !(is_usual_ && cell_.clip == 0)};
  }
  // With layer normalisation, in the order of the gates; bias is null without one.
  struct Norm {
    const T *kernel_gain, *recurrent_gain, *bias;  // (4H)
    const T *cell_gain, *cell_offset;              // (H)
  };
  bool has_norm() const { return norm_.data() != nullptr; }
  Norm norm() const {
    const T* const p = norm_.data();
    const int64_t h = hidden_size_;
    return {p, p + 4 * h, has_bias_ ? p + 10 * h : nullptr, p + 8 * h, p + 9 * h};
  }
  // [block][i, f, o][lane], zeros in padded lanes; null without peepholes.
  const T* peephole() const { return peephole_.data(); }

  // Units are padded to whole blocks of `lanes`.
  int64_t num_blocks() const { return num_blocks_; }
  int64_t padded_units() const { return num_blocks_ * kernels().lanes; }

  const GatePanels<F>& w_ih() const { return w_ih_; }
  // Empty if they are for a single step, are finite and have no layer normalisation.
  const GatePanels<F>& w_hh() const { return w_hh_; }
  bool has_w_hh() const { return w_hh_.data() != nullptr; }
  bool w_hh_is_finite() const { return w_hh_is_finite_; }
  const T* bias() const { return bias_.data(); }  // [block][gate][lane], zeros without a bias

  // w_hr (H, P) in plain panels, with a projection; and its transpose, made when asked for.
  struct Panels {
    int64_t panel_width;
    const T* panels;
  };
  Panels w_hr() const { return {w_hr_width_, w_hr_.data()}; }
  Panels w_hr_transposed() const;

  // The transposes (4H, I) and (4H, P), in plain panels, for the backward pass, which small formats
  // have not; made by the first call that asks for them.
  Panels w_ih_transposed() const;
  Panels w_hh_transposed() const;

 private:
  struct LazyPanels {
    std::once_flag once;
    int64_t panel_width = 0;
    Buffer<T> panels;
  };
  Panels transposed(LazyPanels& lazy, const GatePanels<F>& interleaved, int64_t k) const;

  const KernelSet& set_;
  int64_t input_size_, hidden_size_, projection_size_, num_blocks_;
  bool has_bias_, w_hh_is_finite_, is_usual_, is_plain_;
  CellOptions cell_;
  GatePanels<F> w_ih_, w_hh_;
  Buffer<T> bias_, peephole_, norm_;
  int64_t w_hr_width_ = 0;
  Buffer<T> w_hr_;
  mutable LazyPanels w_ih_transposed_, w_hh_transposed_, w_hr_transposed_;
};

extern template class PackedWeights<float>;
extern template class PackedWeights<double>;
extern template PackedWeights<Bfloat16>::PackedWeights(const KernelSet&, const WeightArrays<float>&,
                                                       StepsOf);
extern template PackedWeights<Int8>::PackedWeights(const KernelSet&, const WeightArrays<float>&,
                                                   StepsOf);

}  // namespace cpu
}  // namespace lstm_ext
