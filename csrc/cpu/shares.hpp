// Work in pieces that threads take one by one.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "cpu/partition.hpp"

namespace lstm_ext {
namespace cpu {

// The pieces [0, n), n < 2^31, in nearly equal shares, one for each member of a team, or of its
// first sixteen. A member takes its own pieces in their order, and then those of others from their
// end: whoever comes late, or loses its processor, finds less to do, and nobody waits for it longer
// than for a piece. Allocates nothing.
class Shares {
 public:
  // descending: the order of the pieces within each share.
  Shares(int64_t n, int members, bool descending)
      : count_(std::min(members, kMostShares)), descending_(descending) {
    for (int i = 0; i < count_; ++i) shares_[i].range = split(n, count_, i);
    renew();
  }

  // Puts all pieces back, once nobody works and before anybody does again.
  void renew() {
    for (int i = 0; i < count_; ++i) {
      shares_[i].left.store(packed(0, shares_[i].range.size()), std::memory_order_relaxed);
    }
  }

  // Calls function(piece) for every piece that this member comes to take.
  template <class Function>
  void work(int member, const Function& function) {
    for (int i = 0; i < count_; ++i) {
      Share& share = shares_[(member + i) % count_];
      const bool own = i == 0 && member < count_;
      for (int64_t at = take(share, own); at >= 0; at = take(share, own)) {
        function(descending_ ? share.range.end - 1 - at : share.range.begin + at);
      }
    }
  }

 private:
  static constexpr int kMostShares = 16;

  struct alignas(64) Share {
    Range range{};
    std::atomic<uint64_t> left{0};  // the first place of its order that is left, and past the last
  };

  static uint64_t packed(int64_t first, int64_t end) {
    return static_cast<uint64_t>(first) << 32 | static_cast<uint64_t>(end);
  }

  // A place in the order of the share, or -1 if none is left.
  static int64_t take(Share& share, bool from_front) {
    uint64_t left = share.left.load(std::memory_order_relaxed);
    while (true) {
      const auto first = static_cast<int64_t>(left >> 32);
      const auto end = static_cast<int64_t>(left & 0xffffffffu);
      if (first == end) return -1;
      const uint64_t rest = from_front ? packed(first + 1, end) : packed(first, end - 1);
      if (share.left.compare_exchange_weak(left, rest, std::memory_order_relaxed)) {
        return from_front ? first : end - 1;
      }
    }
  }

  const int count_;
  const bool descending_;
  Share shares_[kMostShares];
};

}  // namespace cpu
}  // namespace lstm_ext
