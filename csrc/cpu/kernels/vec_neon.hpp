// NEON vectors, which every 64-bit ARM processor has, with fused multiply-add. Included inside the
// anonymous namespace of one kernel file.
struct F32 {
  using Scalar = float;
  static constexpr int kLanes = 4;
  float32x4_t v;

  static F32 load(const float* p) { return {vld1q_f32(p)}; }
  static F32 load_partial(const float* p, int n) {
    if (n >= kLanes) return load(p);
    float32x4_t first = vdupq_n_f32(0);
    if (n == 1) first = vld1q_lane_f32(p, first, 0);
    if (n >= 2) first = vcombine_f32(vld1_f32(p), vdup_n_f32(0));
    if (n == 3) first = vld1q_lane_f32(p + 2, first, 2);
    return {first};
  }
  static F32 broadcast(float s) { return {vdupq_n_f32(s)}; }
  void store(float* p) const { vst1q_f32(p, v); }
  void store_partial(float* p, int n) const {
    if (n >= kLanes) return store(p);
    if (n == 1) vst1q_lane_f32(p, v, 0);
    if (n >= 2) vst1_f32(p, vget_low_f32(v));
    if (n == 3) vst1q_lane_f32(p + 2, v, 2);
  }
};

inline F32 from_bits(uint32x4_t bits) { return {vreinterpretq_f32_u32(bits)}; }
inline uint32x4_t bits_of(F32 a) { return vreinterpretq_u32_f32(a.v); }

inline F32 operator+(F32 a, F32 b) { return {vaddq_f32(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {vsubq_f32(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {vmulq_f32(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {vdivq_f32(a.v, b.v)}; }
inline F32 sqrt(F32 a) { return {vsqrtq_f32(a.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
// By a comparison, so that of a NaN and a number, in either order, it is the second, as on x86.
inline F32 max(F32 a, F32 b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }
inline F32 min(F32 a, F32 b) { return {vbslq_f32(vcltq_f32(a.v, b.v), a.v, b.v)}; }
inline F32 abs(F32 a) { return {vabsq_f32(a.v)}; }
inline F32 copy_sign(F32 a, F32 sign) { return {vbslq_f32(vdupq_n_u32(1u << 31), sign.v, a.v)}; }
inline F32 where_greater(F32 a, F32 b, F32 x, F32 y) {
  return {vbslq_f32(vcgtq_f32(a.v, b.v), x.v, y.v)};
}
inline F32 to_exponent(F32 a) { return from_bits(vshlq_n_u32(bits_of(a), 23)); }

struct F64 {
  using Scalar = double;
  static constexpr int kLanes = 2;
  float64x2_t v;

  static F64 load(const double* p) { return {vld1q_f64(p)}; }
  static F64 load_partial(const double* p, int n) {
    if (n >= kLanes) return load(p);
    return {n == 1 ? vcombine_f64(vld1_f64(p), vdup_n_f64(0)) : vdupq_n_f64(0)};
  }
  static F64 broadcast(double s) { return {vdupq_n_f64(s)}; }
  void store(double* p) const { vst1q_f64(p, v); }
  void store_partial(double* p, int n) const {
    if (n >= kLanes) return store(p);
    if (n == 1) vst1_f64(p, vget_low_f64(v));
  }
};

inline F64 from_bits(uint64x2_t bits) { return {vreinterpretq_f64_u64(bits)}; }
inline uint64x2_t bits_of(F64 a) { return vreinterpretq_u64_f64(a.v); }

inline F64 operator+(F64 a, F64 b) { return {vaddq_f64(a.v, b.v)}; }
inline F64 operator-(F64 a, F64 b) { return {vsubq_f64(a.v, b.v)}; }
inline F64 operator*(F64 a, F64 b) { return {vmulq_f64(a.v, b.v)}; }
inline F64 operator/(F64 a, F64 b) { return {vdivq_f64(a.v, b.v)}; }
inline F64 sqrt(F64 a) { return {vsqrtq_f64(a.v)}; }
inline F64 fma(F64 a, F64 b, F64 c) { return {vfmaq_f64(c.v, a.v, b.v)}; }
inline F64 max(F64 a, F64 b) { return {vbslq_f64(vcgtq_f64(a.v, b.v), a.v, b.v)}; }
inline F64 min(F64 a, F64 b) { return {vbslq_f64(vcltq_f64(a.v, b.v), a.v, b.v)}; }
inline F64 abs(F64 a) { return {vabsq_f64(a.v)}; }
inline F64 copy_sign(F64 a, F64 sign) {
  return {vbslq_f64(vdupq_n_u64(uint64_t{1} << 63), sign.v, a.v)};
}
inline F64 where_greater(F64 a, F64 b, F64 x, F64 y) {
  return {vbslq_f64(vcgtq_f64(a.v, b.v), x.v, y.v)};
}
inline F64 to_exponent(F64 a) { return from_bits(vshlq_n_u64(bits_of(a), 52)); }

// Pairs of bfloat16, one pair a lane.
struct BFloat16Pairs {
  uint32x4_t v;
  static BFloat16Pairs load(const uint16_t* p) { return {vreinterpretq_u32_u16(vld1q_u16(p))}; }
  F32 first() const { return from_bits(vshlq_n_u32(v, 16)); }
  F32 second() const { return from_bits(vandq_u32(v, vdupq_n_u32(0xffff0000u))); }
};

// Sums, or pairs of 16 bits of which the first is the lower half of a lane.
struct I32 {
  int32x4_t v;
  static I32 load(const int32_t* p) { return {vld1q_s32(p)}; }
  static I32 widen_pairs(const int8_t* p) { return {vreinterpretq_s32_s16(vmovl_s8(vld1_s8(p)))}; }
  static I32 broadcast_pair(const int16_t* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return {vdupq_n_s32(pair)};
  }
  int16x4_t first() const { return vmovn_s32(v); }
  int16x4_t second() const { return vshrn_n_s32(v, 16); }
};

inline F32 to_float(I32 a) { return {vcvtq_f32_s32(a.v)}; }
// The halves of a and b do not change from one sum to the next: compilers take them apart once.
inline I32 add_pair_products(I32 sum, I32 a, I32 b) {
  return {vmlal_s16(vmlal_s16(sum.v, a.first(), b.first()), a.second(), b.second())};
}
