// Memory aligned to cache lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace lstm_ext {
namespace cpu {

constexpr std::size_t kCacheLine = 64;

inline int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
inline int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

// Memory aligned to a cache line, from two megabytes on to a huge page and backed by such pages if
// the system has them. Throws std::bad_alloc when it cannot be had.
//
// Asking the system for memory anew costs more than filling it, so some of the large blocks that
// were given back are kept for the next call that wants one of that size: training lays its weights
// out anew in every step.
void* allocate(std::size_t bytes);
void release(void* memory, std::size_t bytes);  // bytes: as it was allocated

// An uninitialised array, owned. Throws std::bad_alloc when it cannot be had.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size)
      : data_(static_cast<T*>(allocate(bytes_of(size))), Release{bytes_of(size)}), size_(size) {}
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  int64_t size() const { return size_; }

 private:
  struct Release {
    std::size_t bytes;
    void operator()(T* p) const { release(p, bytes); }
  };
  static std::size_t bytes_of(int64_t size) { return static_cast<std::size_t>(size) * sizeof(T); }

  std::unique_ptr<T, Release> data_{nullptr, Release{0}};
  int64_t size_ = 0;
};

// Scratch memory of the calling thread. Up to kKept bytes are kept between calls, so that a call
// allocates nothing in the steady state; more is given back when the Scratch ends. Arrays are taken
// one after the other. At most one Scratch lives in a thread at a time.
class Scratch {
 public:
  explicit Scratch(int64_t bytes) : next_(reserve(bytes)) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // An array of `size` elements, aligned to a cache line.
  template <class T>
  T* take(int64_t size) {
    T* p = reinterpret_cast<T*>(next_);
    next_ += bytes_for<T>(size);
    return p;
  }
  template <class T>
  static int64_t bytes_for(int64_t size) {
    return round_up(size * static_cast<int64_t>(sizeof(T)), kCacheLine);
  }

 private:
  static constexpr int64_t kKept = int64_t{16} << 20;

  unsigned char* reserve(int64_t bytes) {
    if (bytes > kKept) {
      own_ = Buffer<unsigned char>(bytes);
      return own_.data();
    }
    thread_local Buffer<unsigned char> kept;
    if (kept.size() < bytes) {
      kept = Buffer<unsigned char>();  // give back first: the two need not exist together
      kept = Buffer<unsigned char>(bytes);
    }
    return kept.data();
  }

  Buffer<unsigned char> own_;
  unsigned char* next_;
};

}  // namespace cpu
}  // namespace lstm_ext
