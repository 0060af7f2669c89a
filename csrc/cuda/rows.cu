#include "cuda/rows.hpp"

#include "cuda/device.hpp"

namespace lstm_ext {
namespace cuda {
namespace {

constexpr int kThreads = 256;

// A thread: one column of the rows that have a number, if its own row is the first of them.
template <class S>
LSTM_EXT_KERNEL(kThreads)
sum_rows(const RowSums<S> s) {
  const int64_t index = int64_t{block_index()} * kThreads + thread_index();
  const int64_t first = index / s.width, column = index % s.width;
  if (first >= s.count) return;
  const int64_t number = s.numbers[first];
  if (number < 0 || number >= s.rows || (first > 0 && s.numbers[first - 1] == number)) return;
  S sum = 0;
#pragma unroll 4
  for (int64_t i = first; i < s.count && s.numbers[i] == number; ++i) {
    sum += s.d[s.order[i] * s.width + column];
  }
  s.out[number * s.width + column] = sum;
}

}  // namespace

template <class S>
void add_rows(const RowSums<S>& sums, Stream stream) {
  const int64_t values = sums.count * sums.width;
  if (values == 0) return;
  const auto blocks = static_cast<int>((values + kThreads - 1) / kThreads);
  launch(Launch{blocks, 1, kThreads, 0, 1, false, stream}, &sum_rows<S>, sums);
}

template void add_rows(const RowSums<float>&, Stream);
template void add_rows(const RowSums<double>&, Stream);

}  // namespace cuda
}  // namespace lstm_ext
