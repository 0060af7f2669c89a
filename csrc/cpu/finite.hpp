// Whether a product with zeros may be left out: only if the other factor is finite, since zero
// times NaN or infinity is NaN.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace lstm_ext {
namespace cpu {

// By the exponents' bits, in a loop that compilers turn into vector code.
template <class T>
bool all_finite(const T* x, int64_t size) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  constexpr Bits kExponent = sizeof(T) == 4 ? Bits{0x7f800000} : static_cast<Bits>(0x7ffull << 52);
  Bits found = 0;
  for (int64_t i = 0; i < size; ++i) {
    Bits bits;
    std::memcpy(&bits, &x[i], sizeof bits);
    found |= static_cast<Bits>((bits & kExponent) == kExponent);
  }
  return found == 0;
}

}  // namespace cpu
}  // namespace lstm_ext
