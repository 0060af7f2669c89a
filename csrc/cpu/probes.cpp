#include "cpu/probes.hpp"

#include <algorithm>
#include <chrono>

#include "cpu/buffer.hpp"
#include "cpu/kernel_sets.hpp"

namespace lstm_ext {
namespace cpu {
namespace {

// The best rate of `work`, which returns how much it did, over ten rounds.
template <class Work>
double best_rate(double seconds, Work&& work) {
  using Clock = std::chrono::steady_clock;
  constexpr int kRounds = 10;
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    double done = 0, elapsed = 0;
    const auto start = Clock::now();
    do {
      done += static_cast<double>(work());
      elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    } while (elapsed < seconds / kRounds);
    best = std::max(best, done / elapsed);
  }
  return best;
}

}  // namespace

double measure_fma_rate(double seconds) {
  const auto& kernels = runnable_kernel_sets().front()->f32;
  float sink[64];
  return best_rate(seconds, [&] { return kernels.fma_probe(20000, sink); });
}

double measure_read_bandwidth(int64_t bytes, double seconds) {
  const auto& kernels = runnable_kernel_sets().front()->f32;
  constexpr int64_t kStep = 8 * 16;  // eight of the longest vectors
  const int64_t size = std::max<int64_t>(kStep, bytes / int64_t{sizeof(float)} / kStep * kStep);
  Buffer<float> data(size);
  std::fill(data.data(), data.data() + size, 1.0f);
  const int64_t repeats =
      std::max<int64_t>(1, (int64_t{1} << 20) / (size * int64_t{sizeof(float)}));
  float sink[64];
  return best_rate(seconds, [&] {
    for (int64_t i = 0; i < repeats; ++i) kernels.read_probe(size, data.data(), sink);
    return repeats * size * int64_t{sizeof(float)};
  });
}

}  // namespace cpu
}  // namespace lstm_ext
