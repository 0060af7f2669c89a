// A cell with layer normalisation (Ba, Kiros and Hinton 2016), a row at a time. Included by the
// drivers.
//
//   LN(v) = (v - mean(v)) / sqrt(var(v) + epsilon)
//   z = LN(x_t·w_ih) * kernel_gain + LN(h_{t-1}·w_hh) * recurrent_gain + bias          over 4H
//   c_t = f * c_{t-1} + i * candidate
//   h_t = o * activation(LN(c_t) * cell_gain + cell_offset)                            over H
//
// A row's sums need all of it before any gate is known, so its products are stored first. Rows here
// are in the order of the gates, (4H); those that products leave are interleaved, as panels are.
// Compiled for any processor, with sums in one fixed order: all instruction sets give the same
// bits.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "cpu/kernel_set.hpp"
#include "cpu/packed_weights.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {

constexpr double kNormEpsilon = 1e-5;

// The sum of function(j) over [0, n): sixteen partial sums, which compilers keep in vectors, and
// these in pairs.
template <class T, class Function>
T sum_over(int64_t n, const Function& function) {
  constexpr int64_t kParts = 16;
  T parts[kParts] = {};
  int64_t j = 0;
  for (; j + kParts <= n; j += kParts) {
    for (int64_t k = 0; k < kParts; ++k) parts[k] += function(j + k);
  }
  for (int64_t k = 0; j + k < n; ++k) parts[k] += function(j + k);
  for (int64_t half = kParts / 2; half > 0; half /= 2) {
    for (int64_t k = 0; k < half; ++k) parts[k] += parts[k + half];
  }
  return parts[0];
}

// v (n) becomes LN(v); returns 1 / sqrt(var + epsilon).
template <class T>
T normalize(int64_t n, T* v) {
  const T mean = sum_over<T>(n, [&](int64_t j) { return v[j]; }) / static_cast<T>(n);
  for (int64_t j = 0; j < n; ++j) v[j] -= mean;
  const T variance = sum_over<T>(n, [&](int64_t j) { return v[j] * v[j]; }) / static_cast<T>(n);
  const T scale = T{1} / std::sqrt(variance + static_cast<T>(kNormEpsilon));
  for (int64_t j = 0; j < n; ++j) v[j] *= scale;
  return scale;
}

// The gradient of v, in place of that of LN(v) in d; v_hat is LN(v), scale what normalize returned.
template <class T>
void normalize_backward(int64_t n, const T* v_hat, T scale, T* d) {
  const T mean = sum_over<T>(n, [&](int64_t j) { return d[j]; }) / static_cast<T>(n);
  const T along = sum_over<T>(n, [&](int64_t j) { return d[j] * v_hat[j]; }) / static_cast<T>(n);
  for (int64_t j = 0; j < n; ++j) d[j] = scale * (d[j] - mean - v_hat[j] * along);
}

// What a backward pass needs of a row, besides z and c: the parts of a row of `normed`.
template <class T>
struct NormedRow {
  static int64_t size(int64_t hidden) { return 2 * kNumGates * hidden + 2; }

  NormedRow(T* row, int64_t hidden)
      : x_hat(row), h_hat(row + kNumGates * hidden), scales(row + 2 * kNumGates * hidden) {}
  T *x_hat, *h_hat;  // (4H) each: both products normalised
  T* scales;         // of both
};

// The gradients of a row: the parts of a row of what a backward pass writes for its products.
template <class T>
struct NormedGradientRow {
  static int64_t size(int64_t hidden) { return 2 * kNumGates * hidden + 2 * hidden; }

  NormedGradientRow(T* row, int64_t hidden)
      : d_zx(row),
        d_zh(row + kNumGates * hidden),
        d_y(row + 2 * kNumGates * hidden),
        c_hat(d_y + hidden) {}
  T *d_zx, *d_zh;  // (4H): of x·w_ih and of h·w_hh
  T *d_y, *c_hat;  // (H): of the normalised cell with gain and offset, and that without them
};

template <class T, class F>
class NormCell {
 public:
  explicit NormCell(const PackedWeights<F>& weights)
      : w_(weights), kernels_(weights.value_kernels()), hidden_(weights.hidden_size()) {}

  // zx and zh: x·w_ih and h·w_hh, interleaved. c (H): c_{t-1} in, c_t out. h (H) out, and z (4H),
  // which is activated if `activated`. normed: a row of it, or null.
  void forward(const T* zx, const T* zh, T* c, T* h, T* z, bool activated, T* normed,
               T* scratch) const {
    const int64_t columns = kNumGates * hidden_;
    const NormedRow<T> n(normed ? normed : scratch, hidden_);
    T* const gates = scratch + NormedRow<T>::size(hidden_);
    T* const y = gates + columns;
    separate(zx, n.x_hat);
    separate(zh, n.h_hat);
    n.scales[0] = normalize(columns, n.x_hat);
    n.scales[1] = normalize(columns, n.h_hat);
    const auto& norm = w_.norm();
    for (int64_t j = 0; j < columns; ++j) {
      const T sum = n.x_hat[j] * norm.kernel_gain[j] + n.h_hat[j] * norm.recurrent_gain[j];
      z[j] = norm.bias ? sum + norm.bias[j] : sum;
    }
    activate(z, gates);
    const T* const o = gates + kOutput * hidden_;
    for (int64_t u = 0; u < hidden_; ++u) {
      c[u] = gates[kForget * hidden_ + u] * c[u] +
             gates[kInput * hidden_ + u] * gates[kCandidate * hidden_ + u];
      y[u] = c[u];
    }
    normalize(hidden_, y);
    for (int64_t u = 0; u < hidden_; ++u) y[u] = y[u] * norm.cell_gain[u] + norm.cell_offset[u];
    kernels_.activate(w_.cell().output, hidden_, y, h);
    for (int64_t u = 0; u < hidden_; ++u) h[u] *= o[u];
    if (activated) std::copy(gates, gates + columns, z);
  }

  // z, c and normed: as the forward pass left them. c_prev (H): null means zeros. d_h (H). d_c (H):
  // of c_t in, of c_{t-1} out. d_z (4H) may be z. d: the row of gradients to be written.
  void backward(const T* z, const T* c, const T* c_prev, T* normed, const T* d_h, T* d_c, T* d_z,
                const NormedGradientRow<T>& d, T* scratch) const {
    const int64_t columns = kNumGates * hidden_;
    const NormedRow<T> n(normed, hidden_);
    const auto& norm = w_.norm();
    T* const gates = scratch;
    T* const slopes = gates + columns;
    T* const y = slopes + columns;
    T* const out = y + hidden_;
    T* const out_slope = out + hidden_;
    activate(z, gates);
    std::copy(c, c + hidden_, d.c_hat);
    const T scale = normalize(hidden_, d.c_hat);
    for (int64_t u = 0; u < hidden_; ++u) {
      y[u] = d.c_hat[u] * norm.cell_gain[u] + norm.cell_offset[u];
    }
    kernels_.activate(w_.cell().output, hidden_, y, out);
    kernels_.slopes(w_.cell().output, hidden_, y, out, out_slope);
    kernels_.slopes(w_.cell().recurrent, 2 * hidden_, z, gates, slopes);
    const auto slopes_of = [&](const ActivationOptions& options, int64_t gate) {
      kernels_.slopes(options, hidden_, z + gate * hidden_, gates + gate * hidden_,
                      slopes + gate * hidden_);
    };
    slopes_of(w_.cell().candidate, kCandidate);
    slopes_of(w_.cell().recurrent, kOutput);
    const T *const i = gates, *const f = gates + hidden_, *const g = gates + 2 * hidden_,
                   *const o = gates + 3 * hidden_;
    T* const d_cell = y;  // no longer needed as y
    for (int64_t u = 0; u < hidden_; ++u) {
      d.d_y[u] = d_h[u] * o[u] * out_slope[u];
      d_cell[u] = d.d_y[u] * norm.cell_gain[u];
    }
    normalize_backward(hidden_, d.c_hat, scale, d_cell);
    for (int64_t u = 0; u < hidden_; ++u) {
      const T d_cu = d_c[u] + d_cell[u], before = c_prev ? c_prev[u] : T{0};
      d_z[kOutput * hidden_ + u] = d_h[u] * out[u] * slopes[kOutput * hidden_ + u];
      d_z[kInput * hidden_ + u] = d_cu * g[u] * slopes[kInput * hidden_ + u];
      d_z[kForget * hidden_ + u] = d_cu * before * slopes[kForget * hidden_ + u];
      d_z[kCandidate * hidden_ + u] = d_cu * i[u] * slopes[kCandidate * hidden_ + u];
      d_c[u] = d_cu * f[u];
    }
    for (int64_t j = 0; j < columns; ++j) {
      d.d_zx[j] = d_z[j] * norm.kernel_gain[j];
      d.d_zh[j] = d_z[j] * norm.recurrent_gain[j];
    }
    normalize_backward(columns, n.x_hat, n.scales[0], d.d_zx);
    normalize_backward(columns, n.h_hat, n.scales[1], d.d_zh);
  }

  static int64_t scratch_size(int64_t hidden) {
    return NormedRow<T>::size(hidden) + 2 * kNumGates * hidden + 3 * hidden;
  }

 private:
  void activate(const T* z, T* gates) const {
    const CellOptions& cell = w_.cell();
    kernels_.activate(cell.recurrent, 2 * hidden_, z, gates);
    kernels_.activate(cell.candidate, hidden_, z + 2 * hidden_, gates + 2 * hidden_);
    kernels_.activate(cell.recurrent, hidden_, z + 3 * hidden_, gates + 3 * hidden_);
  }

  // From [block][gate][lane] to [gate][unit].
  void separate(const T* interleaved, T* out) const {
    const int64_t lanes = w_.kernels().lanes;
    for (int64_t unit = 0; unit < hidden_; unit += lanes) {
      const int64_t units = std::min(lanes, hidden_ - unit);
      for (int64_t gate = 0; gate < kNumGates; ++gate) {
        const T* const from = interleaved + unit * kNumGates + gate * lanes;
        std::copy(from, from + units, out + gate * hidden_ + unit);
      }
    }
  }

  const PackedWeights<F>& w_;
  const KernelTable<T>& kernels_;
  const int64_t hidden_;
};

}  // namespace cpu
}  // namespace lstm_ext
