// csrc/cuda/device.hpp for the emulator: the same functions, by fibers instead of a chip.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include "cuda/runtime.hpp"
#include "emulator.hpp"

#define LSTM_EXT_KERNEL(threads) inline void
#define LSTM_EXT_DEVICE inline
#define LSTM_EXT_APART inline
#define LSTM_EXT_SHARED_MEMORY(name) unsigned char* const name = emulation::current().block->shared

namespace lstm_ext {
namespace cuda {

constexpr int kWarp = 32;

LSTM_EXT_DEVICE int thread_index() { return emulation::current().index; }
LSTM_EXT_DEVICE int thread_count() { return emulation::threads_in_block(); }
LSTM_EXT_DEVICE int block_index() { return emulation::current().block->x; }
LSTM_EXT_DEVICE int block_index_y() { return emulation::current().block->y; }

LSTM_EXT_DEVICE void sync_block() { emulation::block_barrier(1, false); }
LSTM_EXT_DEVICE bool sync_block_or(bool value) { return emulation::block_barrier(2, value); }
LSTM_EXT_DEVICE void sync_warp() { emulation::exchange(nullptr, 0); }

template <class T>
LSTM_EXT_DEVICE T shuffle(T value, int lane) {
  uint32_t words[2] = {};
  std::memcpy(words, &value, sizeof value);
  std::memcpy(&value, emulation::exchange(words, 2)[lane], sizeof value);
  return value;
}
template <class T>
LSTM_EXT_DEVICE T shuffle_xor(T value, int mask) {
  return shuffle(value, (thread_index() % kWarp) ^ mask);
}

LSTM_EXT_DEVICE float fused(float a, float b, float c) { return std::fma(a, b, c); }
LSTM_EXT_DEVICE double fused(double a, double b, double c) { return std::fma(a, b, c); }
LSTM_EXT_DEVICE double exponential(double x) { return std::exp(x); }
LSTM_EXT_DEVICE double hyperbolic_tangent(double x) { return std::tanh(x); }
LSTM_EXT_DEVICE double logarithm_of_one_plus(double x) { return std::log1p(x); }
LSTM_EXT_DEVICE double complementary_error(double x) { return std::erfc(x); }
LSTM_EXT_DEVICE float exponential2(float x) { return std::exp2(x); }
LSTM_EXT_DEVICE float reciprocal(float x) { return 1.0f / x; }
LSTM_EXT_DEVICE uint32_t multiply_high(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(uint64_t{a} * b >> 32);
}
LSTM_EXT_DEVICE float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
LSTM_EXT_DEVICE uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
// To the nearest, ties to even.
LSTM_EXT_DEVICE uint16_t bfloat16_of(float x) {
  if (std::isnan(x)) return 0x7fff;
  const uint32_t bits = bits_of(x);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

LSTM_EXT_DEVICE void multiply_fragments(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                        uint32_t b1) {
  const uint32_t words[] = {a[0], a[1], a[2], a[3], b0, b1};
  const auto* lanes = emulation::exchange(words, 6);
  const auto value = [](uint32_t word, int half) {
    return float_of(half ? word & 0xffff0000u : word << 16);
  };
  const int lane = thread_index() % kWarp;
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    for (int k = 0; k < 16; ++k) {
      const int part = k / 8, quarter = k % 8 / 2;
      const float x = value(lanes[row % 8 * 4 + quarter][row / 8 + 2 * part], k % 2);
      d[i] += x * value(lanes[column * 4 + quarter][4 + part], k % 2);
    }
  }
}

LSTM_EXT_DEVICE void store_flagged(uint64_t* p, uint64_t value) {
  emulation::store_later(p, &value, sizeof value, nullptr, {});
}
LSTM_EXT_DEVICE uint64_t load_flagged(const uint64_t* p) {
  const uint64_t value = *p;
  emulation::yield();
  return value;
}

LSTM_EXT_DEVICE void load_flagged_pair(const uint64_t* p, uint64_t (&values)[2]) {
  for (int i = 0; i < 2; ++i) values[i] = load_flagged(p + i);
}

LSTM_EXT_DEVICE uint64_t clock_ns() { return emulation::now_ns(); }
LSTM_EXT_DEVICE void report(int* status, int value) { *status = value; }

LSTM_EXT_DEVICE void sync_cluster() {
  emulation::Cluster& cluster = *emulation::current().block->cluster;
  const int threads = thread_count() * static_cast<int>(cluster.blocks.size());
  emulation::wait_at(cluster.barrier, threads);
}

struct Arrival {
  int32_t bytes;  // expected and not yet there
  uint16_t armed, phase;
};
LSTM_EXT_DEVICE void change(uint64_t* arrival, const std::function<void(Arrival&)>& function) {
  Arrival value;
  std::memcpy(&value, arrival, sizeof value);
  function(value);
  if (value.armed && value.bytes == 0) value = {0, 0, static_cast<uint16_t>(value.phase + 1)};
  std::memcpy(arrival, &value, sizeof value);
}
LSTM_EXT_DEVICE void arrival_init(uint64_t* arrival) {
  const Arrival fresh{0, 0, 0};
  std::memcpy(arrival, &fresh, sizeof fresh);
}
LSTM_EXT_DEVICE void arrival_expect(uint64_t* arrival, uint32_t bytes) {
  change(arrival, [=](Arrival& a) {
    if (a.armed) emulation::fail("an arrival is armed twice in a phase");
    a.bytes += static_cast<int32_t>(bytes);
    a.armed = 1;
  });
}
LSTM_EXT_DEVICE bool arrival_complete(uint64_t* arrival, uint32_t parity) {
  Arrival value;
  std::memcpy(&value, arrival, sizeof value);
  if (value.phase % 2u != parity) return true;
  emulation::yield();
  return false;
}
LSTM_EXT_DEVICE void store_to_peer(void* word, uint32_t value, uint64_t* arrival, int peer) {
  emulation::Block& self = *emulation::current().block;
  emulation::Block& other = *self.cluster->blocks.at(static_cast<size_t>(peer));
  const auto there = [&](void* p) {
    return other.shared + (static_cast<unsigned char*>(p) - self.shared);
  };
  auto* counted = reinterpret_cast<uint64_t*>(there(arrival));
  emulation::store_later(there(word), &value, sizeof value, &other,
                         [=] { change(counted, [](Arrival& a) { a.bytes -= 4; }); });
}

// ---- the host's side ----

struct Launch {
  int blocks, blocks_y, threads;
  size_t shared_bytes;
  int cluster;
  bool cooperative;
  Stream stream;
};

template <class... P, class... A>
void launch(const Launch& launch, void (*kernel)(P...), A&&... arguments) {
  const std::tuple<P...> kept(std::forward<A>(arguments)...);
  emulation::run({launch.blocks, launch.blocks_y, launch.threads, launch.cluster,
                  launch.shared_bytes, launch.cooperative, [&] { std::apply(kernel, kept); }});
}
template <class... P>
int resident_clusters(const Launch& launch, void (*)(P...)) {
  return launch.cluster <= emulation::settings().chip.largest_cluster;
}

template <class... P>
int compiled_for(void (*)(P...)) {
  return emulation::settings().chip.capability;
}
inline void zero(void* p, size_t bytes, Stream) { std::memset(p, 0, bytes); }
inline void copy(void* to, const void* from, size_t bytes, Stream) { std::memcpy(to, from, bytes); }

}  // namespace cuda
}  // namespace lstm_ext
