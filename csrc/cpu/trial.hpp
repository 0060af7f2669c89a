// Whether work that is done again and again is done sooner by a team than alone, by enough to be
// worth its threads. That depends on how soon a machine wakes a sleeping thread, on what else runs
// there, and on how often the work comes: no threshold tells. So both are tried, the better one is
// kept to for a while, and then again.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lstm_ext {
namespace cpu {

class Trial {
 public:
  static constexpr int kTurn = 32;       // so many times the same in a row while trying
  static constexpr int kUncounted = 16;  // of them, at its begin: a change has costs of its own
  static constexpr int kTurns = 4;       // alone and by a team in turn
  static constexpr int kLeastGain = 8;  // a team saves this part of the time, or it is not worth it
  // So many times the better of the two: at first, when threads and caches are cold, and at last.
  static constexpr int kKeptFirst = 512, kKeptLast = 16384;

  // How to do the work that comes next, and whether to say afterwards how long it took.
  bool by_team() const { return tries() ? count_ / kTurn % 2 == 1 : prefers_team_; }
  bool tries() const { return count_ < kTurn * kTurns; }

  // It is done. took: in any unit; not looked at unless tries().
  void done(int64_t took) {
    if (tries() && count_ % kTurn >= kUncounted) turn_ += took;
    ++count_;
    if (count_ <= kTurn * kTurns && count_ % kTurn == 0) end_turn();
    if (count_ == kTurn * kTurns + kept_) {
      count_ = 0;
      kept_ = std::min(2 * kept_, kKeptLast);
    }
  }

 private:
  // The faster of its turns speaks for each: what disturbs one makes it slower, never faster.
  void end_turn() {
    const int turn = count_ / kTurn - 1;
    int64_t& best = best_[turn % 2];
    best = turn < 2 ? turn_ : std::min(best, turn_);
    turn_ = 0;
    prefers_team_ = best_[1] < best_[0] - best_[0] / kLeastGain;
  }

  int count_ = 0, kept_ = kKeptFirst;
  int64_t turn_ = 0;
  int64_t best_[2] = {0, 0};  // alone, by a team
  bool prefers_team_ = false;
};

}  // namespace cpu
}  // namespace lstm_ext
