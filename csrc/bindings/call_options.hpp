// What few calls need besides x and the state: which slots are steps, noise, and what is kept.
#pragma once

#include "bindings/arrays.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace bindings {

// Arrays or None, checked when a call takes them. `hidden` and `normed` are written by a forward
// pass and read by a backward one.
struct CallOptions {
  py::object lengths, mask, reset;
  bool repeats_output = true;
  py::object noise_h, zoneout, cell_zoneout, hidden, normed;
  bool activated = false;

  Slots slots(const LstmShape& s) const {
    return {read_optional<int64_t>(lengths, "lengths", {s.batch_size}),
            read_optional<uint8_t>(mask, "mask", {s.batch_size, s.seq_len}),
            read_optional<uint8_t>(reset, "reset", {s.batch_size, s.seq_len}), repeats_output};
  }

  template <class T>
  Noise<T> noise(const LstmShape& s) const {
    const int64_t batch = s.batch_size, steps = s.seq_len;
    return {read_optional<T>(noise_h, "noise_h", {batch, s.output_size()}),
            read_optional<uint8_t>(zoneout, "zoneout", {batch, steps, s.output_size()}),
            read_optional<uint8_t>(cell_zoneout, "cell_zoneout", {batch, steps, s.hidden_size})};
  }
};

}  // namespace bindings
}  // namespace lstm_ext
