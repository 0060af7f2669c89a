// Whether a product with zeros may be left out: only if the other factor is finite, since zero
// times NaN or infinity is NaN.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace lstm_ext {
namespace cpu {

// By the exponents' bits, in a loop that compilers turn into vector code: one more carries out of an
// exponent of ones only, which infinity and NaN have.
template <class T>
bool all_finite(const T* x, int64_t size) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  constexpr int kMantissa = sizeof(T) == 4 ? 23 : 52, kSign = 8 * sizeof(T) - 1;
  constexpr Bits kOne = Bits{1} << kMantissa, kExponent = (Bits{1} << kSign) - kOne;
  Bits found = 0;
  for (int64_t i = 0; i < size; ++i) {
    Bits bits;
    std::memcpy(&bits, &x[i], sizeof bits);
    found |= (bits & kExponent) + kOne;
  }
  return found >> kSign == 0;
}

}  // namespace cpu
}  // namespace lstm_ext
