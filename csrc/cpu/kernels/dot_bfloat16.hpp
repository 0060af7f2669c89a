// Products of pairs of bfloat16 by AVX512_BF16, two fused multiply-adds in one instruction: first
// of the pair's upper halves and then of its lower ones. Where a pair holds k + 2 below k, it
// continues a sum of even k, or of odd ones, in its order. Included after small_weights.hpp.

constexpr Places kPairsOfOneParity{{1, 3, 0, 2}};

// Of each four k the even ones, or the odd.
template <bool kOdd>
struct DotHalf : Bfloat16Sums {
  using Activation = uint16_t;
  using Factor = __m512bh;
  using Loaded = __m512bh;
  static constexpr int kGroup = 4;
  static constexpr int kFetches = kOdd ? 0 : 2 * kUnrolled;

  static Sum zero() { return F32::broadcast(0); }
  static Factor broadcast(const Activation* a) {
    int32_t pair;
    __builtin_memcpy(&pair, a + 2 * kOdd, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
  }
  static Loaded load(const Weight* panel) {
    return (__m512bh)_mm512_loadu_si512(panel + kOdd * kPanelVectors * kVector);
  }
  static Sum multiply_add(Factor a, Loaded b, Sum sum) { return {_mm512_dpbf16_ps(sum.v, a, b)}; }
};

template <int kParts>
struct DotHalves : Bfloat16Sums {
  struct Pairs {
    __m512bh even, odd;
  };
  using Activation = uint16_t;
  using Factor = Pairs;
  using Loaded = Pairs;
  using Sum = EvenAndOdd;
  static constexpr int kGroup = 4;
  static constexpr int kFetches = 2 * kUnrolled / kParts;
  static constexpr int kFetchVectors = kPanelVectors / kParts;

  static Sum zero() { return {F32::broadcast(0), F32::broadcast(0)}; }
  static Factor broadcast(const Activation* a) {
    return {DotHalf<false>::broadcast(a), DotHalf<true>::broadcast(a)};
  }
  static Loaded load(const Weight* panel) {
    return {DotHalf<false>::load(panel), DotHalf<true>::load(panel)};
  }
  static Sum multiply_add(const Factor& a, const Loaded& b, const Sum& sum) {
    return {DotHalf<false>::multiply_add(a.even, b.even, sum.even),
            DotHalf<true>::multiply_add(a.odd, b.odd, sum.odd)};
  }
};

struct DotBfloat16 : Bfloat16Sums {
  using Activation = uint16_t;
  using Even = DotHalf<false>;
  using Odd = DotHalf<true>;
  template <int kParts>
  using Both = DotHalves<kParts>;
  static constexpr int kMultiple = 4;
  static constexpr int kSpan = 16;
  static constexpr int kBothSums = 24;
  static constexpr Places kPlaces = kPairsOfOneParity;

  template <int R>
  struct SpanRows {
    const Activation* rows;
    int64_t row_stride;
    SpanRows(const Activation* a, int64_t stride) : rows(a), row_stride(stride) {}
  };

  static void encode(int64_t k, const float* x, unsigned char* out, Int8Row*) {
    auto* const to = reinterpret_cast<Activation*>(out);
    const int64_t padded = padded_depth<DotBfloat16>(k);
    const auto first = [](int64_t n) { return static_cast<__mmask32>((uint64_t{1} << n) - 1); };
    const auto load = [&](int64_t i) {
      const int64_t n = min64(k - i, F32::kLanes);
      return n <= 0 ? _mm512_setzero_ps()
                    : _mm512_maskz_loadu_ps(static_cast<__mmask16>(first(n)), x + i);
    };
    for (int64_t i = 0; i < padded; i += 2 * F32::kLanes) {
      auto values = (__m512i)_mm512_cvtne2ps_pbh(load(i + F32::kLanes), load(i));
      values = _mm512_shufflelo_epi16(values, _MM_SHUFFLE(1, 3, 0, 2));
      values = _mm512_shufflehi_epi16(values, _MM_SHUFFLE(1, 3, 0, 2));
      _mm512_mask_storeu_epi16(to + i, first(min64(padded - i, 2 * F32::kLanes)), values);
    }
  }
};
