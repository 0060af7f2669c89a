// Small weights: how activations are encoded, and weights that are widened in registers, for
// instruction sets without products of their own for them. Formats: kernel_set.hpp. Included after
// kernels_impl.hpp.

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
void encode_bfloat16(int64_t k, const float* x, unsigned char* out, float*) {
  auto* to = reinterpret_cast<typename W::Activation*>(out);
  for (int64_t i = 0; i < k; ++i) store_bfloat16(round_to_bfloat16(bits_of(x[i])), to + i);
  for (int64_t i = k; i < groups_in<W>(k) * W::kGroup; ++i) to[i] = 0;
}

template <class W>
void encode_int8(int64_t k, const float* x, unsigned char* out, float* scale) {
  auto* to = reinterpret_cast<typename W::Activation*>(out);
  int32_t largest = 0;  // magnitudes compare like their bits; NaN and infinity are the largest
  for (int64_t i = 0; i < k; ++i) {
    const auto magnitude = static_cast<int32_t>(bits_of(x[i]) & 0x7fffffffu);
    largest = magnitude > largest ? magnitude : largest;
  }
  const float magnitude = float_of(static_cast<uint32_t>(largest));
  constexpr float kSmallest = 0x1p-100f;  // below, the factor would overflow
  const bool finite = largest < 0x7f800000;
  const float factor = finite && magnitude >= kSmallest ? 127.0f / magnitude : 0.0f;
  *scale = !finite ? float_of(0x7fc00000u) : magnitude >= kSmallest ? magnitude / 127.0f : 0.0f;
  // Adding 1.5 * 2^23 leaves the nearest whole number, ties to even, in the low bits.
  constexpr float kRound = 12582912.0f;
  constexpr uint32_t kRoundBits = 0x4b400000u;
  for (int64_t i = 0; i < k; ++i) {
    const float product = finite ? x[i] * factor : 0.0f;
    to[i] = static_cast<typename W::Activation>(bits_of(product + kRound) - kRoundBits +
                                                static_cast<uint32_t>(W::kOffset));
  }
  for (int64_t i = k; i < groups_in<W>(k) * W::kGroup; ++i) to[i] = 0;
}

// bfloat16 is the upper half of a float: a pair comes apart by a shift and a mask.
struct WidenedBfloat16 {
  using Format = Bfloat16;
  using Vector = F32;
  using Activation = float;
  using Weight = uint16_t;
  struct Factor {
    F32 first, second;
  };
  struct Loaded {
    F32 first, second;
  };
  using Sum = F32;
  using Mode = FlushDenormals;
  static constexpr int kGroup = 2;
  // Of 16 registers: 8 sums, 4 factors, 2 weights and a mask.
  static constexpr int kTileRows = LSTM_EXT_TILE_ROWS > 3 ? LSTM_EXT_TILE_ROWS : 2;
  static constexpr bool kColumnsFirst = true;
  static constexpr int kFetches = kUnrolled;
  static constexpr int kOffset = 0;

  static Sum start(const Scales<Format>&, int64_t, int64_t) { return F32::broadcast(0); }
  static Factor broadcast(const Activation* a) {
    return {F32::broadcast(a[0]), F32::broadcast(a[1])};
  }
  static Loaded load(const Weight* panel) {
    const BFloat16Pairs pairs = BFloat16Pairs::load(panel);
    return {pairs.first(), pairs.second()};
  }
  static Sum multiply_add(const Factor& a, const Loaded& b, Sum sum) {
    return fma(a.first, b.first, fma(a.second, b.second, sum));
  }
  static F32 total(Sum sum, const Scales<Format>&, int64_t, int64_t) { return sum; }
};

// What the ways to multiply Int8 share: where sums start, and what they are worth.
struct Int8Sums {
  using Format = Int8;
  using Vector = F32;
  using Weight = int8_t;
  using Sum = I32;
  struct Mode {};
  static constexpr int kTileRows = LSTM_EXT_TILE_ROWS;

  static Sum start(const Scales<Format>& scales, int64_t k0, int64_t column) {
    const Int8Columns& columns = scales.columns;
    constexpr int64_t kDepth = lstm_ext::cpu::Format<Int8>::kDepthBlock;
    return I32::load(columns.start + k0 / kDepth * columns.columns + column);
  }
  static F32 total(Sum sum, const Scales<Format>& scales, int64_t row, int64_t column) {
    return to_float(sum) *
           (F32::broadcast(scales.rows[row]) * F32::load(scales.columns.scales + column));
  }
};

// 8 bits become 16, whose products are added in pairs.
struct WidenedInt8 : Int8Sums {
  using Activation = int16_t;
  using Factor = I32;
  using Loaded = I32;
  static constexpr int kGroup = 2;
  // 12 sums, 3 factors, the weights and a product would be one more than 16 registers.
  static constexpr int kTileRows = LSTM_EXT_TILE_ROWS > 3 ? LSTM_EXT_TILE_ROWS : 2;
  static constexpr bool kColumnsFirst = true;
  static constexpr int kFetches = kUnrolled;
  static constexpr int kOffset = 0;

  static Factor broadcast(const Activation* a) { return I32::broadcast_pair(a); }
  static Loaded load(const Weight* panel) { return I32::widen_pairs(panel); }
  static Sum multiply_add(Factor a, Loaded b, Sum sum) { return add_pair_products(sum, a, b); }
};

template <class W>
constexpr KernelTable<Bfloat16> make_bfloat16_table() {
  return {{F32::kLanes, W::kGroup, sizeof(typename W::Activation), W::kOffset, &gemm<W>, &step<W>,
           &encode_bfloat16<W>}};
}

template <class W>
constexpr KernelTable<Int8> make_int8_table() {
  return {{F32::kLanes, W::kGroup, sizeof(typename W::Activation), W::kOffset, &gemm<W>, &step<W>,
           &encode_int8<W>}};
}
