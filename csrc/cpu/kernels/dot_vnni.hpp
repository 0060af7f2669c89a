// Products of four bytes by AVX512_VNNI, which wants one factor without a sign: activations carry
// an offset of 128, and sums start from what that adds, negated. Included after small_weights.hpp.
struct DotInt8 : Int8Sums {
  using Activation = uint8_t;
  using Factor = I32;
  using Loaded = I32;
  static constexpr int kGroup = 4;
  static constexpr int kVector = F32::kLanes * kGroup;
  static constexpr int kMultiple = kGroup;
  static constexpr bool kColumnsFirst = false;
  static constexpr int kFetches = kUnrolled;
  static constexpr int kOffset = 128;

  static Factor broadcast(const Activation* a) {
    int32_t four;
    __builtin_memcpy(&four, a, sizeof four);
    return {(Int32Lanes)_mm512_set1_epi32(four)};
  }
  static Loaded load(const Weight* panel) { return {(Int32Lanes)_mm512_loadu_si512(panel)}; }
  static Sum multiply_add(Factor a, Loaded b, Sum sum) {
    return {(Int32Lanes)_mm512_dpbusd_epi32((__m512i)sum.v, (__m512i)a.v, (__m512i)b.v)};
  }
};
