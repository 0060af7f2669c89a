#include "cpu/gemm.hpp"

#include <algorithm>

#include "cpu/buffer.hpp"
#include "cpu/partition.hpp"
#include "cpu/threads.hpp"

namespace lstm_ext {
namespace cpu {

template <class T>
int64_t panel_width_for(const KernelTable<T>& kernels, int64_t n) {
  return std::min<int64_t>(kPanelVectors, divide_up(std::max<int64_t>(n, 1), kernels.lanes)) *
         kernels.lanes;
}

int64_t packed_size(int64_t k, int64_t n, int64_t panel_width) {
  return k * round_up(n, panel_width);
}

namespace {

// One panel of `columns` <= width columns starting at b.
template <class T>
void pack_panel(const Matrix<const T>& b, const T* source, int64_t columns, int64_t width, T* out) {
  const int64_t k = b.rows;
  if (b.column_stride == 1) {
    for (int64_t p = 0; p < k; ++p, out += width) {
      const T* row = source + p * b.row_stride;
      std::copy(row, row + columns, out);
      std::fill(out + columns, out + width, T{0});
    }
    return;
  }
  // Short runs of k, so that the written part of the panel stays in the first-level cache while the
  // columns are read along their contiguous side.
  constexpr int64_t kRun = 16;
  for (int64_t p0 = 0; p0 < k; p0 += kRun, out += kRun * width) {
    const int64_t run = std::min(kRun, k - p0);
    for (int64_t j = 0; j < columns; ++j) {
      const T* column = source + j * b.column_stride + p0 * b.row_stride;
      for (int64_t p = 0; p < run; ++p) out[p * width + j] = column[p * b.row_stride];
    }
    for (int64_t p = 0; p < run; ++p) {
      std::fill(out + p * width + columns, out + (p + 1) * width, T{0});
    }
  }
}

}  // namespace

template <class T>
void pack_panels(const Matrix<const T>& b, int64_t begin, int64_t end, int64_t panel_width,
                 T* panels) {
  for (int64_t column = begin; column < end; column += panel_width) {
    pack_panel(b, b.data + column * b.column_stride, std::min(panel_width, end - column),
               panel_width, panels);
    panels += b.rows * panel_width;
  }
}

template <class T>
void matmul(const KernelTable<T>& kernels, const Matrix<const T>& a, const Matrix<const T>& b,
            const T* bias, const Matrix<T>& c, int num_threads) {
  const int64_t m = a.rows, k = a.columns, n = b.columns;
  const int64_t width = panel_width_for(kernels, n);
  Scratch scratch(Scratch::bytes_for<T>(packed_size(k, n, width)));
  T* const panels = scratch.take<T>(packed_size(k, n, width));
  Team team(m * n * k, num_threads);
  Barrier packed(team.size());
  // Rows are split when there are enough of them to fill the tiles, else panels.
  const bool by_rows = m >= team.size() * 16;
  team.run([&](int member) {
    const Range own = split(divide_up(n, width), team.size(), member);
    const int64_t begin = own.begin * width, end = std::min(own.end * width, n);
    if (begin < end) pack_panels(b, begin, end, width, panels + begin * k);
    packed.wait();
    const Range rows = by_rows ? split(m, team.size(), member) : Range{0, m};
    const Range columns = by_rows ? Range{0, n} : Range{begin, end};
    if (rows.begin >= rows.end || columns.begin >= columns.end) return;
    kernels.gemm({rows.end - rows.begin, columns.end - columns.begin, k,
                  a.data + rows.begin * a.row_stride, a.row_stride, a.column_stride,
                  panels + columns.begin * k, width, bias ? bias + columns.begin : nullptr,
                  c.data + rows.begin * c.row_stride + columns.begin, c.row_stride, false});
  });
}

template int64_t panel_width_for(const KernelTable<float>&, int64_t);
template int64_t panel_width_for(const KernelTable<double>&, int64_t);
template void pack_panels(const Matrix<const float>&, int64_t, int64_t, int64_t, float*);
template void pack_panels(const Matrix<const double>&, int64_t, int64_t, int64_t, double*);
template void matmul(const KernelTable<float>&, const Matrix<const float>&,
                     const Matrix<const float>&, const float*, const Matrix<float>&, int);
template void matmul(const KernelTable<double>&, const Matrix<const double>&,
                     const Matrix<const double>&, const double*, const Matrix<double>&, int);

}  // namespace cpu
}  // namespace lstm_ext
