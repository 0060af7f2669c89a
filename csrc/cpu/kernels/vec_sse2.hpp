// SSE2 vectors, which every x86-64 has: no fused multiply-add and no masked memory access.
// Included inside the anonymous namespace of one kernel file.
struct F32 {
  using Scalar = float;
  static constexpr int kLanes = 4;
  __m128 v;

  static F32 load(const float* p) { return {_mm_loadu_ps(p)}; }
  static F32 load_partial(const float* p, int n) {
    alignas(16) float lanes[4] = {0, 0, 0, 0};
    for (int i = 0; i < n; ++i) lanes[i] = p[i];
    return {_mm_load_ps(lanes)};
  }
  static F32 broadcast(float s) { return {_mm_set1_ps(s)}; }
  void store(float* p) const { _mm_storeu_ps(p, v); }
  void store_partial(float* p, int n) const {
    alignas(16) float lanes[4];
    _mm_store_ps(lanes, v);
    for (int i = 0; i < n; ++i) p[i] = lanes[i];
  }
};

inline F32 operator+(F32 a, F32 b) { return {_mm_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm_mul_ps(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm_div_ps(a.v, b.v)}; }
inline F32 sqrt(F32 a) { return {_mm_sqrt_ps(a.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
inline F32 max(F32 a, F32 b) { return {_mm_max_ps(a.v, b.v)}; }
inline F32 min(F32 a, F32 b) { return {_mm_min_ps(a.v, b.v)}; }
inline F32 abs(F32 a) { return {_mm_andnot_ps(_mm_set1_ps(-0.0f), a.v)}; }
inline F32 copy_sign(F32 a, F32 sign) {
  return {_mm_or_ps(abs(a).v, _mm_and_ps(sign.v, _mm_set1_ps(-0.0f)))};
}
inline F32 where_greater(F32 a, F32 b, F32 x, F32 y) {
  const __m128 mask = _mm_cmpgt_ps(a.v, b.v);
  return {_mm_or_ps(_mm_and_ps(mask, x.v), _mm_andnot_ps(mask, y.v))};
}
inline F32 to_exponent(F32 a) {
  return {_mm_castsi128_ps(_mm_slli_epi32(_mm_castps_si128(a.v), 23))};
}

struct F64 {
  using Scalar = double;
  static constexpr int kLanes = 2;
  __m128d v;

  static F64 load(const double* p) { return {_mm_loadu_pd(p)}; }
  static F64 load_partial(const double* p, int n) {
    return n == 1 ? F64{_mm_load_sd(p)} : n == 0 ? F64{_mm_setzero_pd()} : load(p);
  }
  static F64 broadcast(double s) { return {_mm_set1_pd(s)}; }
  void store(double* p) const { _mm_storeu_pd(p, v); }
  void store_partial(double* p, int n) const {
    if (n == 1) _mm_store_sd(p, v);
    if (n == 2) store(p);
  }
};

inline F64 operator+(F64 a, F64 b) { return {_mm_add_pd(a.v, b.v)}; }
inline F64 operator-(F64 a, F64 b) { return {_mm_sub_pd(a.v, b.v)}; }
inline F64 operator*(F64 a, F64 b) { return {_mm_mul_pd(a.v, b.v)}; }
inline F64 operator/(F64 a, F64 b) { return {_mm_div_pd(a.v, b.v)}; }
inline F64 sqrt(F64 a) { return {_mm_sqrt_pd(a.v)}; }
inline F64 fma(F64 a, F64 b, F64 c) { return a * b + c; }
inline F64 max(F64 a, F64 b) { return {_mm_max_pd(a.v, b.v)}; }
inline F64 min(F64 a, F64 b) { return {_mm_min_pd(a.v, b.v)}; }
inline F64 abs(F64 a) { return {_mm_andnot_pd(_mm_set1_pd(-0.0), a.v)}; }
inline F64 copy_sign(F64 a, F64 sign) {
  return {_mm_or_pd(abs(a).v, _mm_and_pd(sign.v, _mm_set1_pd(-0.0)))};
}
inline F64 where_greater(F64 a, F64 b, F64 x, F64 y) {
  const __m128d mask = _mm_cmpgt_pd(a.v, b.v);
  return {_mm_or_pd(_mm_and_pd(mask, x.v), _mm_andnot_pd(mask, y.v))};
}
inline F64 to_exponent(F64 a) {
  return {_mm_castsi128_pd(_mm_slli_epi64(_mm_castpd_si128(a.v), 52))};
}

// Pairs of bfloat16, one pair a lane.
struct BFloat16Pairs {
  __m128i v;
  static BFloat16Pairs load(const uint16_t* p) {
    return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))};
  }
  F32 first() const { return {_mm_castsi128_ps(_mm_slli_epi32(v, 16))}; }
  F32 second() const {
    return {_mm_castsi128_ps(_mm_and_si128(v, _mm_set1_epi32(static_cast<int>(0xffff0000u))))};
  }
};

struct I32 {
  __m128i v;
  static I32 load(const int32_t* p) {
    return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))};
  }
  static I32 widen_pairs(const int8_t* p) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return {_mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8)};
  }
  static I32 broadcast_pair(const int16_t* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return {_mm_set1_epi32(pair)};
  }
};

inline F32 to_float(I32 a) { return {_mm_cvtepi32_ps(a.v)}; }
inline I32 add_pair_products(I32 sum, I32 a, I32 b) {
  return {_mm_add_epi32(sum.v, _mm_madd_epi16(a.v, b.v))};
}
