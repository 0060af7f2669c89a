// A block's product with weights that stay in its registers (geometry.hpp), in float32 by fused
// multiply-adds and in bfloat16 by the matrix units. Both have
//
//   load(weight, spare)        weight(k, n) reads w in memory; `spare` is the shared part
//   multiply(in, rows, parts)  between two barriers of the block
//   sum(parts, row * outs + n) any thread, after the second
//   word(row, word_of_k)       where a word of `in` lies; put(in, row, k, value) writes a value
//   kPairApart                 how far apart two words with an even number and the next lie
//   packed(value)              the word of a lane's value and, if two units share one, of that of
//                              the lane 4 further or less far, which has the other; by all lanes
//
// Words of `in` that no k belongs to must be zero.
#pragma once

#include "cuda/cell.hpp"
#include "cuda/geometry.hpp"

namespace lstm_ext {
namespace cuda {

struct alignas(16) Quad {
  float v[4];
};

// The parts of one output in their order; `at` is its place, row * outs + n, in each.
LSTM_EXT_DEVICE float sum_parts(const Geometry& g, const float* parts, int at) {
  const float* part = parts + at;
  const int stride = g.rows * g.outs;
  float sum = part[0];
  for (int i = 1; i < g.parts; ++i) sum += part[i * stride];
  return sum;
}

// A thread computes four neighbouring outputs over one slice; neighbouring lanes have the slices of
// the same outputs.
template <bool kDeep>
class FloatMultiplier {
 public:
  using Stored = float;
  static constexpr int kUnitsAWord = 1;
  static constexpr int kPairApart = 1;

  LSTM_EXT_DEVICE explicit FloatMultiplier(const Geometry& g) : g_(g) {
    const int lane = thread_index() % kWarp, warp = thread_index() / kWarp;
    slice_ = warp % g.parts * g.lanes + lane % g.lanes;
    quad_ = warp / g.parts * (kWarp / g.lanes) + lane / g.lanes;
    part_ = warp % g.parts;
  }

  LSTM_EXT_DEVICE static int words(int values) { return values; }
  LSTM_EXT_DEVICE int word(int row, int k) const {
    return row * g_.row_words + k / kFloatDepth * kFloatStride + k % kFloatDepth;
  }
  LSTM_EXT_DEVICE void put(uint32_t* in, int row, int k, float value) const {
    in[word(row, k)] = bits_of(value);
  }
  LSTM_EXT_DEVICE float sum(const float* parts, int at) const { return sum_parts(g_, parts, at); }
  LSTM_EXT_DEVICE static uint32_t packed(float value) { return bits_of(value); }

  template <class Weight>
  LSTM_EXT_DEVICE void load(const Weight& weight, uint32_t* spare) {
    spare_ = reinterpret_cast<float*>(spare);
#pragma unroll
    for (int i = 0; i < kFloatDepth; ++i) {
#pragma unroll
      for (int j = 0; j < kFloatOuts; ++j) held_[i][j] = read(weight, slice_, i, j);
    }
    for (int i = 0; i < (kDeep ? kFloatDepth : 0); ++i) {
      for (int j = 0; j < kFloatOuts; ++j) {
        spare_[spare_index(i / 4, j) + i % 4] = read(weight, g_.slices + slice_, i, j);
      }
    }
  }

  LSTM_EXT_DEVICE void multiply(const uint32_t* in, int rows, float* parts) const {
    int row = 0;
    for (; row + 4 <= rows; row += 4) tile<4>(in, row, parts);
    for (; row < rows; ++row) tile<1>(in, row, parts);
  }

 private:
  // A deep thread's second slice lies as far behind its first as there are slices.
  template <class Weight>
  LSTM_EXT_DEVICE float read(const Weight& weight, int slice, int i, int j) const {
    const int k = slice * kFloatDepth + i, n = quad_ * kFloatOuts + j;
    return slice_ < g_.slices && k < g_.k && n < g_.n ? weight(k, n) : 0.0f;
  }
  // Four values of k lie together, and threads beside each other.
  LSTM_EXT_DEVICE int spare_index(int quad, int j) const {
    return ((quad * kFloatOuts + j) * g_.threads + thread_index()) * 4;
  }

  // Lanes past the last slice have weights of zero, but what they read must exist.
  template <int kRows>
  LSTM_EXT_DEVICE void tile(const uint32_t* in, int row, float* parts) const {
    float sums[kRows * kFloatOuts] = {};
    const int slice = slice_ < g_.slices ? slice_ : 0;
    const auto* values = reinterpret_cast<const float*>(in) + word(row, slice * kFloatDepth);
#pragma unroll
    for (int quad = 0; quad < kFloatDepth / 4; ++quad) {
      Quad x[kRows];
      load_quads<kRows>(values + 4 * quad, x);
#pragma unroll
      for (int i = 0; i < 4; ++i) add<kRows>(x, i, held_[4 * quad + i], sums);
    }
#pragma unroll 1
    for (int quad = 0; quad < (kDeep ? kFloatDepth / 4 : 0); ++quad) {
      Quad x[kRows];
      load_quads<kRows>(values + g_.slices * kFloatStride + 4 * quad, x);
#pragma unroll
      for (int j = 0; j < kFloatOuts; ++j) {
        const auto w = *reinterpret_cast<const Quad*>(spare_ + spare_index(quad, j));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int r = 0; r < kRows; ++r) {
            sums[r * kFloatOuts + j] = fused(x[r].v[i], w.v[i], sums[r * kFloatOuts + j]);
          }
        }
      }
    }
    if (g_.lanes == 1) return write(sums, row, 0, parts);
    add_lanes<kRows * kFloatOuts, 1>(sums, row, 0, parts);
  }

  template <int kRows>
  LSTM_EXT_DEVICE void load_quads(const float* values, Quad (&x)[kRows]) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      x[r] = *reinterpret_cast<const Quad*>(values + r * g_.row_words);
    }
  }

  template <int kRows>
  LSTM_EXT_DEVICE static void add(const Quad (&x)[kRows], int i, const float (&w)[kFloatOuts],
                                  float (&sums)[kRows * kFloatOuts]) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int j = 0; j < kFloatOuts; ++j) {
        sums[r * kFloatOuts + j] = fused(x[r].v[i], w[j], sums[r * kFloatOuts + j]);
      }
    }
  }

  // Adds over lanes that differ in the bit kMask and those above. Of several values each of two
  // lanes keeps half, so that in the end the lanes share them out; `first` counts what came before.
  // The order of the additions is the same for every number of rows.
  template <int kCount, int kMask>
  LSTM_EXT_DEVICE void add_lanes(const float (&sums)[kCount], int row, int first,
                                 float* parts) const {
    constexpr int kKept = kCount > 1 ? kCount / 2 : 1;
    const bool upper = kCount > 1 && (thread_index() & kMask) != 0;
    float kept[kKept];
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      const float low = sums[i], high = sums[kCount > 1 ? i + kKept : i];
      kept[i] = (upper ? high : low) + shuffle_xor(upper ? low : high, kMask);
    }
    if (upper) first += kKept;
    if constexpr (2 * kMask < kMaxLanes) {
      if (2 * kMask < g_.lanes) return add_lanes<kKept, 2 * kMask>(kept, row, first, parts);
    }
    write(kept, row, first, parts);
  }

  template <int kCount>
  LSTM_EXT_DEVICE void write(const float (&sums)[kCount], int row, int first, float* parts) const {
    if (quad_ >= g_.quads) return;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int r = row + (first + i) / kFloatOuts, j = (first + i) % kFloatOuts;
      parts[(part_ * g_.rows + r) * g_.outs + quad_ * kFloatOuts + j] = sums[i];
    }
  }

  const Geometry& g_;
  int slice_, quad_, part_;
  float held_[kFloatDepth][kFloatOuts];
  float* spare_ = nullptr;
};

// A warp computes `out_tiles` runs, each of 16 outputs over the `k_tiles` fragments of one slice.
// The weights are the mma's first operand, transposed, so that they stay while rows change.
template <bool kDeep>
class BFloat16Multiplier {
 public:
  using Stored = BFloat16;
  static constexpr int kUnitsAWord = 2;
  static constexpr int kPairApart = 2;

  LSTM_EXT_DEVICE explicit BFloat16Multiplier(const Geometry& g)
      : g_(g),
        slice_(thread_index() / kWarp % g.slices),
        first_tile_(thread_index() / kWarp / g.slices * g.out_tiles) {}

  LSTM_EXT_DEVICE static int words(int values) { return values / 2; }
  // The two words that a lane needs for an mma, four apart, lie together.
  LSTM_EXT_DEVICE int word(int row, int pair) const {
    return row * g_.row_words + pair / 8 * 8 + pair % 4 * 2 + pair % 8 / 4;
  }
  LSTM_EXT_DEVICE void put(uint32_t* in, int row, int k, float value) const {
    reinterpret_cast<uint16_t*>(in)[2 * word(row, k / 2) + k % 2] = bfloat16_of(value);
  }
  LSTM_EXT_DEVICE float sum(const float* parts, int at) const { return sum_parts(g_, parts, at); }
  LSTM_EXT_DEVICE static uint32_t packed(float value) {
    const uint32_t mine = bfloat16_of(value), other = shuffle_xor(mine, kNumGates);
    return thread_index() & kNumGates ? other | mine << 16 : mine | other << 16;
  }

  template <class Weight>
  LSTM_EXT_DEVICE void load(const Weight& weight, uint32_t* spare) {
    spare_ = spare;
#pragma unroll
    for (int i = 0; i < kFragments; ++i) {
#pragma unroll
      for (int j = 0; j < kFragmentWords; ++j) held_[i][j] = read(weight, i, j);
    }
    for (int i = 0; i < (kDeep ? kFragments : 0); ++i) {
      for (int j = 0; j < kFragmentWords; ++j) {
        spare_[spare_index(i) + j] = read(weight, kFragments + i, j);
      }
    }
  }

  LSTM_EXT_DEVICE void multiply(const uint32_t* in, int rows, float* parts) const {
    int row = 0;
    for (; row + kFragmentRows < rows; row += 2 * kFragmentRows) tile<2>(in, row, parts);
    if (row < rows) tile<1>(in, row, parts);
  }

 private:
  // Word j of fragment i: two neighbouring k of one output. Rows of a fragment are outputs.
  template <class Weight>
  LSTM_EXT_DEVICE uint32_t read(const Weight& weight, int i, int j) const {
    const int lane = thread_index() % kWarp, tile = i / g_.k_tiles;
    if (tile >= g_.out_tiles) return 0;
    const int n = (first_tile_ + tile) * kFragmentSide + lane / 4 + (j % 2 ? 8 : 0);
    const int k =
        slice_ * g_.depth + i % g_.k_tiles * kFragmentSide + lane % 4 * 2 + (j / 2 ? 8 : 0);
    const uint32_t low = k < g_.k && n < g_.n ? weight(k, n).bits : 0;
    const uint32_t high = k + 1 < g_.k && n < g_.n ? weight(k + 1, n).bits : 0;
    return low | high << 16;
  }
  LSTM_EXT_DEVICE int spare_index(int i) const {
    return (i * g_.threads + thread_index()) * kFragmentWords;
  }

  struct alignas(16) Words {
    uint32_t v[kFragmentWords];
  };
  struct alignas(8) Pair {
    uint32_t v[2];
  };

  // Sums of even and odd fragments, so that one mma need not wait for the last, of each eight rows.
  template <int kEights>
  struct Run {
    float sums[kEights][2][4];
    int tile, fragment;
  };

  // Eight rows, or sixteen, for which a fragment is fetched once.
  template <int kEights>
  LSTM_EXT_DEVICE void tile(const uint32_t* in, int row, float* parts) const {
    const int lane = thread_index() % kWarp;
    const uint32_t* values = in + word(row + lane / 4, slice_ * g_.depth / 2 + lane % 4);
    Run<kEights> run{};
#pragma unroll
    for (int i = 0; i < kFragments; ++i) step(held_[i], i, values, row, parts, run);
#pragma unroll 4
    for (int i = 0; i < (kDeep ? kFragments : 0); ++i) {
      const Words w = *reinterpret_cast<const Words*>(spare_ + spare_index(i));
      step(w.v, i, values, row, parts, run);
    }
  }

  // One fragment; after the last of a run its sums are written. Uniform in a warp.
  template <int kEights>
  LSTM_EXT_DEVICE void step(const uint32_t (&w)[kFragmentWords], int i, const uint32_t* values,
                            int row, float* parts, Run<kEights>& run) const {
    if (run.tile >= g_.out_tiles) return;
#pragma unroll
    for (int e = 0; e < kEights; ++e) {
      const uint32_t* at = values + e * kFragmentRows * g_.row_words;
      const auto x = *reinterpret_cast<const Pair*>(at + run.fragment * (kFragmentSide / 2));
      multiply_fragments(run.sums[e][i % 2], w, x.v[0], x.v[1]);
    }
    if (++run.fragment < g_.k_tiles) return;
#pragma unroll
    for (int e = 0; e < kEights; ++e) {
      write(run.sums[e], run.tile, row + e * kFragmentRows, parts);
#pragma unroll
      for (int j = 0; j < 4; ++j) run.sums[e][0][j] = run.sums[e][1][j] = 0;
    }
    run.fragment = 0;
    ++run.tile;
  }

  LSTM_EXT_DEVICE void write(const float (&sums)[2][4], int tile, int row, float* parts) const {
    const int lane = thread_index() % kWarp;
    const int n = (first_tile_ + tile) * kFragmentSide + lane / 4;
    if (n - lane / 4 >= g_.outs) return;
    const int first = slice_ * g_.rows + row + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      parts[(first + j % 2) * g_.outs + n + j / 2 * 8] = sums[0][j] + sums[1][j];
    }
  }

  const Geometry& g_;
  int slice_, first_tile_;
  uint32_t held_[kFragments][kFragmentWords];
  uint32_t* spare_ = nullptr;
};

}  // namespace cuda
}  // namespace lstm_ext
