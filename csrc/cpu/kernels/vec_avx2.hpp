// AVX2 + FMA vectors. Included inside the anonymous namespace of one kernel file.
inline __m256i first_lanes_32(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline __m256i first_lanes_64(int n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}

struct F32 {
  using Scalar = float;
  static constexpr int kLanes = 8;
  __m256 v;

  static F32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static F32 load_partial(const float* p, int n) {
    return {_mm256_maskload_ps(p, first_lanes_32(n))};
  }
  static F32 broadcast(float s) { return {_mm256_set1_ps(s)}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store_partial(float* p, int n) const { _mm256_maskstore_ps(p, first_lanes_32(n), v); }
};

inline F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
inline F32 sqrt(F32 a) { return {_mm256_sqrt_ps(a.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
inline F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
inline F32 abs(F32 a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
inline F32 copy_sign(F32 a, F32 sign) {
  return {_mm256_or_ps(abs(a).v, _mm256_and_ps(sign.v, _mm256_set1_ps(-0.0f)))};
}
inline F32 where_greater(F32 a, F32 b, F32 x, F32 y) {
  return {_mm256_blendv_ps(y.v, x.v, _mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ))};
}
inline F32 to_exponent(F32 a) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.v), 23))};
}

struct F64 {
  using Scalar = double;
  static constexpr int kLanes = 4;
  __m256d v;

  static F64 load(const double* p) { return {_mm256_loadu_pd(p)}; }
  static F64 load_partial(const double* p, int n) {
    return {_mm256_maskload_pd(p, first_lanes_64(n))};
  }
  static F64 broadcast(double s) { return {_mm256_set1_pd(s)}; }
  void store(double* p) const { _mm256_storeu_pd(p, v); }
  void store_partial(double* p, int n) const { _mm256_maskstore_pd(p, first_lanes_64(n), v); }
};

inline F64 operator+(F64 a, F64 b) { return {_mm256_add_pd(a.v, b.v)}; }
inline F64 operator-(F64 a, F64 b) { return {_mm256_sub_pd(a.v, b.v)}; }
inline F64 operator*(F64 a, F64 b) { return {_mm256_mul_pd(a.v, b.v)}; }
inline F64 operator/(F64 a, F64 b) { return {_mm256_div_pd(a.v, b.v)}; }
inline F64 sqrt(F64 a) { return {_mm256_sqrt_pd(a.v)}; }
inline F64 fma(F64 a, F64 b, F64 c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
inline F64 max(F64 a, F64 b) { return {_mm256_max_pd(a.v, b.v)}; }
inline F64 min(F64 a, F64 b) { return {_mm256_min_pd(a.v, b.v)}; }
inline F64 abs(F64 a) { return {_mm256_andnot_pd(_mm256_set1_pd(-0.0), a.v)}; }
inline F64 copy_sign(F64 a, F64 sign) {
  return {_mm256_or_pd(abs(a).v, _mm256_and_pd(sign.v, _mm256_set1_pd(-0.0)))};
}
inline F64 where_greater(F64 a, F64 b, F64 x, F64 y) {
  return {_mm256_blendv_pd(y.v, x.v, _mm256_cmp_pd(a.v, b.v, _CMP_GT_OQ))};
}
inline F64 to_exponent(F64 a) {
  return {_mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(a.v), 52))};
}

// Pairs of bfloat16, one pair a lane.
struct BFloat16Pairs {
  __m256i v;
  static BFloat16Pairs load(const uint16_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
  }
  F32 first() const { return {_mm256_castsi256_ps(_mm256_slli_epi32(v, 16))}; }
  F32 second() const {
    return {
        _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
  }
};

// Sums of this type stay in registers; GCC copies those of type __m256i to and fro.
#ifdef __GNUC__
using Int32Lanes = int32_t __attribute__((vector_size(32)));
#else
using Int32Lanes = __m256i;
#endif

struct I32 {
  Int32Lanes v;
  static I32 load(const int32_t* p) {
    return {(Int32Lanes)_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
  }
  static I32 widen_pairs(const int8_t* p) {
    return {(Int32Lanes)_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  static I32 broadcast_pair(const int16_t* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return {(Int32Lanes)_mm256_set1_epi32(pair)};
  }
};

inline F32 to_float(I32 a) { return {_mm256_cvtepi32_ps((__m256i)a.v)}; }
inline I32 add_pair_products(I32 sum, I32 a, I32 b) {
  const __m256i products = _mm256_madd_epi16((__m256i)a.v, (__m256i)b.v);
  Int32Lanes added = (Int32Lanes)_mm256_add_epi32((__m256i)sum.v, products);
#ifdef __GNUC__
  // Else GCC adds the products of several groups first, and runs out of registers.
  __asm__("" : "+x"(added));
#endif
  return {added};
}
