// Backward, by the same blocks with the same weights as forward. A block makes the gradients of z
// of its own units, and from them alone its part of the gradient of the last h, of all units; the
// part of a peer's units goes to that peer, which adds what it receives in the order of the blocks.
// So a step passes on one value a unit and block, where passing on the gradients of z would be
// four.
#pragma once

#include "cuda/multiply.hpp"
#include "cuda/share.hpp"

namespace lstm_ext {
namespace cuda {

template <class M, class X>
class BackwardBlock {
 public:
  using S = typename M::Stored;
  static constexpr int kSlots = X::kInPlace ? 2 : 1;
  static constexpr int kAdders = 8;  // lanes that add the parts of one unit

  // What the forward pass kept of an own unit in a row, and the gradient of its output.
  struct Kept {
    float gates[kNumGates];
    float c, c_prev, d_h;
    unsigned flags, after;  // of the slot, and of that of the step after it
  };

  LSTM_EXT_DEVICE BackwardBlock(const Backward<S>& call, const Share& share, uint32_t* memory)
      : call_(call),
        share_(share),
        at_(share, static_cast<int>(call.batch_size)),
        memory_(memory),
        mine_(item(thread_index() / kAdders)),
        multiplier_(share.geometry),
        exchange_(share.post, memory, at_.group, at_.rank) {}

  LSTM_EXT_DEVICE void run() {
    const S* w = call_.w_hh;
    const int64_t columns = kNumGates * call_.hidden_size;
    multiplier_.load(
        [&](int k, int n) {
          const int64_t unit = at_.first_unit + k / kNumGates;
          return n < call_.hidden_size && unit < call_.hidden_size
                     ? w[n * columns + k % kNumGates * call_.hidden_size + unit]
                     : S{};
        },
        memory_ + share_.layout.weights);
    const int words = in_words(share_.geometry);
    for (int i = thread_index(); i < words; i += thread_count()) in()[i] = 0;
    for (int round = 0; round < at_.rounds; ++round) read_state(turn(0, round));
    exchange_.begin();
    Kept early = kept(turn(0, 0), mine_);
    for (int s = 0; s < call_.seq_len; ++s) {
      for (int round = 0; round < at_.rounds; ++round) early = take(turn(s, round), early);
    }
    for (int round = 0; round < at_.rounds; ++round) {
      receive(turn(static_cast<int>(call_.seq_len), round));
      write_state(turn(static_cast<int>(call_.seq_len), round));
      sync_block();  // the next round's words come where these were
    }
    exchange_.end();
  }

 private:
  // `step` of a turn counts backward.
  LSTM_EXT_DEVICE Turn turn(int s, int round) const {
    return Turn(share_, at_, static_cast<int>(call_.batch_size), s, round);
  }
  LSTM_EXT_DEVICE Turn after(const Turn& t) const {
    if (t.round + 1 < at_.rounds) return turn(t.step, t.round + 1);
    return turn(t.step + 1, 0);
  }

  LSTM_EXT_DEVICE uint32_t* in() const { return memory_ + share_.layout.in; }
  LSTM_EXT_DEVICE float* parts() const {
    return reinterpret_cast<float*>(memory_ + share_.layout.parts);
  }

  // An own unit in a row.
  struct Item {
    int row, own;
    bool is_unit;  // and not padding
  };
  LSTM_EXT_DEVICE Item item(int index) const {
    const int row = share_.by_units.quotient(index), own = share_.by_units.rest(index, row);
    return {row, own, at_.first_unit + own < call_.hidden_size};
  }
  LSTM_EXT_DEVICE float* cell(const Turn& t, const Item& i) const {
    return reinterpret_cast<float*>(memory_ + share_.layout.cells) +
           (t.round * share_.rows + i.row) * share_.units + i.own;
  }
  LSTM_EXT_DEVICE int64_t state_index(const Turn& t, const Item& i) const {
    return int64_t{t.first_row + i.row} * call_.hidden_size + at_.first_unit + i.own;
  }
  // Of (T, B, H) arrays, without the unit; times 4 of (T, B, 4H).
  LSTM_EXT_DEVICE int64_t row_index(const Turn& t, const Item& i) const {
    const int64_t step = call_.seq_len - 1 - t.step;
    return (step * call_.batch_size + t.first_row + i.row) * call_.hidden_size;
  }

  LSTM_EXT_DEVICE void read_state(const Turn& t) {
    for (int index = thread_index(); index < t.rows * share_.units; index += thread_count()) {
      const Item i = item(index);
      *cell(t, i) = i.is_unit ? read_or_zero(call_.d_c, state_index(t, i)) : 0.0f;
    }
  }

  LSTM_EXT_DEVICE void receive(const Turn& t) {
    exchange_.enter(t.round, t.rows * share_.all);
    exchange_.wait(t.step, 1, [](int word) { return word; });
    lost_ = sync_block_or(exchange_.gave_up);
  }

  // Step and round, from the gradient of h that it needs to those that it sends. `early` is what
  // kept() gave for it, and that of the next turn is returned.
  LSTM_EXT_DEVICE Kept take(const Turn& t, const Kept& early) {
    if (t.step > 0) {
      receive(t);
    } else {
      exchange_.enter(t.round, t.rows * share_.all);
    }
    undo_cells(t, early);
    sync_block();
    multiplier_.multiply(in(), t.rows, parts());
    sync_block();
    const Turn next = after(t);
    const Kept ahead = next.step < call_.seq_len ? kept(next, mine_) : Kept{};
    send(t);
    return ahead;
  }

  // The gradient of h that the recurrence brings to an item, in all lanes of the kAdders that work
  // on it.
  LSTM_EXT_DEVICE float recurrent_gradient(const Turn& t, const Item& i, int lane) const {
    const auto* received = reinterpret_cast<const float*>(exchange_.received(t.step));
    const int own = t.rows * share_.units;
    float sum = 0;
    if (i.row < t.rows) {
      for (int source = lane; source < share_.blocks; source += kAdders) {
        sum += received[source * own + i.row * share_.units + i.own];
      }
    }
    for (int mask = 1; mask < kAdders; mask *= 2) sum += shuffle_xor(sum, mask);
    return lost_ ? not_a_number() : sum;
  }

  LSTM_EXT_DEVICE Kept kept(const Turn& t, const Item& i) const {
    if (i.row >= t.rows || !i.is_unit) return {};
    const int64_t step = call_.seq_len - 1 - t.step, hidden = call_.hidden_size;
    const int64_t at = row_index(t, i), unit = at_.first_unit + i.own;
    const S* gates = call_.gates + kNumGates * at + unit;
    const int64_t row = int64_t{t.first_row} + i.row;
    const unsigned flags = flags_of(call_, step, row);
    float c_prev = step > 0 ? call_.cells[at - call_.batch_size * hidden + unit]
                            : read_or_zero(call_.c0, state_index(t, i));
    if (flags & kReset) c_prev = 0;
    return {
        {widen(gates[0]), widen(gates[hidden]), widen(gates[2 * hidden]), widen(gates[3 * hidden])},
        call_.cells[at + unit],
        c_prev,
        upstream(call_, step, row, unit),
        flags,
        flags_of(call_, step + 1, row)};
  }

  // What an item needs from memory is asked for while the one before it is computed.
  LSTM_EXT_DEVICE void undo_cells(const Turn& t, const Kept& early) {
    const int own = ceil_units(t.rows * share_.units), stride = thread_count() / kAdders;
    Item i = mine_;
    Kept k = early;
    for (int index = thread_index() / kAdders; index < own; index += stride) {
      Item next = i;
      Kept next_kept{};
      if (index + stride < own) {
        next = item(index + stride);
        next_kept = kept(t, next);
      }
      undo_cell(t, i, k);
      i = next, k = next_kept;
    }
  }

  // kAdders lanes a unit and row: all compute the cell, the first four write a gate each.
  LSTM_EXT_DEVICE void undo_cell(const Turn& t, const Item& i, const Kept& k) {
    const int lane = thread_index() % kAdders;
    const bool is_row = i.row < t.rows, exists = is_row && i.is_unit;
    const float d_cell = is_row ? *cell(t, i) : 0.0f;
    float d_h = 0;
    if (t.step > 0) {
      const float recurrent = recurrent_gradient(t, i, lane);
      d_h = exists ? passed_on(t, i, recurrent, k.after) : 0.0f;
    } else if (exists) {
      d_h = read_or_zero(call_.d_h, state_index(t, i));
    }
    d_h += k.d_h;
    CellGradient<Number<float>> gradient =
        cell_backward(gates_of(k.gates), Number<float>{k.c}, Number<float>{k.c_prev},
                      Number<float>{d_h}, Number<float>{d_cell}, Number<float>{1});
    if (k.flags & kMasked) gradient = {{{0}, {0}, {0}, {0}}, {d_cell}};
    if (k.flags & kReset) gradient.c_prev.v = 0;
    sync_warp();  // d_gates may be gates, and each lane overwrites what others have read
    if (exists) write(t, i, lane, gradient);
    if (k.flags & kMasked && lane == 0) call_.carry[state_index(t, i)] = d_h;
  }

  // The gradient of h that a step gives to the one before it: what the recurrence brings, but where
  // that step was masked or read zeros.
  LSTM_EXT_DEVICE float passed_on(const Turn& t, const Item& i, float recurrent,
                                  unsigned flags) const {
    if (flags & kReset) return 0.0f;
    if (flags & kMasked && !lost_) return call_.carry[state_index(t, i)];
    return call_.h_factors ? recurrent * call_.h_factors[state_index(t, i)] : recurrent;
  }

  LSTM_EXT_DEVICE void write(const Turn& t, const Item& i, int lane,
                             const CellGradient<Number<float>>& gradient) {
    if (lane == 0) *cell(t, i) = gradient.c_prev.v;
    if (lane >= kNumGates) return;
    const CellGates<Number<float>>& z = gradient.z;
    const float mine = lane == kInput       ? z.input.v
                       : lane == kForget    ? z.forget.v
                       : lane == kCandidate ? z.candidate.v
                                            : z.output.v;
    const int64_t unit = at_.first_unit + i.own;
    call_.d_gates[kNumGates * row_index(t, i) + lane * call_.hidden_size + unit] = narrow<S>(mine);
    multiplier_.put(in(), i.row, i.own * kNumGates + lane, mine);
  }

  LSTM_EXT_DEVICE void send(const Turn& t) {
    exchange_.sent(t.step);
    for (int index = thread_index(); index < t.rows * share_.all; index += thread_count()) {
      const int row = share_.by_all.quotient(index), n = share_.by_all.rest(index, row);
      const int to = share_.by_units.quotient(n), unit = share_.by_units.rest(n, to);
      const int place = (at_.rank * t.rows + row) * share_.units + unit;
      exchange_.send(t.step, to, place,
                     bits_of(multiplier_.sum(parts(), row * share_.geometry.outs + n)));
    }
  }

  LSTM_EXT_DEVICE void write_state(const Turn& t) const {
    const int own = t.rows * share_.units;
    const int lane = thread_index() % kAdders, stride = thread_count() / kAdders;
    for (int index = thread_index() / kAdders; index < ceil_units(own); index += stride) {
      const Item i = item(index);
      const float d_h = recurrent_gradient(t, i, lane);
      if (lane > 0 || i.row >= t.rows || !i.is_unit) continue;
      const unsigned flags = flags_of(call_, 0, int64_t{t.first_row} + i.row);
      call_.d_h0[state_index(t, i)] = narrow<S>(passed_on(t, i, d_h, flags));
      call_.d_c0[state_index(t, i)] = lost_ ? not_a_number() : *cell(t, i);
    }
  }

  // So that whole warps take part in the shuffles.
  LSTM_EXT_DEVICE static int ceil_units(int units) {
    constexpr int kUnits = kWarp / kAdders;
    return (units + kUnits - 1) / kUnits * kUnits;
  }

  const Backward<S>& call_;
  const Share& share_;
  const Position at_;
  uint32_t* memory_;
  const Item mine_;
  M multiplier_;
  X exchange_;
  bool lost_ = false;
};

template <class M, class X>
LSTM_EXT_KERNEL(kMaxThreads)
persistent_backward(const Backward<typename M::Stored> call, const Share share) {
  LSTM_EXT_SHARED_MEMORY(memory);
  BackwardBlock<M, X>(call, share, reinterpret_cast<uint32_t*>(memory)).run();
}

}  // namespace cuda
}  // namespace lstm_ext
