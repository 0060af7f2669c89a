// Packing of a product's right-hand side, and whole products on a team of threads.
#pragma once

#include <cstdint>

#include "cpu/kernel_set.hpp"

namespace lstm_ext {
namespace cpu {

// A matrix of any layout; strides count elements.
template <class T>
struct Matrix {
  T* data;
  int64_t rows, columns;
  int64_t row_stride, column_stride;
};

// The panel width for n columns: narrow matrices get narrow panels.
template <class T>
int64_t panel_width_for(const KernelTable<T>& kernels, int64_t n);

// The number of elements of b (k, n) packed into panels of that width.
int64_t packed_size(int64_t k, int64_t n, int64_t panel_width);

// Packs the columns [begin, end) of b, begin being a multiple of panel_width, into `panels`, which
// holds those columns only.
template <class T>
void pack_panels(const Matrix<const T>& b, int64_t begin, int64_t end, int64_t panel_width,
                 T* panels);

// c (M, N) = a (M, K) · b (K, N) + bias (N), where bias may be null. c has unit column stride and
// overlaps nothing. Each output has one fixed order of additions (kernel_set.hpp).
template <class T>
void matmul(const KernelTable<T>& kernels, const Matrix<const T>& a, const Matrix<const T>& b,
            const T* bias, const Matrix<T>& c, int num_threads);

}  // namespace cpu
}  // namespace lstm_ext
