#include "cuda/product.hpp"

#include "cuda/cell.hpp"

namespace lstm_ext {
namespace cuda {
namespace {

constexpr int kTile = 64;  // rows and columns of a block
constexpr int kDepth = 16;
constexpr int kThreads = 256;
constexpr int kStride = kTile + 4;  // of a k: threads that store neighbouring k use other banks

// A thread: four rows by four columns.
template <class S>
LSTM_EXT_KERNEL(kThreads)
product_tile(const Product<S> p) {
  using A = Computing<S>;
  LSTM_EXT_SHARED_MEMORY(memory);
  auto* a_tile = reinterpret_cast<A*>(memory);  // [k][row]
  A* b_tile = a_tile + kDepth * kStride;        // [k][column]
  const int64_t first_row = int64_t{block_index()} * kTile;
  const int64_t first_column = int64_t{block_index_y()} * kTile;
  const int row = thread_index() / 16 * 4, column = thread_index() % 16 * 4;
  A sums[4][4] = {};
  for (int64_t k0 = 0; k0 < p.depth; k0 += kDepth) {
#pragma unroll
    for (int i = thread_index(); i < kTile * kDepth; i += kThreads) {
      const int64_t r = first_row + i / kDepth, k = k0 + i % kDepth;
      a_tile[i % kDepth * kStride + i / kDepth] =
          r < p.rows && k < p.depth ? widen(p.a[r * p.depth + k]) : A(0);
    }
#pragma unroll
    for (int i = thread_index(); i < kTile * kDepth; i += kThreads) {
      const int64_t k = k0 + i / kTile, c = first_column + i % kTile;
      b_tile[i / kTile * kStride + i % kTile] =
          k < p.depth && c < p.columns ? widen(p.b[k * p.columns + c]) : A(0);
    }
    sync_block();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      const auto x = *reinterpret_cast<const Four<A>*>(a_tile + k * kStride + row);
      const auto w = *reinterpret_cast<const Four<A>*>(b_tile + k * kStride + column);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] = fused(x.v[i], w.v[j], sums[i][j]);
      }
    }
    sync_block();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t r = first_row + row + i, c = first_column + column + j;
      if (r < p.rows && c < p.columns) p.out[r * p.columns + c] = sums[i][j];
    }
  }
}

}  // namespace

template <class S>
void multiply(const Product<S>& product, Stream stream) {
  if (product.rows == 0 || product.columns == 0) return;
  const auto tiles = [](int64_t size) { return static_cast<int>((size + kTile - 1) / kTile); };
  const Launch where{tiles(product.rows),
                     tiles(product.columns),
                     kThreads,
                     2 * kDepth * kStride * sizeof(Computing<S>),
                     1,
                     false,
                     stream};
  launch(where, &product_tile<S>, product);
}

template void multiply(const Product<float>&, Stream);
template void multiply(const Product<double>&, Stream);
template void multiply(const Product<BFloat16>&, Stream);

}  // namespace cuda
}  // namespace lstm_ext
