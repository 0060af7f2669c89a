// Plain C++ vectors for processors that have no kernel file of their own. Included inside the
// anonymous namespace of one kernel file.
template <class S, class Bits, int kMantissaBits>
struct Portable {
  using Scalar = S;
  static constexpr int kLanes = 4;
  S v[kLanes];

  static Portable load(const S* p) { return load_partial(p, kLanes); }
  static Portable load_partial(const S* p, int n) {
    Portable r{};
    for (int i = 0; i < n; ++i) r.v[i] = p[i];
    return r;
  }
  static Portable broadcast(S s) { return {{s, s, s, s}}; }
  void store(S* p) const { store_partial(p, kLanes); }
  void store_partial(S* p, int n) const {
    for (int i = 0; i < n; ++i) p[i] = v[i];
  }

  template <class Function>
  static Portable map(Function function) {
    Portable r;
    for (int i = 0; i < kLanes; ++i) r.v[i] = function(i);
    return r;
  }
  Bits bits(int i) const {
    Bits b;
    __builtin_memcpy(&b, &v[i], sizeof b);
    return b;
  }
  static S from_bits(Bits b) {
    S s;
    __builtin_memcpy(&s, &b, sizeof s);
    return s;
  }

  friend Portable operator+(Portable a, Portable b) {
    return map([&](int i) { return a.v[i] + b.v[i]; });
  }
  friend Portable operator-(Portable a, Portable b) {
    return map([&](int i) { return a.v[i] - b.v[i]; });
  }
  friend Portable operator*(Portable a, Portable b) {
    return map([&](int i) { return a.v[i] * b.v[i]; });
  }
  friend Portable operator/(Portable a, Portable b) {
    return map([&](int i) { return a.v[i] / b.v[i]; });
  }
  friend Portable sqrt(Portable a) {
    return map([&](int i) { return static_cast<S>(__builtin_sqrt(a.v[i])); });
  }
  friend Portable fma(Portable a, Portable b, Portable c) { return a * b + c; }
  friend Portable max(Portable a, Portable b) {
    return map([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  friend Portable min(Portable a, Portable b) {
    return map([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  friend Portable abs(Portable a) {
    return map([&](int i) { return from_bits(a.bits(i) & ~kSign); });
  }
  friend Portable copy_sign(Portable a, Portable sign) {
    return map([&](int i) { return from_bits((a.bits(i) & ~kSign) | (sign.bits(i) & kSign)); });
  }
  friend Portable where_greater(Portable a, Portable b, Portable x, Portable y) {
    return map([&](int i) { return a.v[i] > b.v[i] ? x.v[i] : y.v[i]; });
  }
  friend Portable to_exponent(Portable a) {
    return map([&](int i) { return from_bits(a.bits(i) << kMantissaBits); });
  }

 private:
  static constexpr Bits kSign = Bits{1} << (sizeof(Bits) * 8 - 1);
};

using F32 = Portable<float, uint32_t, 23>;
using F64 = Portable<double, uint64_t, 52>;

// Pairs of bfloat16, one pair a lane.
struct BFloat16Pairs {
  uint16_t v[2 * F32::kLanes];
  static BFloat16Pairs load(const uint16_t* p) {
    BFloat16Pairs r;
    __builtin_memcpy(r.v, p, sizeof r.v);
    return r;
  }
  F32 every_other(int begin) const {
    return F32::map([&](int i) { return F32::from_bits(uint32_t{v[2 * i + begin]} << 16); });
  }
  F32 first() const { return every_other(0); }
  F32 second() const { return every_other(1); }
};

struct I32 {
  int32_t v[F32::kLanes];
  int16_t pairs[2 * F32::kLanes];
  static I32 load(const int32_t* p) {
    I32 r{};
    __builtin_memcpy(r.v, p, sizeof r.v);
    return r;
  }
  static I32 widen_pairs(const int8_t* p) {
    I32 r{};
    for (int i = 0; i < 2 * F32::kLanes; ++i) r.pairs[i] = p[i];
    return r;
  }
  static I32 broadcast_pair(const int16_t* p) {
    I32 r{};
    for (int i = 0; i < 2 * F32::kLanes; ++i) r.pairs[i] = p[i % 2];
    return r;
  }
};

inline F32 to_float(I32 a) {
  return F32::map([&](int i) { return static_cast<float>(a.v[i]); });
}
inline I32 add_pair_products(I32 sum, I32 a, I32 b) {
  for (int i = 0; i < F32::kLanes; ++i) {
    sum.v[i] += a.pairs[2 * i] * b.pairs[2 * i] + a.pairs[2 * i + 1] * b.pairs[2 * i + 1];
  }
  return sum;
}

// Processors without a kernel file keep their mode: only numbers below 2^-126 can tell.
struct FlushDenormals {};
