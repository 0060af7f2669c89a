// Which slots of a layer's call are steps, from arrays of Python.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bindings/arrays.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace bindings {

// Owns copies, which `slots` points into: an array that its caller changes before the backward pass
// cannot make it read beyond what was kept. What says that every slot is a step, or that nothing is
// reset, is null there.
class GivenSlots {
 public:
  // lengths (B,) integers, mask and reset (B, T) contiguous bools; each may be None. Throws where
  // one does not fit, or lengths stand beside a mask.
  GivenSlots(const LstmShape& shape, const py::object& lengths, const py::object& mask,
             const py::object& reset, bool zero_output)
      : seq_len_(shape.seq_len) {
    if (!lengths.is_none() && !mask.is_none()) refuse("lengths", "None beside a mask");
    slots_.repeats_output = !zero_output;
    if (!lengths.is_none()) read_lengths(shape, lengths);
    slots_.mask = read_flags(shape, mask, "mask", mask_, true);
    slots_.reset = read_flags(shape, reset, "reset", reset_, false);
  }

  GivenSlots(const GivenSlots&) = delete;
  GivenSlots& operator=(const GivenSlots&) = delete;

  const Slots& slots() const { return slots_; }

  // Whether some slot may be no step.
  bool skips() const { return slots_.lengths || slots_.mask; }

  // Whether the output of a row's last slot is h, rather than zero.
  bool ends_with_h(int64_t row, bool go_backwards) const {
    if (!skips() || seq_len_ == 0) return true;
    const bool last_alone = !slots_.repeats_output;  // rather than any slot
    if (slots_.lengths) {
      return slots_.lengths[row] >= (last_alone && !go_backwards ? seq_len_ : 1);
    }
    const uint8_t* const steps = slots_.mask + row * seq_len_;
    if (last_alone) return steps[go_backwards ? 0 : seq_len_ - 1] != 0;
    return std::any_of(steps, steps + seq_len_, [](uint8_t step) { return step != 0; });
  }

  // (B, size) values of last slots, with zeros in the rows that do not end with h; the array itself
  // where all do.
  template <class T>
  py::array_t<T> silenced(const py::object& given, bool go_backwards) const {
    auto values = py::reinterpret_borrow<py::array_t<T>>(given);
    if (!skips() || seq_len_ == 0) return values;
    const int64_t size = values.shape(1);
    return silenced(values.data(), values.shape(0), size, size, go_backwards);
  }

  // A copy of such values, `stride` from row to row.
  template <class T>
  py::array_t<T> silenced(const T* values, int64_t rows, int64_t size, int64_t stride,
                          bool go_backwards) const {
    py::array_t<T> copy({rows, size});
    for (int64_t row = 0; row < rows; ++row) {
      const T* const from = values + row * stride;
      T* const to = copy.mutable_data() + row * size;
      if (ends_with_h(row, go_backwards)) {
        std::copy(from, from + size, to);
      } else {
        std::fill(to, to + size, T(0));
      }
    }
    return copy;
  }

 private:
  void read_lengths(const LstmShape& s, const py::object& given) {
    const auto any = py::array::ensure(given);
    if (!any || (any.dtype().kind() != 'i' && any.dtype().kind() != 'u')) {
      refuse("lengths", "integers");
    }
    constexpr int kHow = py::array::c_style | py::array::forcecast;
    auto converted = py::array_t<int64_t, kHow>::ensure(any);
    if (!converted) refuse("lengths", "integers");
    const auto* const first = read<int64_t>(converted, "lengths", {s.batch_size});
    const auto* const end = first + s.batch_size;
    if (std::any_of(first, end, [&](int64_t n) { return n < 0 || n > s.seq_len; })) {
      refuse("lengths", "0 to the number of steps");
    }
    const bool all = std::all_of(first, end, [&](int64_t n) { return n == s.seq_len; });
    if (all) return;
    lengths_.assign(first, end);
    slots_.lengths = lengths_.data();
  }

  // null if all flags are `usual`.
  static const uint8_t* read_flags(const LstmShape& s, const py::object& given, const char* name,
                                   std::vector<uint8_t>& copy, bool usual) {
    if (given.is_none()) return nullptr;
    if (!py::isinstance<py::array>(given)) refuse(name, "an array");
    const auto array = py::reinterpret_borrow<py::array>(given);
    const auto* const flags =
        reinterpret_cast<const uint8_t*>(read<bool>(array, name, {s.batch_size, s.seq_len}));
    const auto* const end = flags + s.batch_size * s.seq_len;
    const auto is_usual = [&](uint8_t flag) { return (flag != 0) == usual; };
    if (std::all_of(flags, end, is_usual)) return nullptr;
    copy.assign(flags, end);
    return copy.data();
  }

  const int64_t seq_len_;
  Slots slots_;
  std::vector<int64_t> lengths_;
  std::vector<uint8_t> mask_, reset_;
};

}  // namespace bindings
}  // namespace lstm_ext
