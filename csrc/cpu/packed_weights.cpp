#include "cpu/packed_weights.hpp"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <utility>

#include "cpu/gemm.hpp"
#include "cpu/threads.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {

namespace {

bool is_plain(const ActivationOptions& a, ActivationKind kind) {
  return a.kind == kind && a.alpha == 1 && a.beta == 1;
}

bool has_usual_activations(const CellOptions& cell) {
  return is_plain(cell.recurrent, ActivationKind::kSigmoid) &&
         is_plain(cell.candidate, ActivationKind::kTanh) &&
         is_plain(cell.output, ActivationKind::kTanh);
}

bool is_plain(const CellOptions& cell) {
  return has_usual_activations(cell) && cell.clip == 0 && cell.cell_clip == 0 &&
         !cell.input_forget && cell.cell_zoneout == 0;
}

// parts (count, H), one part after the other, as [block][part][lane] with zeros in padded lanes.
template <class T>
Buffer<T> interleaved(const T* parts, int64_t count, int64_t hidden_size, int64_t lanes) {
  Buffer<T> out(round_up(hidden_size, lanes) * count);
  std::fill(out.data(), out.data() + out.size(), T{0});
  for (int64_t unit = 0; parts && unit < hidden_size; unit += lanes) {
    const int64_t units = std::min(lanes, hidden_size - unit);
    for (int64_t part = 0; part < count; ++part) {
      const T* const from = parts + part * hidden_size + unit;
      std::copy(from, from + units, out.data() + unit * count + part * lanes);
    }
  }
  return out;
}

template <class T>
bool is_finite(const KernelTable<T>& kernels, const T* w, int64_t row_stride, int64_t rows,
               int64_t columns) {
  std::atomic<bool> finite{true};
  for_parts(rows, rows * columns, [&](const Range& part) {
    for (int64_t p = part.begin; p < part.end && finite; ++p) {
      if (!kernels.all_finite(columns, w + p * row_stride)) finite = false;
    }
  });
  return finite;
}

}  // namespace

void refuse_more_than_a_step() {
  throw std::invalid_argument("weights: expected some that were laid out for any sequence");
}

template <class F>
PackedWeights<F>::PackedWeights(const KernelSet& set, const WeightArrays<T>& arrays, StepsOf steps)
    : set_(set),
      input_size_(arrays.input_size),
      hidden_size_(arrays.hidden_size),
      projection_size_(arrays.projection_size),
      num_blocks_(divide_up(arrays.hidden_size, set.table<F>().lanes)),
      has_bias_(arrays.bias != nullptr),
      w_hh_is_finite_(is_finite(value_kernels(), arrays.w_hh, arrays.w_hh_row_stride, output_size(),
                                kNumGates * arrays.hidden_size)),
      is_usual_(has_usual_activations(arrays.cell)),
      is_plain_(lstm_ext::cpu::is_plain(arrays.cell)),
      cell_(arrays.cell),
      w_ih_(kernels(), arrays.w_ih, arrays.w_ih_row_stride, input_size_, hidden_size_),
      bias_(interleaved(arrays.bias, kNumGates, hidden_size_, kernels().lanes)) {
  if (steps == StepsOf::kAnySequence || !w_hh_is_finite_ || arrays.kernel_gain) {
    w_hh_ = {kernels(), arrays.w_hh, arrays.w_hh_row_stride, output_size(), hidden_size_};
  }
  if (arrays.peephole) {
    peephole_ = interleaved(arrays.peephole, 3, hidden_size_, kernels().lanes);
  }
  if (arrays.kernel_gain) {
    norm_ = Buffer<T>((10 + (has_bias_ ? kNumGates : 0)) * hidden_size_);
    T* to = norm_.data();
    const auto append = [&](const T* from, int64_t size) { to = std::copy(from, from + size, to); };
    append(arrays.kernel_gain, kNumGates * hidden_size_);
    append(arrays.recurrent_gain, kNumGates * hidden_size_);
    append(arrays.cell_gain, hidden_size_);
    append(arrays.cell_offset, hidden_size_);
    if (has_bias_) append(arrays.bias, kNumGates * hidden_size_);
  }
  if (projection_size_ == 0) return;
  w_hr_width_ = panel_width_for(value_kernels(), projection_size_);
  w_hr_ = Buffer<T>(packed_size(hidden_size_, projection_size_, w_hr_width_));
  pack_panels<T>({arrays.w_hr, hidden_size_, projection_size_, projection_size_, 1}, 0,
                 projection_size_, w_hr_width_, w_hr_.data());
}

template <class F>
typename PackedWeights<F>::Panels PackedWeights<F>::w_ih_transposed() const {
  return transposed(w_ih_transposed_, w_ih_, input_size_);
}

template <class F>
typename PackedWeights<F>::Panels PackedWeights<F>::w_hh_transposed() const {
  if (!has_w_hh()) refuse_more_than_a_step();
  return transposed(w_hh_transposed_, w_hh_, output_size());
}

template <class F>
typename PackedWeights<F>::Panels PackedWeights<F>::w_hr_transposed() const {
  LazyPanels& lazy = w_hr_transposed_;
  std::call_once(lazy.once, [&] {
    // Rows of the panels are as long as a panel is wide: element (unit, p) becomes (p, unit).
    Buffer<T> transposed(projection_size_ * hidden_size_);
    for (int64_t p = 0; p < projection_size_; ++p) {
      const T* const in =
          w_hr_.data() + p / w_hr_width_ * w_hr_width_ * hidden_size_ + p % w_hr_width_;
      for (int64_t unit = 0; unit < hidden_size_; ++unit) {
        transposed.data()[p * hidden_size_ + unit] = in[unit * w_hr_width_];
      }
    }
    const int64_t width = panel_width_for(value_kernels(), hidden_size_);
    Buffer<T> panels(packed_size(projection_size_, hidden_size_, width));
    pack_panels<T>({transposed.data(), projection_size_, hidden_size_, hidden_size_, 1}, 0,
                   hidden_size_, width, panels.data());
    lazy.panel_width = width;
    lazy.panels = std::move(panels);
  });
  return {lazy.panel_width, lazy.panels.data()};
}

// From the interleaved panels, so that the caller's arrays need not be kept: element (p, gate,
// unit) of w (k, 4H) becomes row gate * H + unit, column p.
template <class F>
typename PackedWeights<F>::Panels PackedWeights<F>::transposed(LazyPanels& lazy,
                                                               const GatePanels<F>& interleaved,
                                                               int64_t k) const {
  std::call_once(lazy.once, [&] {
    const int64_t lanes = kernels().lanes;
    const int64_t width = panel_width_for(value_kernels(), k);
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
template PackedWeights<Bfloat16>::PackedWeights(const KernelSet&, const WeightArrays<float>&,
                                                StepsOf);
template PackedWeights<Int8>::PackedWeights(const KernelSet&, const WeightArrays<float>&, StepsOf);

}  // namespace cpu
}  // namespace lstm_ext
