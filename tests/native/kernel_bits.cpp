// Runs every kernel of one kernel set, directly and through the drivers, on numbers that all
// machines draw alike, and prints a line for each case: its name and a hash of the results' bits.
// Two sets give the same bits if the programs built for them print the same. LSTM_EXT_TESTED is the
// set's name.
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>

#include "bits.hpp"
#include "cpu/drivers.hpp"
#include "cpu/gemm.hpp"
#include "cpu/kernel_set.hpp"
#include "cpu/packed_weights.hpp"
#include "cpu/stream.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {
namespace LSTM_EXT_TESTED {
extern const KernelSet kernels;
}

namespace {

const KernelSet& tested = LSTM_EXT_TESTED::kernels;

template <class F>
const char* format_name() {
  if (std::is_same_v<F, Bfloat16>) return "bfloat16 ";
  if (std::is_same_v<F, Int8>) return "int8 ";
  return std::is_same_v<F, float> ? "float32 " : "float64 ";
}

std::string text_of(std::initializer_list<int64_t> sizes) {
  std::string text = " (";
  for (const int64_t size : sizes) text += (text.size() > 2 ? ", " : "") + std::to_string(size);
  return text + ")";
}

template <class F>
std::string case_name(const char* kernel, std::initializer_list<int64_t> sizes, Numbers numbers) {
  return std::string(format_name<F>()) + kernel + text_of(sizes) + " " + name_of(numbers);
}

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

// What activations stand for, whatever a group and an offset are.
template <class F>
void encode(int64_t k, Numbers numbers) {
  const KernelTable<F>& table = tested.table<F>();
  const Array<float> x(k, numbers);
  Array<unsigned char> encoded(round_up(k, table.group) * table.activation_bytes);
  Array<float> values(k), scale(1);
  *scale.data() = 0;
  table.encode(k, x.data(), encoded.data(), scale.data());
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
      value = static_cast<float>(number - table.offset);
    }
  }
  Hash hash;
  hash.add(values);
  hash.add(scale);
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

template <class F>
struct Problem {
  using T = typename Format<F>::Value;
  static constexpr bool kHasBackward = !Format<F>::kEncodes;

  LstmShape shape;
  Numbers numbers;
  Array<T> x, w_ih, w_hh, bias, h0, c0;
  std::shared_ptr<const PackedWeights<F>> weights;

  Problem(const LstmShape& s, Numbers numbers_, bool has_bias)
      : shape(s),
        numbers(numbers_),
        x(s.batch_size * s.seq_len * s.input_size, numbers),
        w_ih(s.input_size * columns(), numbers == Numbers::kOdd ? Numbers::kPlain : numbers),
        w_hh(s.hidden_size * columns(), Numbers::kPlain),
        bias(columns(), Numbers::kPlain),
        h0(states(), numbers),
        c0(states(), numbers),
        weights(std::make_shared<PackedWeights<F>>(
            tested, WeightArrays<T>{s.input_size, s.hidden_size, 0, w_ih.data(), columns(),
                                    w_hh.data(), columns(), has_bias ? bias.data() : nullptr})) {}

  int64_t columns() const { return kNumGates * shape.hidden_size; }
  int64_t states() const { return shape.batch_size * shape.hidden_size; }
  std::string name(const char* pass) const {
    const LstmShape& s = shape;
    return case_name<F>(pass, {s.batch_size, s.seq_len, s.input_size, s.hidden_size}, numbers);
  }

  template <class U>
  Sequence<U> sequence(U* data, int64_t features) const {
    return {data, shape.seq_len * features, features, 1};
  }
};

// What a forward pass leaves for a backward one.
template <class T>
struct Kept {
  Array<T> output, gates, cells;
};

template <class F, class T>
void forward(const Problem<F>& p, Kept<T>& kept, bool from_state, bool go_backwards, int threads) {
  Array<T> h(p.states()), c(p.states());
  LstmForward<T> call{};
  call.shape = p.shape;
  call.go_backwards = go_backwards;
  call.x = p.sequence(p.x.data(), p.shape.input_size);
  call.h0 = from_state ? p.h0.data() : nullptr;
  call.c0 = from_state ? p.c0.data() : nullptr;
  call.output = p.sequence(kept.output.data(), p.shape.hidden_size);
  call.h = h.data();
  call.c = c.data();
  if (p.kHasBackward) {
    call.gates = kept.gates.data();
    call.cells = kept.cells.data();
  }
  lstm_forward(*p.weights, call, threads);
  Hash hash;
  hash.add(kept.output);
  hash.add(h);
  hash.add(c);
  if (p.kHasBackward) {
    hash.add(kept.gates);
    hash.add(kept.cells);
  }
  hash.print(p.name("forward"));
}

template <class T>
void backward(const Problem<T>& p, Kept<T>& kept, bool from_state, bool go_backwards, int threads) {
  const LstmShape& s = p.shape;
  const Array<T> d_output(kept.output.size(), Numbers::kPlain);
  const Array<T> d_h(p.states(), Numbers::kPlain), d_c(p.states(), Numbers::kPlain);
  Array<T> d_x(p.x.size()), d_w_ih(p.w_ih.size()), d_w_hh(p.w_hh.size()), d_bias(p.columns());
  Array<T> d_h0(p.states()), d_c0(p.states());
  LstmBackward<T> call{};
  call.shape = s;
  call.go_backwards = go_backwards;
  call.x = p.sequence(p.x.data(), s.input_size);
  call.h0 = from_state ? p.h0.data() : nullptr;
  call.c0 = from_state ? p.c0.data() : nullptr;
  call.output = p.sequence(static_cast<const T*>(kept.output.data()), s.hidden_size);
  call.gates = kept.gates.data();
  call.cells = kept.cells.data();
  call.d_output = p.sequence(d_output.data(), s.hidden_size);
  call.d_h = d_h.data();
  call.d_c = d_c.data();
  call.d_gates = kept.gates.data();
  call.d_x = p.sequence(d_x.data(), s.input_size);
  call.d_w_ih = d_w_ih.data();
  call.d_w_hh = d_w_hh.data();
  call.d_bias = d_bias.data();
  call.d_h0 = d_h0.data();
  call.d_c0 = d_c0.data();
  lstm_backward(*p.weights, call, threads);
  Hash hash;
  for (const Array<T>* result : {&kept.gates, &d_x, &d_w_ih, &d_w_hh, &d_bias, &d_h0, &d_c0}) {
    hash.add(*result);
  }
  hash.print(p.name("backward"));
}

template <class F, class T>
void stream(const Problem<F>& p, bool from_state) {
  const LstmShape& s = p.shape;
  Stream<F> steps(p.weights, s.batch_size);
  if (from_state) steps.write_state(p.h0.data(), p.c0.data());
  Array<T> output(p.states()), h(p.states()), c(p.states());
  Hash hash;
  for (int64_t t = 0; t < s.seq_len; ++t) {
    steps.step(p.x.data() + t * s.input_size, s.seq_len * s.input_size, output.data(), 1);
    hash.add(output);
  }
  steps.read_state(h.data(), c.data());
  hash.add(h);
  hash.add(c);
  hash.print(p.name("stream"));
}

// One problem, forward, streamed and backward.
template <class F>
void lstm(const LstmShape& shape, Numbers numbers, bool has_bias, bool from_state,
          bool go_backwards = false, int threads = 1) {
  using T = typename Format<F>::Value;
  const Problem<F> p(shape, numbers, has_bias);
  const int64_t steps = p.kHasBackward ? shape.seq_len : 0;
  Kept<T> kept{Array<T>(shape.seq_len * p.states()),
               Array<T>(steps * shape.batch_size * p.columns()), Array<T>(steps * p.states())};
  forward<F, T>(p, kept, from_state, go_backwards, threads);
  stream<F, T>(p, from_state);
  if constexpr (p.kHasBackward) backward<T>(p, kept, from_state, go_backwards, threads);
}

// ---- all cases ----

// Few rows are chunked, many or a single step are fused; 140 and 270 are more than a block of k.
template <class F>
void lstms() {
  for (const int64_t batch : {1, 2, 3, 4, 5, 6, 7, 13}) {
    lstm<F>({batch, 3, 5, 7}, Numbers::kPlain, batch % 2 == 0, batch % 3 == 0);
  }
  for (const int64_t hidden : {1, 2, 4, 8, 9, 16, 17, 31}) {
    lstm<F>({2, 4, 3, hidden}, Numbers::kPlain, true, hidden % 2 == 0, hidden % 3 == 0);
  }
  lstm<F>({1, 1, 1, 1}, Numbers::kPlain, true, false);
  lstm<F>({3, 2, 140, 19}, Numbers::kPlain, true, true);
  lstm<F>({17, 2, 9, 140}, Numbers::kPlain, true, true);
  lstm<F>({2, 2, 270, 270}, Numbers::kPlain, true, false);
  lstm<F>({16, 4, 96, 96}, Numbers::kPlain, true, true, false, 2);
  for (const Numbers numbers : {Numbers::kTiny, Numbers::kHuge, Numbers::kOdd}) {
    lstm<F>({7, 3, 33, 10}, numbers, false, true);
    lstm<F>({14, 3, 12, 5}, numbers, numbers == Numbers::kOdd, false, true);
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
  lstm<Int8>({1, 2, Format<Int8>::kDepthBlock + 1, 2}, Numbers::kPlain, true, false);
  return 0;
}
