#include "cpu/schedule.hpp"

namespace lstm_ext {
namespace cpu {
namespace {

// A row's slots in their order.
class RowSlots {
 public:
  RowSlots(const LstmShape& shape, const Slots& slots, bool go_backwards, int64_t row)
      : seq_len_(shape.seq_len),
        go_backwards_(go_backwards),
        length_(slots.lengths ? slots.lengths[row] : shape.seq_len),
        mask_(slots.mask ? slots.mask + row * shape.seq_len : nullptr),
        reset_(slots.reset ? slots.reset + row * shape.seq_len : nullptr) {}

  bool is_step(int64_t slot) const {
    return time(slot) < length_ && !(mask_ && !mask_[time(slot)]);
  }
  bool is_reset(int64_t slot) const { return reset_ && reset_[time(slot)]; }

 private:
  int64_t time(int64_t slot) const { return go_backwards_ ? seq_len_ - 1 - slot : slot; }

  const int64_t seq_len_;
  const bool go_backwards_;
  const int64_t length_;
  const uint8_t *const mask_, *const reset_;
};

}  // namespace

int64_t count_steps(const LstmShape& shape, const Slots& slots) {
  if (!slots.lengths && !slots.mask) return shape.batch_size * shape.seq_len;
  int64_t count = 0;
  for (int64_t row = 0; row < shape.batch_size; ++row) {
    const RowSlots of(shape, slots, false, row);
    for (int64_t s = 0; s < shape.seq_len; ++s) count += of.is_step(s);
  }
  return count;
}

Schedule::Schedule(const LstmShape& shape, const Slots& slots, bool go_backwards)
    : batch_size_(shape.batch_size), num_steps_(shape.seq_len) {
  if (!slots.lengths && !slots.mask && !slots.reset) return;
  const auto slots_of = [&](int64_t row) { return RowSlots(shape, slots, go_backwards, row); };
  if (slots.lengths || slots.mask) {
    std::vector<int64_t> lengths(at(batch_size_), 0);
    for (int64_t row = 0; row < batch_size_; ++row) {
      const RowSlots of = slots_of(row);
      for (int64_t s = 0; s < shape.seq_len; ++s) lengths[at(row)] += of.is_step(s);
    }
    order(lengths);
  }
  const int64_t total = rows_.empty() ? batch_size_ * num_steps_ : offsets_.back();
  if (!is_regular()) {
    slots_.resize(at(total));
    output_ends_.resize(at(total));
  }
  if (slots.reset) {
    resets_.assign(at(std::max<int64_t>(total, 1)), 0);
    ends_reset_.assign(at(batch_size_), 0);
  }
  for (int64_t position = 0; position < batch_size_; ++position) {
    const RowSlots of = slots_of(row(position));
    int64_t step = 0, *open = nullptr;  // the end of an output that is still repeated
    bool reset = false;
    const auto close = [&](int64_t slot) {
      if (open) *open = slot;
      open = nullptr;
    };
    for (int64_t s = 0; s < shape.seq_len; ++s) {
      reset = reset || of.is_reset(s);
      const bool is_step = of.is_step(s);
      if (reset || is_step) close(s);
      if (!is_step) continue;
      const std::size_t index = at(offset(step) + position);
      if (resets()) resets_[index] = reset;
      reset = false;
      if (!is_regular()) {
        slots_[index] = s;
        output_ends_[index] = s + 1;
        if (slots.repeats_output) open = &output_ends_[index];
      }
      ++step;
    }
    close(shape.seq_len);
    if (resets()) ends_reset_[at(position)] = reset;
  }
}

// Positions by counting: the longest first, rows of one length in their order.
void Schedule::order(const std::vector<int64_t>& lengths) {
  const int64_t longest = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  std::vector<int64_t> begin(at(longest + 2), 0);  // of the rows of each length
  for (const int64_t length : lengths) ++begin[at(longest - length + 1)];
  for (int64_t i = 1; i < longest + 2; ++i) begin[at(i)] += begin[at(i - 1)];
  // Rows that have more than n steps: those before the rows of n.
  offsets_.assign(at(longest + 1), 0);
  for (int64_t n = 0; n < longest; ++n) {
    offsets_[at(n + 1)] = offsets_[at(n)] + begin[at(longest - n)];
  }
  rows_.resize(lengths.size());
  lengths_.resize(lengths.size());
  for (int64_t row = 0; row < batch_size_; ++row) {
    const int64_t length = lengths[at(row)];
    const int64_t position = begin[at(longest - length)]++;
    rows_[at(position)] = row;
    lengths_[at(position)] = length;
  }
  num_steps_ = longest;
}

}  // namespace cpu
}  // namespace lstm_ext
