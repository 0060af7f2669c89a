// Whole LSTMs for kernel_bits.cpp: one problem forward, streamed and backward, with whatever a cell
// and a call may have besides weights and x.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "bits.hpp"
#include "cpu/drivers.hpp"
#include "cpu/kernel_set.hpp"
#include "cpu/packed_weights.hpp"
#include "cpu/schedule.hpp"
#include "cpu/stream.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {
namespace {

// What is not the plain LSTM.
struct Variant {
  const char* name = "";
  CellOptions cell{};
  bool has_peephole = false, has_norm = false;
  int64_t projection_size = 0;
  bool has_mask = false, has_lengths = false, has_reset = false, repeats_output = true;
  bool has_noise_of_h = false, has_zoneout = false, has_cell_zoneout = false;

  bool streams() const { return !has_mask && !has_lengths && !has_reset && !is_noisy(); }
  bool is_noisy() const { return has_noise_of_h || has_zoneout || has_cell_zoneout; }
};

// How a call is made.
struct Way {
  Numbers numbers = Numbers::kPlain;
  bool has_bias = true, from_state = true, go_backwards = false;
  int threads = 1;
};

template <class F>
struct Problem {
  using T = typename Format<F>::Value;
  static constexpr bool kHasBackward = !Format<F>::kEncodes;

  LstmShape shape;
  Way way;
  Variant variant;
  Array<T> x, w_ih, w_hh, bias, h0, c0, peephole, w_hr, norm, noise_h;
  Array<uint8_t> mask, reset, zoneout, cell_zoneout;
  Array<int64_t> lengths;
  std::shared_ptr<const PackedWeights<F>> weights;

  Problem(const KernelSet& set, const LstmShape& s, const Way& w, const Variant& v)
      : shape(s),
        way(w),
        variant(v),
        x(s.batch_size * s.seq_len * s.input_size, w.numbers),
        w_ih(s.input_size * columns(), w.numbers == Numbers::kOdd ? Numbers::kPlain : w.numbers),
        w_hh(s.output_size() * columns(), Numbers::kPlain),
        bias(columns(), Numbers::kPlain),
        h0(s.batch_size * s.output_size(), w.numbers),
        c0(states(), w.numbers),
        peephole(v.has_peephole ? 3 * s.hidden_size : 0, Numbers::kPlain),
        w_hr(s.hidden_size * s.projection_size, Numbers::kPlain),
        norm(v.has_norm ? 10 * s.hidden_size : 0, Numbers::kPlain),
        noise_h(v.has_noise_of_h ? s.batch_size * s.output_size() : 0, Numbers::kPlain),
        mask(v.has_mask ? slots() : 0),
        reset(v.has_reset ? slots() : 0),
        zoneout(v.has_zoneout ? slots() * s.output_size() : 0),
        cell_zoneout(v.has_cell_zoneout ? slots() * s.hidden_size : 0),
        lengths(v.has_lengths ? s.batch_size : 0),
        weights(std::make_shared<PackedWeights<F>>(
            set,
            WeightArrays<T>{s.input_size, s.hidden_size, s.projection_size, w_ih.data(), columns(),
                            w_hh.data(), columns(), w.has_bias ? bias.data() : nullptr,
                            or_null(peephole), or_null(w_hr), part_of_norm(0), part_of_norm(4),
                            part_of_norm(8), part_of_norm(9), v.cell})) {
    for (Array<uint8_t>* bytes : {&mask, &zoneout, &cell_zoneout}) draw_bytes(*bytes, 2);
    draw_bytes(reset, 4);
    for (int64_t row = 0; row < lengths.size(); ++row) {
      lengths.data()[row] = draw_bits() % static_cast<uint32_t>(s.seq_len + 1);
    }
  }

  int64_t columns() const { return kNumGates * shape.hidden_size; }
  int64_t states() const { return shape.batch_size * shape.hidden_size; }
  int64_t slots() const { return shape.batch_size * shape.seq_len; }
  int64_t steps() const { return count_steps(shape, slots_of_call()); }
  std::string name(const char* pass) const {
    const LstmShape& s = shape;
    const std::string kind = variant.name[0] ? std::string(pass) + " " + variant.name : pass;
    return case_name<F>(kind.c_str(), {s.batch_size, s.seq_len, s.input_size, s.hidden_size},
                        way.numbers);
  }

  template <class U>
  Sequence<U> sequence(U* data, int64_t features) const {
    return {data, shape.seq_len * features, features, 1};
  }
  template <class U>
  static const U* or_null(const Array<U>& array) {
    return array.size() > 0 ? array.data() : nullptr;
  }
  // What stands from so many times H on; null without layer normalisation.
  const T* part_of_norm(int64_t begin) const {
    return variant.has_norm ? norm.data() + begin * shape.hidden_size : nullptr;
  }
  Slots slots_of_call() const {
    return {or_null(lengths), or_null(mask), or_null(reset), variant.repeats_output};
  }
  Noise<T> noise() const { return {or_null(noise_h), or_null(zoneout), or_null(cell_zoneout)}; }

  // Ones, and one in `share` zeros; of resets the other way round.
  void draw_bytes(Array<uint8_t>& bytes, uint32_t share) const {
    for (int64_t i = 0; i < bytes.size(); ++i) {
      const bool is_drawn = draw_bits() % share == 0;
      bytes.data()[i] = static_cast<uint8_t>(&bytes == &reset ? is_drawn : !is_drawn);
    }
  }
};

// What a forward pass leaves for a backward one.
template <class T>
struct Kept {
  Array<T> output, gates, cells, hidden, normed;

  template <class F>
  Kept(const Problem<F>& p, int64_t steps)
      : output(p.slots() * p.shape.output_size()),
        gates(steps * p.columns()),
        cells(steps * p.shape.hidden_size),
        hidden(p.kHasBackward && p.shape.projection_size > 0 ? steps * p.shape.hidden_size : 0),
        normed(p.variant.has_norm ? steps * (2 * p.columns() + 2) : 0) {}
};

// `activated`: gates are for the eye, and there is no backward pass.
template <class F, class T>
void forward(const Problem<F>& p, Kept<T>& kept, bool activated) {
  Array<T> h(p.h0.size()), c(p.states());
  LstmForward<T> call{};
  call.shape = p.shape;
  call.go_backwards = p.way.go_backwards;
  call.x = p.sequence(p.x.data(), p.shape.input_size);
  call.h0 = p.way.from_state ? p.h0.data() : nullptr;
  call.c0 = p.way.from_state ? p.c0.data() : nullptr;
  call.output = p.sequence(kept.output.data(), p.shape.output_size());
  call.h = h.data();
  call.c = c.data();
  if (p.kHasBackward || activated) {
    call.gates = kept.gates.data();
    call.cells = kept.cells.data();
  }
  if (kept.hidden.size() > 0) call.hidden = kept.hidden.data();
  if (kept.normed.size() > 0) call.normed = kept.normed.data();
  call.slots = p.slots_of_call();
  call.noise = p.noise();
  call.activated = activated;
  lstm_forward(*p.weights, call, p.way.threads);
  Hash hash;
  for (const Array<T>* result :
       {&kept.output, &h, &c, &kept.gates, &kept.cells, &kept.hidden, &kept.normed}) {
    hash.add(*result);
  }
  hash.print(p.name(activated ? "gates" : "forward"));
}

template <class T>
void backward(const Problem<T>& p, Kept<T>& kept) {
  const LstmShape& s = p.shape;
  const Array<T> d_output(kept.output.size(), Numbers::kPlain);
  const Array<T> d_h(p.h0.size(), Numbers::kPlain), d_c(p.states(), Numbers::kPlain);
  Array<T> d_x(p.x.size()), d_w_ih(p.w_ih.size()), d_w_hh(p.w_hh.size()), d_bias(p.columns());
  Array<T> d_h0(p.h0.size()), d_c0(p.states()), d_peephole(p.peephole.size()),
      d_w_hr(p.w_hr.size()), d_norm(p.norm.size());
  LstmBackward<T> call{};
  call.shape = s;
  call.go_backwards = p.way.go_backwards;
  call.x = p.sequence(p.x.data(), s.input_size);
  call.h0 = p.way.from_state ? p.h0.data() : nullptr;
  call.c0 = p.way.from_state ? p.c0.data() : nullptr;
  call.output = p.sequence(static_cast<const T*>(kept.output.data()), s.output_size());
  call.gates = kept.gates.data();
  call.cells = kept.cells.data();
  call.hidden = p.or_null(kept.hidden);
  call.d_output = p.sequence(d_output.data(), s.output_size());
  call.d_h = d_h.data();
  call.d_c = d_c.data();
  call.d_gates = kept.gates.data();
  call.d_x = p.sequence(d_x.data(), s.input_size);
  call.d_w_ih = d_w_ih.data();
  call.d_w_hh = d_w_hh.data();
  call.d_bias = d_bias.data();
  call.d_h0 = d_h0.data();
  call.d_c0 = d_c0.data();
  call.d_peephole = p.variant.has_peephole ? d_peephole.data() : nullptr;
  call.d_w_hr = s.projection_size > 0 ? d_w_hr.data() : nullptr;
  call.normed = kept.normed.size() > 0 ? kept.normed.data() : nullptr;
  call.d_norm = p.variant.has_norm ? d_norm.data() : nullptr;
  call.slots = p.slots_of_call();
  call.noise = p.noise();
  lstm_backward(*p.weights, call, p.way.threads);
  Hash hash;
  for (const Array<T>* result : {&kept.gates, &d_x, &d_w_ih, &d_w_hh, &d_bias, &d_h0, &d_c0,
                                 &d_peephole, &d_w_hr, &d_norm}) {
    hash.add(*result);
  }
  hash.print(p.name("backward"));
}

template <class F>
void stream(const Problem<F>& p) {
  using T = typename Format<F>::Value;
  const LstmShape& s = p.shape;
  Stream<F> steps(p.weights, s.batch_size);
  if (p.way.from_state) steps.write_state(p.h0.data(), p.c0.data());
  Array<T> output(p.h0.size()), h(p.h0.size()), c(p.states());
  Hash hash;
  for (int64_t t = 0; t < s.seq_len; ++t) {
    steps.step(p.x.data() + t * s.input_size, s.seq_len * s.input_size, output.data(), 1);
    hash.add(output);
  }
  steps.read_state(h.data(), c.data());
  hash.add(h);
  hash.add(c);
  hash.print(p.name("stream"));
}

// One problem, forward, streamed and backward. `shape` is without the variant's projection.
template <class F>
void lstm(const KernelSet& set, LstmShape shape, const Way& way, const Variant& variant = {}) {
  using T = typename Format<F>::Value;
  shape.projection_size = variant.projection_size;
  const Problem<F> p(set, shape, way, variant);
  Kept<T> kept(p, p.kHasBackward ? p.steps() : 0);
  forward<F, T>(p, kept, false);
  if (variant.streams()) stream<F>(p);
  if constexpr (p.kHasBackward) backward<T>(p, kept);
  if (variant.name[0]) {
    Kept<T> activated(p, p.steps());
    forward<F, T>(p, activated, true);
  }
}

}  // namespace
}  // namespace cpu
}  // namespace lstm_ext
