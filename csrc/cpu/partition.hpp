// How work is shared out among threads. No choice made here changes a bit of any result.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// Part `index` of [0, n) cut into nearly equal parts.
inline Range split(int64_t n, int64_t parts, int64_t index) {
  return {n * index / parts, n * (index + 1) / parts};
}

// Below this many multiply-adds (some 20 microseconds on one core) waking a sleeping thread costs
// more than it saves.
constexpr int64_t kMinWorkPerThread = 1 << 20;

// The same where a thread that wakes late is not waited for, and finds less to do: from here on it
// may save something.
constexpr int64_t kMinWorkPerLateThread = 3 << 16;

// Calls below it take well under a millisecond on one core.
constexpr int64_t kShortWork = int64_t{20} << 20;

inline int64_t threads_worth(int64_t multiply_adds, int64_t least_each = kMinWorkPerThread) {
  return multiply_adds / least_each;
}

inline int64_t multiply_adds(const LstmShape& s) {
  return s.batch_size * s.seq_len * (s.input_size + s.hidden_size) * kNumGates * s.hidden_size;
}

// The time loop's threads form a grid: groups of rows, which never meet, and within a group shares
// of the units, which meet after every step because each needs the whole of h.
struct ThreadGrid {
  int row_groups, unit_groups;
  int size() const { return row_groups * unit_groups; }
};

// Threads that take units in pieces, as they come, should have so many each, or more.
constexpr int64_t kPiecesEach = 4;

// unit_shares: the largest number of shares that the units can be cut into.
// hidden_size, weight_bytes: of the recurrent weights, which every row group reads in every step.
// rows_at_once: a kernel table's. takes_pieces: threads that share units may take them in pieces.
inline ThreadGrid thread_grid(int threads, int64_t rows, int64_t unit_shares, int64_t hidden_size,
                              int64_t weight_bytes, int64_t rows_at_once,
                              bool takes_pieces = false) {
  // With few rows a thread, reading the weights takes longer than the arithmetic; then, and when
  // they have to come from memory, each thread should read its own share of them and no more. Rows
  // that stay together also leave fewer low tiles, which are slower.
  constexpr int64_t kNearCache = 128 << 10, kPrivateCache = 512 << 10, kSharedCache = 12 << 20;
  const int64_t weights = kNumGates * hidden_size * hidden_size;
  const int64_t bytes = weights * weight_bytes;
  const int64_t least_rows = bytes <= kNearCache      ? 4
                             : bytes <= kPrivateCache ? 8
                             : bytes <= kSharedCache  ? 24
                                                      : rows + 1;
  // What a thread must have to do in a step, in multiply-adds, to be worth meeting after it.
  constexpr int64_t kMinShare = 16 << 10;
  int64_t row_groups =
      std::max<int64_t>(1, std::min<int64_t>(threads, rows / (least_rows * rows_at_once)));
  // Who takes pieces waits for one at most, and who has rows of its own for the slowest thread.
  const int64_t with_pieces = unit_shares / kPiecesEach;
  if (takes_pieces && with_pieces > 1) {
    row_groups = std::min(row_groups, (threads + with_pieces - 1) / with_pieces);
  }
  const int64_t shares = std::min(unit_shares, rows / row_groups * weights / kMinShare);
  const int64_t unit_groups = std::max<int64_t>(1, std::min(threads / row_groups, shares));
  return {static_cast<int>(row_groups), static_cast<int>(unit_groups)};
}

// Whether a thread that could share the units of a call with others should rather have another call
// to itself. It meets nobody after each step, but reads all of the recurrent weights in each: too
// long for a few rows if these come from the shared cache. Chained calls also wait for each other,
// which soon costs more than the meetings.
inline bool worth_a_whole_call(int64_t rows, int64_t hidden_size, int64_t weight_bytes,
                               bool chained) {
  constexpr int64_t kOwnCache = 768 << 10, kFewRows = 8, kMostChained = 600 << 10;
  const int64_t weights = kNumGates * hidden_size * hidden_size;
  if (rows < kFewRows && weights * weight_bytes > kOwnCache) return false;
  return !chained || rows * weights <= kMostChained;
}

}  // namespace cpu
}  // namespace lstm_ext
