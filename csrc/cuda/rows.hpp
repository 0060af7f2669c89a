// Rows of a matrix added up by number: the gradient of a table of which rows were taken.
#pragma once

#include <cstdint>

#include "cuda/recurrence.hpp"

namespace lstm_ext {
namespace cuda {

// out[n] = sum over i with numbers[i] = n of d[order[i]], in the order of i. Everything in device
// memory, contiguous; `out` overlaps nothing. Rows of out whose number does not occur are left as
// they are, and numbers that are no row of it are left out.
template <class S>
struct RowSums {
  int64_t count, width, rows;
  const int64_t* numbers;  // (count), sorted
  const int64_t* order;    // (count), of rows of d
  const S* d;              // (count, width)
  S* out;                  // (rows, width)
};

template <class S>
void add_rows(const RowSums<S>& sums, Stream stream);

}  // namespace cuda
}  // namespace lstm_ext
