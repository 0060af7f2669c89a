// Runs every kernel of one kernel set, directly and through the drivers, on numbers that all
// machines draw alike, and prints a line for each case: its name and a hash of the results' bits.
// Two sets give the same bits if the programs built for them print the same. LSTM_EXT_TESTED is the
// set's name.
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <type_traits>

#include "bits.hpp"
#include "cpu/gemm.hpp"
#include "cpu/kernel_set.hpp"
#include "lstm.hpp"
#include "lstm_bits.hpp"

namespace lstm_ext {
namespace cpu {
namespace LSTM_EXT_TESTED {
extern const KernelSet kernels;
}

namespace {

const KernelSet& tested = LSTM_EXT_TESTED::kernels;

// ---- kernels over flat arrays ----

template <class T>
void activations(int64_t size, Numbers numbers) {
  const Array<T> x(size, numbers);
  Array<T> y(size);
  Hash hash;
  tested.table<T>().sigmoid(size, x.data(), y.data());
  hash.add(y);
  tested.table<T>().tanh(size, x.data(), y.data());
  hash.add(y);
  hash.print(case_name<T>("sigmoid, tanh", {size}, numbers));
}

template <class T>
void adam(int64_t size, Numbers numbers) {
  Array<T> param(size, numbers), m(size, numbers), v(size, Numbers::kPlain);
  const Array<T> grad(size, numbers);
  for (int64_t i = 0; i < size; ++i) v.data()[i] *= v.data()[i];
  tested.table<T>().adam({size, param.data(), grad.data(), m.data(), v.data(), T(0x1p-10),
                          T(0x1p-3), T(0x1p-9), T(0x1p-23), T(0x1.ffp-1)});
  Hash hash;
  hash.add(param);
  hash.add(m);
  hash.add(v);
  hash.print(case_name<T>("adam", {size}, numbers));
}

// What activations stand for, whatever a group and an offset are. Those of a row whose scale is NaN
// stand for nothing.
template <class F>
void encode(int64_t k, Numbers numbers) {
  const KernelTable<F>& table = tested.table<F>();
  const Array<float> x(k, numbers);
  Array<unsigned char> encoded(round_up(k, table.group) * table.activation_bytes);
  Array<float> values(k), row(2);
  Int8Row meaning{};
  table.encode(k, x.data(), encoded.data(), &meaning);
  row.data()[0] = meaning.scale;
  row.data()[1] = meaning.zero;
  for (int64_t i = 0; i < k; ++i) {
    const unsigned char* at = encoded.data() + i * table.activation_bytes;
    float& value = values.data()[i];
    if constexpr (std::is_same_v<F, Bfloat16>) {
      uint32_t bits = 0;  // a float, or its upper half
      std::memcpy(&bits, at, static_cast<std::size_t>(table.activation_bytes));
      if (table.activation_bytes == 2) bits <<= 16;
      std::memcpy(&value, &bits, sizeof value);
    } else {
      int16_t number = *at;
      if (table.activation_bytes == 2) std::memcpy(&number, at, sizeof number);
      const bool is_finite = meaning.scale == meaning.scale;
      value = is_finite ? static_cast<float>(number - table.offset) : 0.0f;
    }
  }
  Hash hash;
  hash.add(values);
  hash.add(row);
  hash.print(case_name<F>("encode", {k}, numbers));
}

// ---- drivers ----

// Every layout of a and b, with and without a bias.
template <class T>
void matmuls(int64_t m, int64_t n, int64_t k, Numbers numbers, int threads = 1) {
  const Array<T> a(m * k, numbers), b(k * n, numbers), bias(n, Numbers::kPlain);
  Array<T> c(m * n);
  Hash hash;
  for (const bool a_is_transposed : {false, true}) {
    for (const bool b_is_transposed : {false, true}) {
      const Matrix<const T> left = {a.data(), m, k, a_is_transposed ? 1 : k,
                                    a_is_transposed ? m : 1};
      const Matrix<const T> right = {b.data(), k, n, b_is_transposed ? 1 : n,
                                     b_is_transposed ? k : 1};
      matmul<T>(tested.table<T>(), left, right, b_is_transposed ? bias.data() : nullptr,
                {c.data(), m, n, n, 1}, threads);
      hash.add(c);
    }
  }
  hash.print(case_name<T>("matmul", {m, n, k}, numbers));
}

// ---- all cases ----

// Few rows are chunked, many or a single step are fused; 140 and 270 are more than a block of k.
template <class F>
void lstms() {
  const auto run = [](const LstmShape& shape, const Way& way) { lstm<F>(tested, shape, way); };
  constexpr Numbers kPlain = Numbers::kPlain;
  for (const int64_t batch : {1, 2, 3, 4, 5, 6, 7, 13}) {
    run({batch, 3, 5, 7}, {kPlain, batch % 2 == 0, batch % 3 == 0});
  }
  for (const int64_t hidden : {1, 2, 4, 8, 9, 16, 17, 31}) {
    run({2, 4, 3, hidden}, {kPlain, true, hidden % 2 == 0, hidden % 3 == 0});
  }
  run({1, 1, 1, 1}, {kPlain, true, false});
  run({3, 2, 140, 19}, {});
  run({17, 2, 9, 140}, {});
  run({2, 2, 270, 270}, {kPlain, true, false});
  run({16, 4, 96, 96}, {kPlain, true, true, false, 2});
  for (const Numbers numbers : {Numbers::kTiny, Numbers::kHuge, Numbers::kOdd}) {
    run({7, 3, 33, 10}, {numbers, false, true});
    run({14, 3, 12, 5}, {numbers, numbers == Numbers::kOdd, false, true});
  }
}

// Softplus and the normal distribution of gelu come from the machine's own mathematical library:
// two of these need not round alike.
constexpr ActivationOptions kActivations[] = {
    {ActivationKind::kSigmoid},
    {ActivationKind::kTanh, 1.25, 0.75},
    {ActivationKind::kAffine, 0.5, 0.25},
    {ActivationKind::kHardSigmoid, 0.75, 0.5},
    {ActivationKind::kRelu},
    {ActivationKind::kLeakyRelu, 0.25},
    {ActivationKind::kThresholdedRelu, 0.125},
    {ActivationKind::kElu, 1.5, 1.0625},
    {ActivationKind::kSoftsign},
    {ActivationKind::kExponential},
    {ActivationKind::kSilu},
};

Variant everything() {
  Variant v{"everything"};
  v.cell = {{ActivationKind::kSoftsign}, {ActivationKind::kElu, 0.75}, {ActivationKind::kTanh}};
  v.cell.clip = 0.875;
  v.cell.cell_clip = 0.75;
  v.cell.zoneout = 0.25;
  v.cell.cell_zoneout = 0.125;
  v.has_peephole = true;
  v.projection_size = 5;
  return v;
}

Variant noisy() {
  Variant v = everything();
  v.name = "everything, noisy";
  v.cell.input_forget = true;
  v.has_noise_of_h = v.has_zoneout = v.has_cell_zoneout = true;
  v.has_mask = v.has_reset = true;
  return v;
}

// One variant at a time.
template <class Run>
void each_variant(const Run& run) {
  const auto with = [&](const char* name, const auto& change) {
    Variant v{name};
    change(v);
    run(v);
  };
  with("peephole", [](Variant& v) { v.has_peephole = true; });
  with("clip", [](Variant& v) { v.cell.clip = 0.5; });
  with("cell_clip", [](Variant& v) { v.cell.cell_clip = 0.25; });
  with("input_forget", [](Variant& v) { v.cell.input_forget = true; });
  with("zoneout", [](Variant& v) { v.cell.zoneout = 0.3, v.cell.cell_zoneout = 0.2; });
  with("mask", [](Variant& v) { v.has_mask = true; });
  with("lengths", [](Variant& v) { v.has_lengths = true, v.repeats_output = false; });
  with("reset", [](Variant& v) { v.has_reset = true; });
  with("mask, reset", [](Variant& v) { v.has_mask = v.has_reset = true; });
  with("noise of h", [](Variant& v) { v.has_noise_of_h = true; });
  with("noise of zoneout", [](Variant& v) { v.has_zoneout = v.has_cell_zoneout = true; });
  for (const int64_t size : {1, 4, 7, 16, 33}) {
    with("projection", [&](Variant& v) { v.projection_size = size; });
  }
}

// Batches on both sides of what is chunked, units on both sides of vectors' lengths.
template <class F>
void variants() {
  const auto run = [](const LstmShape& shape, const Variant& v, const Way& way = {}) {
    lstm<F>(tested, shape, way, v);
  };
  each_variant([&](const Variant& v) {
    run({3, 5, 4, 7}, v);
    run({13, 3, 2, 17}, v);
  });
  for (const ActivationOptions& activation : kActivations) {
    for (ActivationOptions CellOptions::* place :
         {&CellOptions::recurrent, &CellOptions::candidate, &CellOptions::output}) {
      Variant v{"activation"};
      v.cell.*place = activation;
      run({2, 2, 3, 21}, v);
    }
  }
  if constexpr (!Format<F>::kEncodes) {
    Variant v{"layer_norm"};
    v.has_norm = true;
    for (const int64_t hidden : {1, 7, 16, 33}) run({5, 4, 3, hidden}, v);
    v.has_mask = v.has_reset = v.has_noise_of_h = true;
    v.name = "layer_norm, mask, noise";
    run({13, 4, 5, 9}, v, {Numbers::kPlain, false, false, true, 2});
  }
  for (const Variant& v : {everything(), noisy()}) {
    for (const int64_t hidden : {1, 2, 8, 9, 16, 31}) {
      const bool odd = hidden % 2 == 1;
      run({5, 4, 3, hidden}, v, {Numbers::kPlain, odd, !odd, odd});
    }
    run({17, 3, 140, 19}, v);
    run({16, 4, 96, 96}, v, {Numbers::kPlain, true, true, false, 2});
    for (const Numbers numbers : {Numbers::kTiny, Numbers::kHuge, Numbers::kOdd}) {
      run({7, 3, 33, 10}, v, {numbers});
    }
  }
}

template <class T>
void value_kernels() {
  for (const int64_t size : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 4099}) {
    for (const Numbers numbers : {Numbers::kPlain, Numbers::kTiny, Numbers::kOdd}) {
      activations<T>(size, numbers);
      adam<T>(size, numbers);
    }
    activations<T>(size, Numbers::kAnyBits);
  }
  for (const int64_t m : {1, 2, 3, 4, 5, 6, 7, 11, 13}) {
    for (const int64_t n : {1, 4, 7, 10, 16, 29}) matmuls<T>(m, n, m + n, Numbers::kPlain);
  }
  for (const int64_t k : {1, 127, 128, 129, 300}) matmuls<T>(5, 18, k, Numbers::kPlain);
  matmuls<T>(130, 130, 140, Numbers::kPlain, 2);
  for (const Numbers numbers : {Numbers::kTiny, Numbers::kHuge, Numbers::kOdd}) {
    matmuls<T>(9, 21, 17, numbers);
  }
}

template <class F>
void encodings() {
  for (const int64_t k : {1, 2, 3, 8, 33, 1001}) {
    for (const Numbers numbers : {Numbers::kPlain, Numbers::kTiny, Numbers::kHuge, Numbers::kOdd}) {
      encode<F>(k, numbers);
    }
    encode<F>(k, Numbers::kAnyBits);
  }
}

}  // namespace
}  // namespace cpu
}  // namespace lstm_ext

int main() {
  using namespace lstm_ext::cpu;
  value_kernels<float>();
  value_kernels<double>();
  encodings<Bfloat16>();
  encodings<Int8>();
  lstms<float>();
  lstms<double>();
  lstms<Bfloat16>();
  lstms<Int8>();
  lstm<Int8>(tested, {1, 2, Format<Int8>::kDepthBlock + 1, 2}, {Numbers::kPlain, true, false});
  variants<float>();
  variants<double>();
  variants<Bfloat16>();
  variants<Int8>();
  return 0;
}
