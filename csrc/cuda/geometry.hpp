// How a block divides a product with weights that stay on the chip,
//
//   out[row][n] = Σ_k in[row][k] * w[k][n]        rows x N out of rows x K, weights K x N
//
// among its threads: each holds kHeldWords 32-bit words of weights in registers and, if `deep`, as
// many in shared memory. The sum over k is cut into slices. Lanes of a warp that have slices of the
// same outputs add them by shuffles; each warp's part is written to shared memory, and whoever
// needs an output adds its parts in their order. Forward, K is all units and N the four gates of
// the block's own; backward the other way round.
//
//   float32   a thread: 4 neighbouring outputs, 16 (deep: 32) values of k; a warp: `lanes` slices
//             of 32 / lanes such quads of outputs
//   bfloat16  a warp: 16 (deep: 32) fragments of 16 outputs by 16 k, as `out_tiles` runs of
//             `k_tiles` in one slice
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
constexpr int kFloatOuts = 4;
constexpr int kFloatDepth = kHeldWords / kFloatOuts;
constexpr int kFloatStride = kFloatDepth + 4;  // between the values of two slices of a row
constexpr int kMaxLanes = 8;
constexpr int kFragmentWords = 4;
constexpr int kFragments = kHeldWords / kFragmentWords;
constexpr int kFragmentSide = 16;
constexpr int kFragmentRows = 8;  // rows of the batch that an mma takes at once

struct Geometry {
  int k, n;       // as asked for
  int rows;       // at most; in bfloat16 a multiple of kFragmentRows
  int outs;       // n, padded: the length of a row of parts
  int slices;     // of k
  int parts;      // of each output
  int depth;      // values of k in a slice
  int lanes;      // float32: slices in a warp, a power of two
  int quads;      // float32: of outputs
  int k_tiles;    // bfloat16: fragments of a run; float32: 0
  int out_tiles;  // bfloat16: runs of a warp
  int threads;    // a multiple of 32; more than kMaxThreads: does not fit
  int row_words;  // 32-bit words from a row of `in` to the next
  bool deep;
};

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Words of one buffer of `in`, of the parts, and of the weights in shared memory.
LSTM_EXT_HOST_DEVICE int in_words(const Geometry& g) { return g.rows * g.row_words; }
LSTM_EXT_HOST_DEVICE int part_words(const Geometry& g) { return g.parts * g.rows * g.outs; }
LSTM_EXT_HOST_DEVICE int weight_words(const Geometry& g) {
  return g.deep ? kHeldWords * g.threads : 0;
}

// Every 16 words of a row of float32 are followed by 4 unused ones: lanes of a warp that work on
// different slices then read from different banks. A row of bfloat16 is an odd number of 8 words
// long, and the rows of a fragment fall into different banks.
//
// Of all ways to share out a warp's lanes the one with the fewest warps, and of those the most
// lanes for slices.
inline Geometry float_geometry(int k, int n, int rows, bool deep) {
  Geometry g{};
  g.k = k, g.n = n, g.rows = rows, g.deep = deep;
  g.quads = ceil_div(n, kFloatOuts);
  g.outs = g.quads * kFloatOuts;
  g.depth = deep ? 2 * kFloatDepth : kFloatDepth;
  g.slices = ceil_div(k, g.depth);
  for (int lanes = 1; lanes <= kMaxLanes && lanes < 2 * g.slices; lanes *= 2) {
    const int parts = ceil_div(g.slices, lanes);
    const int threads = 32 * parts * ceil_div(g.quads, 32 / lanes);
    if (g.lanes > 0 && threads > g.threads) continue;
    g.lanes = lanes, g.parts = parts, g.threads = threads;
  }
  g.row_words = (deep ? 2 : 1) * g.slices * kFloatStride;
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
    g.k_tiles = run, g.out_tiles = runs, g.slices = g.parts = slices;
    g.depth = run * kFragmentSide;
    g.threads = 32 * slices * ceil_div(wide_tiles, runs);
  }
  const int row_words = g.slices * g.depth / 2;
  g.row_words = row_words / 8 % 2 ? row_words : row_words + 8;
  return g;
}

// The shared memory of a block of a persistent kernel, as offsets in 32-bit words.
struct SharedLayout {
  int arrivals, in, parts, cells, weights, received, words;
};

// `rounds` batches of rows have cells each. `received` holds one value a source and own unit for
// each buffer, backward; forward it is empty.
LSTM_EXT_HOST_DEVICE SharedLayout shared_layout(const Geometry& g, int units, int rounds,
                                                int in_buffers, int received_words) {
  SharedLayout s{};
  int next = 0;
  s.arrivals = next, next += 4;  // two of 64 bits
  s.in = next, next += in_buffers * in_words(g);
  s.parts = next, next += (part_words(g) + 3) / 4 * 4;
  s.weights = next, next += weight_words(g);
  s.cells = next, next += g.rows * units * rounds;
  s.received = next, next += received_words;
  s.words = next;
  return s;
}

}  // namespace cuda
}  // namespace lstm_ext
