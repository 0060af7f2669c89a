// AVX-512 vectors: F+BW+DQ+VL. Included inside the anonymous namespace of one kernel file.
struct F32 {
  using Scalar = float;
  static constexpr int kLanes = 16;
  __m512 v;

  static F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static F32 load_partial(const float* p, int n) {
    return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p)};
  }
  static F32 broadcast(float s) { return {_mm512_set1_ps(s)}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store_partial(float* p, int n) const {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), v);
  }
};

inline F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F32 sqrt(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F32 abs(F32 a) { return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), a.v)}; }
inline F32 copy_sign(F32 a, F32 sign) {
  return {_mm512_or_ps(abs(a).v, _mm512_and_ps(sign.v, _mm512_set1_ps(-0.0f)))};
}
inline F32 where_greater(F32 a, F32 b, F32 x, F32 y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ), y.v, x.v)};
}
inline F32 to_exponent(F32 a) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 23))};
}

struct F64 {
  using Scalar = double;
  static constexpr int kLanes = 8;
  __m512d v;

  static F64 load(const double* p) { return {_mm512_loadu_pd(p)}; }
  static F64 load_partial(const double* p, int n) {
    return {_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1u), p)};
  }
  static F64 broadcast(double s) { return {_mm512_set1_pd(s)}; }
  void store(double* p) const { _mm512_storeu_pd(p, v); }
  void store_partial(double* p, int n) const {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1u), v);
  }
};

inline F64 operator+(F64 a, F64 b) { return {_mm512_add_pd(a.v, b.v)}; }
inline F64 operator-(F64 a, F64 b) { return {_mm512_sub_pd(a.v, b.v)}; }
inline F64 operator*(F64 a, F64 b) { return {_mm512_mul_pd(a.v, b.v)}; }
inline F64 operator/(F64 a, F64 b) { return {_mm512_div_pd(a.v, b.v)}; }
inline F64 sqrt(F64 a) { return {_mm512_sqrt_pd(a.v)}; }
inline F64 fma(F64 a, F64 b, F64 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
inline F64 max(F64 a, F64 b) { return {_mm512_max_pd(a.v, b.v)}; }
inline F64 min(F64 a, F64 b) { return {_mm512_min_pd(a.v, b.v)}; }
inline F64 abs(F64 a) { return {_mm512_andnot_pd(_mm512_set1_pd(-0.0), a.v)}; }
inline F64 copy_sign(F64 a, F64 sign) {
  return {_mm512_or_pd(abs(a).v, _mm512_and_pd(sign.v, _mm512_set1_pd(-0.0)))};
}
inline F64 where_greater(F64 a, F64 b, F64 x, F64 y) {
  return {_mm512_mask_blend_pd(_mm512_cmp_pd_mask(a.v, b.v, _CMP_GT_OQ), y.v, x.v)};
}
inline F64 to_exponent(F64 a) {
  return {_mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(a.v), 52))};
}

// Pairs of bfloat16, one pair a lane.
struct BFloat16Pairs {
  __m512i v;
  static BFloat16Pairs load(const uint16_t* p) { return {_mm512_loadu_si512(p)}; }
  F32 first() const { return {_mm512_castsi512_ps(_mm512_slli_epi32(v, 16))}; }
  F32 second() const {
    return {
        _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
  }
};

// Sums of this type stay in registers; GCC copies those of type __m512i to and fro.
#ifdef __GNUC__
using Int32Lanes = int32_t __attribute__((vector_size(64)));
#else
using Int32Lanes = __m512i;
#endif

struct I32 {
  Int32Lanes v;
  static I32 load(const int32_t* p) { return {(Int32Lanes)_mm512_loadu_si512(p)}; }
  static I32 widen_pairs(const int8_t* p) {
    return {
        (Int32Lanes)_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static I32 broadcast_pair(const int16_t* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return {(Int32Lanes)_mm512_set1_epi32(pair)};
  }
};

inline F32 to_float(I32 a) { return {_mm512_cvtepi32_ps((__m512i)a.v)}; }
inline I32 add_pair_products(I32 sum, I32 a, I32 b) {
  const __m512i products = _mm512_madd_epi16((__m512i)a.v, (__m512i)b.v);
  return {(Int32Lanes)_mm512_add_epi32((__m512i)sum.v, products)};
}
