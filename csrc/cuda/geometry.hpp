// How a block divides a product with weights that stay on the chip,
//
//   out[row][n] = Σ_k in[row][k] * w[k][n]        rows x N out of rows x K, weights K x N
//
// among its threads: each holds kHeldWords 32-bit words of weights in registers and, if `deep`, as
// many in shared memory. The sum over k is cut into slices, each slice's part is written to shared
// memory, and whoever needs an output adds its parts in the order of the slices. Forward, K is all
// units and N the four gates of the block's own; backward the other way round.
//
//   float32   a thread: 2 outputs, 32 (deep: 64) values of k
//   bfloat16  a warp: 16 (deep: 32) fragments of 16 outputs by 16 k, as `out_tiles` runs of
//   `k_tiles`
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define LSTM_EXT_HOST_DEVICE __host__ __device__ inline
#else
#define LSTM_EXT_HOST_DEVICE inline
#endif

namespace lstm_ext {
namespace cuda {

constexpr int kMaxThreads = 512;
constexpr int kHeldWords = 64;
constexpr int kFloatOuts = 2;
constexpr int kFloatDepth = kHeldWords / kFloatOuts;
constexpr int kFragmentWords = 4;
constexpr int kFragments = kHeldWords / kFragmentWords;
constexpr int kFragmentSide = 16;
constexpr int kFragmentRows = 8;  // rows of the batch that an mma takes at once

struct Geometry {
  int k, n;       // as asked for
  int rows;       // at most; in bfloat16 a multiple of kFragmentRows
  int outs;       // n, padded: the length of a row of parts
  int slices;     // of k
  int depth;      // values of k in a slice
  int k_tiles;    // bfloat16: fragments of a run; float32: 0
  int out_tiles;  // bfloat16: runs of a warp
  int threads;    // a multiple of 32; more than kMaxThreads: does not fit
  int row_words;  // 32-bit words from a row of `in` to the next
  bool deep;
};

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Words of one buffer of `in`, of the parts, and of the weights in shared memory.
LSTM_EXT_HOST_DEVICE int in_words(const Geometry& g) { return g.rows * g.row_words; }
LSTM_EXT_HOST_DEVICE int part_words(const Geometry& g) { return g.slices * g.rows * g.outs; }
LSTM_EXT_HOST_DEVICE int weight_words(const Geometry& g) {
  return g.deep ? kHeldWords * g.threads : 0;
}

// Every 32 words of a row of float32 are followed by 4 unused ones: threads of a warp that work on
// different slices then read from different banks. In bfloat16 the 4 stand at the end of a row, and
// the rows of a fragment fall into different banks.
inline Geometry float_geometry(int k, int n, int rows, bool deep) {
  Geometry g{};
  g.k = k, g.n = n, g.rows = rows, g.deep = deep;
  const int pairs = ceil_div(n, kFloatOuts);
  g.outs = pairs * kFloatOuts;
  g.depth = deep ? 2 * kFloatDepth : kFloatDepth;
  g.slices = ceil_div(k, g.depth);
  g.threads = ceil_div(pairs * g.slices, 32) * 32;
  g.row_words = g.slices * g.depth / 32 * 36;
  return g;
}

// Of all runs that give at most kMaxThreads / 32 warps their fragments, the shortest work for a
// warp, and of those the fewest slices.
inline Geometry bfloat16_geometry(int k, int n, int rows, bool deep) {
  Geometry g{};
  g.k = k, g.n = n, g.rows = ceil_div(rows, kFragmentRows) * kFragmentRows, g.deep = deep;
  const int capacity = deep ? 2 * kFragments : kFragments;
  const int depth_tiles = ceil_div(k, kFragmentSide), wide_tiles = ceil_div(n, kFragmentSide);
  const int max_warps = kMaxThreads / 32;
  g.outs = wide_tiles * kFragmentSide;
  g.threads = kMaxThreads + 32;
  int best = capacity + 1;
  for (int run = depth_tiles < capacity ? depth_tiles : capacity; run >= 1; --run) {
    const int slices = ceil_div(depth_tiles, run);
    if (slices > max_warps) break;
    const int groups = max_warps / slices;
    const int runs = ceil_div(wide_tiles, groups);
    if (runs * run > capacity || runs * run >= best) continue;
    best = runs * run;
    g.k_tiles = run, g.out_tiles = runs, g.slices = slices, g.depth = run * kFragmentSide;
    g.threads = 32 * slices * ceil_div(wide_tiles, runs);
  }
  g.row_words = g.slices * g.depth / 2 + 4;
  return g;
}

// The shared memory of a block of a persistent kernel, as offsets in 32-bit words.
struct SharedLayout {
  int arrivals, in, parts, cells, own, weights, received, words;
};

// `received` holds one value a source and own unit for each buffer, backward; forward it is empty.
LSTM_EXT_HOST_DEVICE SharedLayout shared_layout(const Geometry& g, int units, int in_buffers,
                                                int received_words) {
  SharedLayout s{};
  int next = 0;
  s.arrivals = next, next += 4;  // two of 64 bits
  s.in = next, next += in_buffers * in_words(g);
  s.parts = next, next += (part_words(g) + 3) / 4 * 4;
  s.weights = next, next += weight_words(g);
  s.cells = next, next += g.rows * units;
  s.own = next, next += g.rows * units;
  s.received = next, next += received_words;
  s.words = next;
  return s;
}

}  // namespace cuda
}  // namespace lstm_ext
