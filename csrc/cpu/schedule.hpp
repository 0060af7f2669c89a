// Which rows take part in which step of the time loop (Slots in lstm.hpp).
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/partition.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {

// N: the number of steps of all rows.
int64_t count_steps(const LstmShape& shape, const Slots& slots);

// The steps of a batch. Rows stand in their positions, the longest first, so that step n has the
// positions [0, active(n)); its rows among the N of all steps begin at offset(n). A call takes as
// many steps as its longest row and computes nothing where there is none.
class Schedule {
 public:
  Schedule(const LstmShape& shape, const Slots& slots, bool go_backwards);

  // Every slot is a step: positions are rows, and steps slots. States may still be reset.
  bool is_regular() const { return rows_.empty(); }

  int64_t num_steps() const { return num_steps_; }
  int64_t size() const { return is_regular() ? num_steps_ * batch_size_ : offsets_.back(); }
  int64_t active(int64_t step) const {
    return is_regular() ? batch_size_ : offsets_[at(step + 1)] - offsets_[at(step)];
  }
  int64_t offset(int64_t step) const {
    return is_regular() ? step * batch_size_ : offsets_[at(step)];
  }
  int64_t row(int64_t position) const { return is_regular() ? position : rows_[at(position)]; }
  // The number of steps of the row at a position.
  int64_t length(int64_t position) const {
    return is_regular() ? num_steps_ : lengths_[at(position)];
  }

  // Of a step and a position: its slot, and the first slot after it that has another output.
  int64_t slot(int64_t step, int64_t position) const {
    return is_regular() ? step : slots_[at(offset(step) + position)];
  }
  int64_t output_end(int64_t step, int64_t position) const {
    return is_regular() ? step + 1 : output_ends_[at(offset(step) + position)];
  }

  bool resets() const { return !resets_.empty(); }
  // (N): whether the state is zeroed before a step; null if none is.
  const uint8_t* reset_flags() const { return resets() ? resets_.data() : nullptr; }
  bool is_reset(int64_t step, int64_t position) const {
    return resets() && resets_[at(offset(step) + position)] != 0;
  }
  // Whether it is zeroed after the row's last step, or without one.
  bool ends_reset(int64_t position) const { return resets() && ends_reset_[at(position)] != 0; }

 private:
  static std::size_t at(int64_t index) { return static_cast<std::size_t>(index); }
  void order(const std::vector<int64_t>& lengths);

  int64_t batch_size_, num_steps_;
  std::vector<int64_t> rows_, lengths_, offsets_, slots_, output_ends_;
  std::vector<uint8_t> resets_, ends_reset_;
};

// The rows of one row group, by position: they stand one after the other in the state, from `base`
// on. In a regular schedule they are neighbours; else every `stride`-th, so that all groups get
// rows of all lengths.
struct GroupRows {
  int64_t first, stride, count, base;

  int64_t position(int64_t index) const { return first + index * stride; }
  // How many of them are among the positions [0, active).
  int64_t active(int64_t active_rows) const {
    if (stride == 1) return std::min(count, std::max<int64_t>(0, active_rows - first));
    return active_rows > first ? (active_rows - first + stride - 1) / stride : 0;
  }
};

inline GroupRows group_rows(const Schedule& schedule, int64_t batch_size, int64_t groups,
                            int64_t group) {
  const auto strided = [&](int64_t g) { return (batch_size - g + groups - 1) / groups; };
  if (schedule.is_regular() || groups == 1) {
    const Range rows = split(batch_size, groups, group);
    return {rows.begin, 1, rows.size(), rows.begin};
  }
  int64_t base = 0;
  for (int64_t g = 0; g < group; ++g) base += strided(g);
  return {group, groups, strided(group), base};
}

}  // namespace cpu
}  // namespace lstm_ext
