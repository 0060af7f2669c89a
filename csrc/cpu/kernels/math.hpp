// sigmoid and tanh over vectors, each by one exponential, one division and no branch.
//
//   e^-x = 2^n * (1 - w),   n = round(-x / ln 2),   u = x + n * ln 2,   w = 1 - e^-u
//
// w = u - u^2 * p(u), where p is a near-minimax polynomial of (e^-u - 1 + u) / u^2 on
// |u| <= ln(2)/2, with coefficients rounded to the type. In float32 the larger part of its error
// falls on negative u, which tanh does not meet near zero, where it is most sensitive.
//
// n is found by adding a number so large that its last mantissa bit counts ones; n then stands,
// biased, in the low mantissa bits, and shifting them to the exponent's place gives the power of
// two without an integer conversion.
//
// The power and w stay apart: numerator and divisor are made of them by one fused multiply-add
// each, which rounds once. The quotients are true divisions: reciprocal estimates differ from one
// processor to the next.
//
// Error over all float32, and sampled over float64: see tests/test_activation_kernels.py.

template <class S>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float kLog2E = 0x1.715476p+0f;
  static constexpr float kLn2 = 0x1.62e43p-1f;
  static constexpr float kLn2High = 0x1.63p-1f;  // 9 bits: exact times any n that occurs
  static constexpr float kLn2Low = -0x1.bd0106p-13f;
  static constexpr float kRound = 0x1.8p23f;
  static constexpr float kExponentBias = 127.0f;
  static constexpr float kUlp = 0x1p-23f;
  // The sigmoid's power of two is made this much smaller than it is, so that all fit the exponent.
  static constexpr float kScale = 0x1p-24f;
  static constexpr float kScaleExponent = -24.0f;
  static constexpr float kSigmoidIsZero = -104.0f;  // below, sigmoid rounds to 0
  static constexpr float kSigmoidIsOne = 18.0f;     // above, it rounds to 1
  static constexpr float kTanhIsOne = 10.0f;        // above, tanh rounds to 1
};

template <>
struct ExpConstants<double> {
  static constexpr double kLog2E = 0x1.71547652b82fep+0;
  static constexpr double kLn2 = 0x1.62e42fefa39efp-1;
  static constexpr double kLn2High = 0x1.62e42feep-1;
  static constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  static constexpr double kRound = 0x1.8p52;
  static constexpr double kExponentBias = 1023.0;
  static constexpr double kUlp = 0x1p-52;
  static constexpr double kScale = 0x1p-54;
  static constexpr double kScaleExponent = -54.0;
  static constexpr double kSigmoidIsZero = -746.0;
  static constexpr double kSigmoidIsOne = 38.0;
  static constexpr double kTanhIsOne = 20.0;
};

// The coefficient that c, of u^degree in p(u), becomes in s * p(s * u).
template <int s, class S>
constexpr S scaled(S c, int degree) {
  for (int i = 0; i <= degree; ++i) c *= s;
  return c;
}

// first - u^2 * s * p(s * u): that is (1 - e^(-s * u)) / s if `first` is u.
template <int s>
inline F32 minus_quadratic(F32 first, F32 u) {
  const auto k = F32::broadcast;
  const F32 u2 = u * u;
  const F32 low = fma(u, k(scaled<s>(0x1.5554c4p-3f, 1)), k(scaled<s>(-0x1p-1f, 0)));
  const F32 mid = fma(u, k(scaled<s>(0x1.121c7p-7f, 3)), k(scaled<s>(-0x1.555662p-5f, 2)));
  return fma(u2, fma(u2, fma(u2, k(scaled<s>(-0x1.6ba3c8p-10f, 4)), mid), low), first);
}

template <int s>
inline F64 minus_quadratic(F64 first, F64 u) {
  const auto k = [](double c, int degree) { return F64::broadcast(scaled<s>(c, degree)); };
  const F64 u2 = u * u;
  const F64 u4 = u2 * u2;
  const F64 p0 = fma(u, k(0x1.5555555555556p-3, 1), k(-0x1.0000000000001p-1, 0));
  const F64 p2 = fma(u, k(0x1.11111111109adp-7, 3), k(-0x1.5555555553d4fp-5, 2));
  const F64 p4 = fma(u, k(0x1.a01a01a7c8d47p-13, 5), k(-0x1.6c16c17893833p-10, 4));
  const F64 p6 = fma(u, k(0x1.71de0d9c145d0p-19, 7), k(-0x1.a019b8ef67c6cp-16, 6));
  const F64 p8 = fma(u, k(0x1.af38d53857513p-26, 9), k(-0x1.2891a8c1d838dp-22, 8));
  return fma(u2, fma(u4 * u4, p8, fma(u4, fma(u2, p6, p4), fma(u2, p2, p0))), first);
}

// 2^(n + exponent) and n = round(-x * log2_base).
template <class V>
struct Power {
  V value, n;
};

template <class V>
inline Power<V> nearest_power(V x, typename V::Scalar log2_base, typename V::Scalar exponent) {
  using K = ExpConstants<typename V::Scalar>;
  const V round = V::broadcast(K::kRound + (K::kExponentBias + exponent));
  const V biased = fma(x, V::broadcast(-log2_base), round);
  return {to_exponent(biased), biased - round};
}

// 1 / (1 + e^-x), both halves of the fraction times kScale. max() and min() pass a NaN in their
// second operand.
//
// The divisor is 1 + 2^n less 2^n * w. At n = 24 (in float64, 53) the first would need a bit more
// than there is; an ulp of the power therefore goes with w, and 1 + 2^n * (1 - ulp) is exact.
template <class V>
inline V sigmoid(V x) {
  using K = ExpConstants<typename V::Scalar>;
  const auto k = V::broadcast;
  x = min(k(K::kSigmoidIsOne), max(k(K::kSigmoidIsZero), x));
  const Power<V> power = nearest_power(x, K::kLog2E, K::kScaleExponent);
  const V u = fma(power.n, k(K::kLn2Low), fma(power.n, k(K::kLn2High), x));
  const V w = minus_quadratic<1>(u - k(K::kUlp), u);  // less an ulp
  const V minus_sum = fma(power.value, k(K::kUlp - 1), k(-K::kScale));
  return k(-K::kScale) / fma(power.value, w, minus_sum);
}

// (1 - e^-2a) / (1 + e^-2a) with a = |x|, both halves of the fraction divided by 2, and the sign
// of x. The quotient comes out negative, because the divisor is made from w as it is. ln 2 in one
// piece is exact enough: where n is large, e^-2a matters little.
template <class V>
inline V tanh(V x) {
  using K = ExpConstants<typename V::Scalar>;
  const auto k = V::broadcast;
  const V a = min(k(K::kTanhIsOne), abs(x));
  const Power<V> power = nearest_power(a, 2 * K::kLog2E, 0);
  const V u = fma(power.n, k(K::kLn2 / 2), a);
  const V w = minus_quadratic<2>(u, u);  // half of 1 - e^-2u
  const V half = fma(power.value, k(-0.5f), k(0.5f));
  const V minus_half = fma(power.value, k(-0.5f), k(-0.5f));
  return copy_sign(fma(power.value, w, half) / fma(power.value, w, minus_half), x);
}
