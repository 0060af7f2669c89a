// out = a·b for matrices as they lie, a launch: what a library does faster where there is much to
// multiply, and the host waits longer for where there is little. A graph can capture it.
#pragma once

#include <cstdint>

#include "cuda/recurrence.hpp"

namespace lstm_ext {
namespace cuda {

// Everything in device memory, contiguous; `out` overlaps nothing. Sums are in the order of k.
template <class S>
struct Product {
  int64_t rows, depth, columns;
  const S* a;         // (rows, depth)
  const S* b;         // (depth, columns)
  Computing<S>* out;  // (rows, columns)
};

template <class S>
void multiply(const Product<S>& product, Stream stream);

}  // namespace cuda
}  // namespace lstm_ext
