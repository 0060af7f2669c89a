// Small weights: how activations are encoded, and weights that are widened in registers, for
// instruction sets without products of their own for them. Formats: kernel_set.hpp. Included after
// gemm_impl.hpp.

inline uint32_t bits_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// The bits of the nearest bfloat16, ties to even, in the upper half of a float's.
inline uint32_t round_to_bfloat16(uint32_t bits) {
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
  const uint32_t number = magnitude < 0x00800000u ? bits & 0x80000000u : rounded;
  return magnitude > 0x7f800000u ? (bits | 0x00400000u) & 0xffff0000u : number;
}

inline void store_bfloat16(uint32_t bits, float* to) { *to = float_of(bits); }
inline void store_bfloat16(uint32_t bits, uint16_t* to) { *to = static_cast<uint16_t>(bits >> 16); }

template <class W>
void encode_bfloat16(int64_t k, const float* x, unsigned char* out, Int8Row*) {
  auto* to = reinterpret_cast<typename W::Activation*>(out);
  for (int64_t i = 0; i < k; ++i) store_bfloat16(round_to_bfloat16(bits_of(x[i])), to + i);
  for (int64_t i = k; i < padded_depth<W>(k); ++i) to[i] = 0;
}

template <class W>
void encode_int8(int64_t k, const float* x, unsigned char* out, Int8Row* row) {
  auto* to = reinterpret_cast<typename W::Activation*>(out);
  // The largest numbers of either sign, whose magnitudes compare like their bits: NaN and infinity
  // are the largest.
  int32_t high_bits = 0, low_bits = 0;
  for (int64_t i = 0; i < k; ++i) {
    const auto bits = static_cast<int32_t>(bits_of(x[i]));
    const auto negated = static_cast<int32_t>(bits_of(x[i]) ^ 0x80000000u);
    high_bits = bits > high_bits ? bits : high_bits;
    low_bits = negated > low_bits ? negated : low_bits;
  }
  const float high = float_of(static_cast<uint32_t>(high_bits));
  const float low = float_of(static_cast<uint32_t>(low_bits));  // the least is -low
  const float scale = high / 255.0f + low / 255.0f;
  constexpr int32_t kInfinity = 0x7f800000;
  constexpr float kSmallest = 0x1p-107f;  // below, the factor would overflow
  const bool finite = high_bits < kInfinity && low_bits < kInfinity;
  const float factor = finite && scale >= kSmallest ? 1.0f / scale : 0.0f;
  // Adding 1.5 * 2^23 leaves the nearest whole number, ties to even, in the low bits. That of
  // numbers that are not finite means nothing.
  constexpr float kRound = 12582912.0f;
  constexpr uint32_t kRoundBits = 0x4b400000u;
  const float zero = finite ? (low * factor + kRound) - kRound : 0.0f;  // stands for 0, of 0 to 255
  row->scale = !finite ? float_of(0x7fc00000u) : scale >= kSmallest ? scale : 0.0f;
  row->zero = (128.0f - zero) * row->scale;
  const float from_zero = kRound + zero;
  for (int64_t i = 0; i < k; ++i) {
    const auto bits = static_cast<int32_t>(bits_of(x[i] * factor + from_zero));
    constexpr auto kLargest = static_cast<int32_t>(kRoundBits + 255);  // 256 may come of rounding
    const auto within = static_cast<uint32_t>(bits < kLargest ? bits : kLargest);
    to[i] = static_cast<typename W::Activation>(within + static_cast<uint32_t>(W::kOffset - 128));
  }
  for (int64_t i = k; i < padded_depth<W>(k); ++i) to[i] = 0;
}

// What the ways to multiply Bfloat16 share. Even and odd k have sums of their own within a span. An
// instruction set says how it makes them, as if these were formats of their own: Even and Odd, one
// after the other, or Both<parts> at once for one of so many parts of a panel's vectors. That is
// all of them where both have no more than kBothSums sums, or a half; with 0 it is never done.
// SpanRows is what it makes of the rows of a span first.
struct Bfloat16Sums {
  using Format = Bfloat16;
  using Vector = F32;
  using Activation = float;
  using Weight = uint16_t;
  using Sum = F32;
  struct Mode : FlushDenormals {
    explicit Mode(int64_t) {}
  };
  static constexpr bool kRegisterTiles = false;
  static constexpr bool kWidensOnce = false;
  static constexpr int kGroup = 2;
  static constexpr int kVector = F32::kLanes * kGroup;
  static constexpr int kMultiple = kGroup;
  static constexpr int kSpan = 0;
  static constexpr int kRowsAtOnce = 1;
  static constexpr int kTileRows = LSTM_EXT_TILE_ROWS;
  static constexpr int kMostRows = kTileRows;
  static constexpr bool kColumnsFirst = LSTM_EXT_TILE_ROWS < kPanelVectors;
  static constexpr int kFetches = kUnrolled;
  static constexpr int kFetchVectors = kPanelVectors;
  static constexpr int kOffset = 0;
  static constexpr Places kPlaces = kInOrder;

  static Sum start(const Scales<Format>&, int64_t, int64_t) { return F32::broadcast(0); }
  static F32 total(Sum sum, const Scales<Format>&, int64_t, int64_t, int64_t) { return sum; }
};

struct EvenAndOdd {
  F32 even, odd;
};

// bfloat16 is the upper half of a float: a pair comes apart by a shift and a mask.
template <bool kOdd>
struct WidenedHalf : Bfloat16Sums {
  using Factor = F32;
  using Loaded = F32;
  static constexpr int kFetches = kOdd ? 0 : kUnrolled;

  static Sum zero() { return F32::broadcast(0); }
  static Factor broadcast(const Activation* a) { return F32::broadcast(a[kOdd]); }
  static Loaded load(const Weight* panel) {
    const BFloat16Pairs pairs = BFloat16Pairs::load(panel);
    return kOdd ? pairs.second() : pairs.first();
  }
  static Sum multiply_add(Factor a, Loaded b, Sum sum) { return fma(a, b, sum); }
};

template <int kParts>
struct WidenedHalves : Bfloat16Sums {
  using Factor = EvenAndOdd;
  using Loaded = EvenAndOdd;
  using Sum = EvenAndOdd;
  static constexpr int kFetches = kUnrolled / kParts;
  static constexpr int kFetchVectors = kPanelVectors / kParts;

  static Sum zero() { return {F32::broadcast(0), F32::broadcast(0)}; }
  static Factor broadcast(const Activation* a) {
    return {F32::broadcast(a[0]), F32::broadcast(a[1])};
  }
  static Loaded load(const Weight* panel) {
    const BFloat16Pairs pairs = BFloat16Pairs::load(panel);
    return {pairs.first(), pairs.second()};
  }
  static Sum multiply_add(const Factor& a, const Loaded& b, const Sum& sum) {
    return {fma(a.even, b.even, sum.even), fma(a.odd, b.odd, sum.odd)};
  }
};

// Activations of one span that are floats already.
struct FloatRows {
  const float* rows;
  int64_t row_stride;
  FloatRows(const float* a, int64_t stride) : rows(a), row_stride(stride) {}
};

// Pairs that were widened before: a vector of even k, and one of odd k.
template <bool kOdd>
struct WideHalf : WidenedHalf<kOdd> {
  using Weight = float;
  static constexpr int kFetches = 0;
  static F32 load(const float* panel) { return F32::load(panel + kOdd * F32::kLanes); }
};

struct WideBfloat16 : Bfloat16Sums {
  using Weight = float;
  using Even = WideHalf<false>;
  using Odd = WideHalf<true>;
  static constexpr int kSpan = 16;
  static constexpr int kBothSums = 0;
  template <int R>
  using SpanRows = FloatRows;
};

struct WidenedBfloat16 : Bfloat16Sums {
  using Even = WidenedHalf<false>;
  using Odd = WidenedHalf<true>;
  using Wide = WideBfloat16;
  template <int kParts>
  using Both = WidenedHalves<kParts>;
  static constexpr int kSpan = 16;
  static constexpr int kBothSums = kTileRows > 3 ? 16 : 0;
  static constexpr bool kWidensOnce = kBothSums == 0;
  template <int R>
  using SpanRows = FloatRows;

  // pairs (size) -> wide (2 * size); lines of `next` are fetched on the way.
  static void widen(const Weight* pairs, int64_t size, const Weight* next, float* wide) {
    for (int64_t i = 0; i < 2 * size; i += kVector) {
      const BFloat16Pairs loaded = BFloat16Pairs::load(pairs + i);
      loaded.first().store(wide + i);
      loaded.second().store(wide + i + F32::kLanes);
      LSTM_EXT_PREFETCH(next + i);
    }
  }
};

// Sums of one span, R rows by N vectors, as W multiplies it. `groups` counts pairs.
template <class W, int R, int N, int P>
LSTM_EXT_INLINE Tile<W, R, P * N> multiply_span(const typename W::Activation* a, int64_t row_stride,
                                                const typename W::Weight* panels,
                                                int64_t panel_width, int64_t panel_size,
                                                int64_t groups, const typename W::Weight* ahead) {
  Tile<W, R, P * N> tile;
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    LSTM_EXT_UNROLL
    for (int j = 0; j < P * N; ++j) tile.sum[r][j] = W::zero();
  }
  multiply<W, R, N, P>(tile, a, row_stride, W::kGroup, panels, panel_width, panel_size,
                       groups * Bfloat16Sums::kGroup / W::kGroup, ahead);
  return tile;
}

// For how many vectors of a panel both sums of R rows are made at once: all or half of them, or 0
// where W makes one sum after the other.
template <class W, int R, int N, int P>
constexpr int vectors_with_both() {
  if (2 * R * P * N <= W::kBothSums) return N;
  return W::kBothSums > 0 && P == 1 && N == kPanelVectors ? N / 2 : 0;
}

// tile += one span of `groups`, or of kSpan where it is full, which compilers then know.
template <class W, bool kFull, int R, int N, int P>
LSTM_EXT_INLINE void add_span(Tile<W, R, P * N>& tile, const typename W::Activation* a,
                              int64_t row_stride, const typename W::Weight* panels,
                              int64_t panel_width, int64_t panel_size, int64_t groups,
                              const typename W::Weight* ahead) {
  const int64_t span = kFull ? W::kSpan : groups;
  // A span that is not full ends with products of zeros, which make -0 to 0.
  const auto sum_of = [](F32 even, F32 odd) {
    const F32 zero = F32::broadcast(0);
    return kFull ? even + odd : (even + zero) + (odd + zero);
  };
  const typename W::template SpanRows<R> own(a, row_stride);
  constexpr int kBoth = vectors_with_both<W, R, N, P>(), kLine = 64 / sizeof(typename W::Weight);
  if constexpr (kBoth > 0) {
    using Both = typename W::template Both<N / kBoth>;
    LSTM_EXT_UNROLL
    for (int first = 0; first < N; first += kBoth) {
      const auto both = multiply_span<Both, R, kBoth, P>(
          own.rows, own.row_stride, panels + first * W::kVector, panel_width, panel_size, span,
          ahead + first * kLine * span / N);
      LSTM_EXT_UNROLL
      for (int r = 0; r < R; ++r) {
        LSTM_EXT_UNROLL
        for (int j = 0; j < P * kBoth; ++j) {
          F32& sum = tile.sum[r][first + j];
          sum = sum + sum_of(both.sum[r][j].even, both.sum[r][j].odd);
        }
      }
    }
  } else {
    const auto even = multiply_span<typename W::Even, R, N, P>(
        own.rows, own.row_stride, panels, panel_width, panel_size, span, ahead);
    const auto odd = multiply_span<typename W::Odd, R, N, P>(own.rows, own.row_stride, panels,
                                                             panel_width, panel_size, span, ahead);
    LSTM_EXT_UNROLL
    for (int r = 0; r < R; ++r) {
      LSTM_EXT_UNROLL
      for (int j = 0; j < P * N; ++j) {
        tile.sum[r][j] = tile.sum[r][j] + sum_of(even.sum[r][j], odd.sum[r][j]);
      }
    }
  }
}

// As `multiply`, where even and odd k have sums of their own that meet after each span.
template <class W, int R, int N, int P>
LSTM_EXT_INLINE void multiply_spans(Tile<W, R, P * N>& tile, const typename W::Activation* a,
                                    int64_t row_stride, const typename W::Weight* panels,
                                    int64_t panel_width, int64_t panel_size, int64_t groups,
                                    const typename W::Weight* ahead) {
  constexpr int64_t kSpan = W::kSpan, kLine = 64 / sizeof(typename W::Weight);
  int64_t g = 0;
  for (; g + kSpan <= groups; g += kSpan) {
    add_span<W, true, R, N, P>(tile, a, row_stride, panels, panel_width, panel_size, kSpan, ahead);
    a += kSpan * W::kGroup;
    panels += kSpan * panel_width * W::kGroup;
    ahead += kSpan * kLine;
  }
  if (g < groups) {
    add_span<W, false, R, N, P>(tile, a, row_stride, panels, panel_width, panel_size, groups - g,
                                ahead);
  }
}

// What the ways to multiply Int8 share: where sums start, and what they are worth.
struct Int8Sums {
  using Format = Int8;
  using Vector = F32;
  using Weight = int8_t;
  using Sum = I32;
  using Mode = UsualMode;
  static constexpr bool kRegisterTiles = false;
  static constexpr bool kWidensOnce = false;
  static constexpr int kRowsAtOnce = 1;
  static constexpr int kTileRows = LSTM_EXT_TILE_ROWS;
  static constexpr int kMostRows = kTileRows;
  static constexpr int kSpan = 0;
  static constexpr int kFetchVectors = kPanelVectors;
  static constexpr Places kPlaces = kInOrder;

  static Sum start(const Scales<Format>& scales, int64_t k0, int64_t column) {
    return I32::load(scales.columns.start + at(scales, k0, column));
  }
  static F32 total(Sum sum, const Scales<Format>& scales, int64_t k0, int64_t row, int64_t column) {
    const Int8Row& own = scales.rows[row];
    const F32 scale = F32::broadcast(own.scale) * F32::load(scales.columns.scales + column);
    const F32 of_zero =
        F32::broadcast(own.zero) * F32::load(scales.columns.sums + at(scales, k0, column));
    return fma(to_float(sum), scale, of_zero);
  }

 private:
  static int64_t at(const Scales<Format>& scales, int64_t k0, int64_t column) {
    constexpr int64_t kDepth = lstm_ext::cpu::Format<Int8>::kDepthBlock;
    return k0 / kDepth * scales.columns.columns + column;
  }
};

// 8 bits become 16, whose products are added in pairs.
struct WidenedInt8 : Int8Sums {
  using Activation = int16_t;
  using Factor = I32;
  using Loaded = I32;
  static constexpr int kGroup = 2;
  static constexpr int kVector = F32::kLanes * kGroup;
  static constexpr int kMultiple = kGroup;
  // 12 sums, 3 factors, the weights and a product would be one more than 16 registers.
  static constexpr int kTileRows = LSTM_EXT_TILE_ROWS > 3 ? LSTM_EXT_TILE_ROWS : 2;
  static constexpr int kMostRows = kTileRows;
  static constexpr bool kColumnsFirst = true;
  static constexpr int kFetches = kUnrolled;
  static constexpr int kFetchVectors = kPanelVectors;
  static constexpr int kOffset = 0;

  static Factor broadcast(const Activation* a) { return I32::broadcast_pair(a); }
  static Loaded load(const Weight* panel) { return I32::widen_pairs(panel); }
  static Sum multiply_add(Factor a, Loaded b, Sum sum) { return add_pair_products(sum, a, b); }
};

template <class W>
constexpr SmallLayout make_layout() {
  return {F32::kLanes, W::kGroup,      W::kMultiple, sizeof(typename W::Activation),
          W::kOffset,  W::kRowsAtOnce, W::kPlaces,   W::kWidensOnce};
}

template <class W>
constexpr KernelTable<Bfloat16> make_bfloat16_table(Encode encode = &encode_bfloat16<W>) {
  return {{make_layout<W>(), &gemm<W>, &step<W>, encode}};
}

template <class W>
constexpr KernelTable<Int8> make_int8_table() {
  return {{make_layout<W>(), &gemm<W>, &step<W>, &encode_int8<W>}};
}
