// What kernel_bits.cpp is made of: numbers that all machines draw alike, arrays with a guard behind
// them, a hash of results, and names of cases.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <string>
#include <type_traits>

#include "cpu/buffer.hpp"
#include "cpu/kernel_set.hpp"

namespace lstm_ext {
namespace cpu {

template <class T>
using BitsOf = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

enum class Numbers {
  kPlain,  // in [-1, 1)
  kTiny,   // products of two lie about the smallest normal number
  kHuge,   // products of a few overflow
  kOdd,    // plain, and now and then NaN, infinity, zero, a denormal, the largest
  kAnyBits,
};

inline const char* name_of(Numbers numbers) {
  constexpr const char* kNames[] = {"plain", "tiny", "huge", "odd", "any bits"};
  return kNames[static_cast<int>(numbers)];
}

inline uint32_t draw_bits() {
  static uint64_t state = 1;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<uint32_t>(state >> 32);
}

template <class T>
T draw(Numbers numbers) {
  using Limits = std::numeric_limits<T>;
  // Of 24 bits, so that both types hold it exactly.
  const T plain = static_cast<T>(static_cast<int32_t>(draw_bits()) >> 8) * T(0x1p-23);
  switch (numbers) {
    case Numbers::kPlain:
      break;
    case Numbers::kTiny:
      return plain * (sizeof(T) == 4 ? T(0x1p-63) : T(0x1p-511));
    case Numbers::kHuge:
      return plain * (sizeof(T) == 4 ? T(0x1p63) : T(0x1p511));
    case Numbers::kOdd: {
      const T odd[] = {Limits::quiet_NaN(),
                       Limits::infinity(),
                       -Limits::infinity(),
                       T(0),
                       T(-0.0),
                       Limits::denorm_min(),
                       -Limits::denorm_min(),
                       Limits::min(),
                       Limits::max(),
                       Limits::lowest()};
      const uint32_t choice = draw_bits() % 1000;
      return choice < std::size(odd) ? odd[choice] : plain;
    }
    case Numbers::kAnyBits: {
      const uint64_t high = draw_bits();
      const auto bits = static_cast<BitsOf<T>>(high << 32 | draw_bits());
      T value;
      std::memcpy(&value, &bits, sizeof value);
      return value;
    }
  }
  return plain;
}

// Ends at a page that cannot be touched, so that an access past the end ends the program.
template <class T>
class Array {
 public:
  explicit Array(int64_t size) : size_(size) {
    const int64_t page = sysconf(_SC_PAGESIZE), bytes = size * int64_t{sizeof(T)};
    mapped_ = round_up(bytes, page) + page;
    memory_ = static_cast<unsigned char*>(mmap(nullptr, static_cast<std::size_t>(mapped_),
                                               PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                                               -1, 0));
    if (memory_ == MAP_FAILED || mprotect(memory_ + mapped_ - page, page, PROT_NONE) != 0) {
      std::perror("mmap");
      std::exit(1);
    }
    data_ = reinterpret_cast<T*>(memory_ + mapped_ - page - bytes);
  }
  Array(int64_t size, Numbers numbers) : Array(size) {
    for (int64_t i = 0; i < size; ++i) data_[i] = draw<T>(numbers);
  }
  ~Array() { munmap(memory_, static_cast<std::size_t>(mapped_)); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  int64_t size_, mapped_;
  unsigned char* memory_;
  T* data_;
};

// FNV-1a. All NaN count as one: which of them an operation returns, and its sign, is the
// processor's choice.
class Hash {
 public:
  template <class T>
  void add(const Array<T>& array) {
    for (int64_t i = 0; i < array.size(); ++i) {
      const T value = array.data()[i] == array.data()[i] ? array.data()[i]
                                                         : std::numeric_limits<T>::quiet_NaN();
      unsigned char bytes[sizeof value];
      std::memcpy(bytes, &value, sizeof value);
      for (const unsigned char byte : bytes) hash_ = (hash_ ^ byte) * 0x100000001b3u;
    }
  }
  void print(const std::string& name) const {
    std::printf("%-60s %016llx\n", name.c_str(), static_cast<unsigned long long>(hash_));
  }

 private:
  uint64_t hash_ = 0xcbf29ce484222325u;
};

template <class F>
const char* format_name() {
  if (std::is_same_v<F, Bfloat16>) return "bfloat16 ";
  if (std::is_same_v<F, Int8>) return "int8 ";
  return std::is_same_v<F, float> ? "float32 " : "float64 ";
}

inline std::string text_of(std::initializer_list<int64_t> sizes) {
  std::string text = " (";
  for (const int64_t size : sizes) text += (text.size() > 2 ? ", " : "") + std::to_string(size);
  return text + ")";
}

template <class F>
std::string case_name(const char* kernel, std::initializer_list<int64_t> sizes, Numbers numbers) {
  return std::string(format_name<F>()) + kernel + text_of(sizes) + " " + name_of(numbers);
}

}  // namespace cpu
}  // namespace lstm_ext
