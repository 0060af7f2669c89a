// sigmoid and tanh over vectors, by one exponential of a non-positive argument.
//
//   exp(y) = 2^n * (1 + r + r*r*q(r)),  n = round(y / ln 2),  r = y - n * ln 2
//
// q is the near-minimax polynomial of (exp(r) - 1 - r) / r^2 on |r| <= ln(2)/2 (Chebyshev nodes,
// coefficients rounded to the type). n is found by adding a number so large that its last mantissa
// bit counts ones; n then stands, biased, in the low mantissa bits, and shifting them to the
// exponent's place gives the power of two without an integer conversion. The quotients are true
// divisions: reciprocal estimates differ from one processor to the next.
//
// Error over all float32, and sampled over float64: see tests/test_activation_kernels.py.

template <class S>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float kLog2E = 0x1.715476p+0f;
  static constexpr float kMinusLn2High = -0x1.63p-1f;  // 9 bits: exact times any n that occurs
  static constexpr float kMinusLn2Low = 0x1.bd0106p-13f;
  static constexpr float kRound = 0x1.8p23f;
  static constexpr float kExponentBias = 127.0f;
  // Powers below the normal range are made 2^64 too large and brought down by a product, which
  // rounds into the denormals as it should.
  static constexpr float kLift = 64.0f;
  static constexpr float kLower = 0x1p-64f;
  static constexpr float kExpVanishes = -104.0f;  // below, exp(y) rounds to 0
  static constexpr float kTanhIsOne = -24.0f;     // below, (1 - e^y) / (1 + e^y) rounds to 1
};

template <>
struct ExpConstants<double> {
  static constexpr double kLog2E = 0x1.71547652b82fep+0;
  static constexpr double kMinusLn2High = -0x1.62e42feep-1;
  static constexpr double kMinusLn2Low = -0x1.a39ef35793c76p-33;
  static constexpr double kRound = 0x1.8p52;
  static constexpr double kExponentBias = 1023.0;
  static constexpr double kLift = 512.0;
  static constexpr double kLower = 0x1p-512;
  static constexpr double kExpVanishes = -746.0;
  static constexpr double kTanhIsOne = -44.0;
};

// (exp(r) - 1 - r) / r^2
inline F32 exp_quotient(F32 r, F32 r2) {
  const auto k = F32::broadcast;
  const F32 low = fma(r, k(0x1.5554dcp-3f), k(0x1p-1f));
  const F32 mid = fma(r, k(0x1.120ba2p-7f), k(0x1.55551ap-5f));
  return fma(r2, fma(r2, k(0x1.6d113cp-10f), mid), low);
}

inline F64 exp_quotient(F64 r, F64 r2) {
  const auto k = F64::broadcast;
  const F64 r4 = r2 * r2;
  const F64 p0 = fma(r, k(0x1.5555555555556p-3), k(0x1.0000000000001p-1));
  const F64 p2 = fma(r, k(0x1.11111111109adp-7), k(0x1.5555555553d4fp-5));
  const F64 p4 = fma(r, k(0x1.a01a01a7c8d47p-13), k(0x1.6c16c17893833p-10));
  const F64 p6 = fma(r, k(0x1.71de0d9c145d0p-19), k(0x1.a019b8ef67c6cp-16));
  const F64 p8 = fma(r, k(0x1.af38d53857513p-26), k(0x1.2891a8c1d838dp-22));
  return fma(r4 * r4, p8, fma(r4, fma(r2, p6, p4), fma(r2, p2, p0)));
}

// exp(y) = power * 2^-lift * (1 + minus_one)
template <class V>
struct ExpParts {
  V power, minus_one;
};

template <class V>
inline ExpParts<V> split_exp(V y, typename V::Scalar lift) {
  using K = ExpConstants<typename V::Scalar>;
  const V round = V::broadcast(K::kRound + (K::kExponentBias + lift));
  const V biased = fma(y, V::broadcast(K::kLog2E), round);
  const V n = biased - round;
  V r = fma(n, V::broadcast(K::kMinusLn2High), y);
  r = fma(n, V::broadcast(K::kMinusLn2Low), r);
  const V r2 = r * r;
  return {to_exponent(biased), fma(r2, exp_quotient(r, r2), r)};
}

// 1 / (1 + e^-x), as e^x / (1 + e^x) for negative x: neither overflows, and the far negative side
// keeps its relative accuracy down to the denormals. max() passes a NaN in its second operand.
template <class V>
inline V sigmoid(V x) {
  using K = ExpConstants<typename V::Scalar>;
  const V one = V::broadcast(1);
  const ExpParts<V> parts =
      split_exp(max(V::broadcast(K::kExpVanishes), negative_abs(x)), K::kLift);
  const V e = fma(parts.power, parts.minus_one, parts.power) * V::broadcast(K::kLower);
  return select_by_sign(x, e, one) / (one + e);
}

// -m / (e + 1) with e = e^(-2|x|) and m = e - 1, which is accurate near zero, and the sign of x.
// The divisor is made from the parts of e, not as m + 2, which would round twice.
template <class V>
inline V tanh(V x) {
  using K = ExpConstants<typename V::Scalar>;
  const V minus_abs = negative_abs(x);
  const ExpParts<V> parts =
      split_exp(max(V::broadcast(K::kTanhIsOne), minus_abs + minus_abs), typename V::Scalar{0});
  const V one = V::broadcast(1);
  const V m = fma(parts.power, parts.minus_one, parts.power - one);
  const V divisor = fma(parts.power, parts.minus_one, parts.power + one);
  return copy_sign((V::broadcast(0) - m) / divisor, x);
}
