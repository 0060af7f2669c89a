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
  friend Portable negative_abs(Portable a) {
    return map([&](int i) { return from_bits(a.bits(i) | kSign); });
  }
  friend Portable copy_sign(Portable a, Portable sign) {
    return map([&](int i) { return from_bits(a.bits(i) | (sign.bits(i) & kSign)); });
  }
  friend Portable select_by_sign(Portable sign, Portable negative, Portable positive) {
    return map([&](int i) { return (sign.bits(i) & kSign) ? negative.v[i] : positive.v[i]; });
  }
  friend Portable to_exponent(Portable a) {
    return map([&](int i) { return from_bits(a.bits(i) << kMantissaBits); });
  }

 private:
  static constexpr Bits kSign = Bits{1} << (sizeof(Bits) * 8 - 1);
};

using F32 = Portable<float, uint32_t, 23>;
using F64 = Portable<double, uint64_t, 52>;
