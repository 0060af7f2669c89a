// Forward, by blocks that stay for the whole sequence: each holds the recurrent weights of a few
// units, all four gates of them, and their cells. A step multiplies the group's h, which lies in
// shared memory, applies the gates and sends the new h of the own units to the peers.
//
// A turn is a chain of short waits, so all that does not depend on the turn is computed before the
// first, and what comes from memory is asked for one turn ahead.
#pragma once

#include "cuda/multiply.hpp"
#include "cuda/share.hpp"

namespace lstm_ext {
namespace cuda {

template <class M, class X>
class ForwardBlock {
 public:
  using S = typename M::Stored;
  static constexpr int kInBuffers = X::kInPlace ? 2 : 1;
  // Lanes that have the units of a word, and share its copies out.
  static constexpr int kSenders = kNumGates * M::kUnitsAWord;

  LSTM_EXT_DEVICE ForwardBlock(const Forward<S>& call, const Share& share, uint32_t* memory)
      : call_(call),
        share_(share),
        at_(share, static_cast<int>(call.batch_size)),
        memory_(memory),
        multiplier_(share.geometry),
        mine_(item(thread_index())),
        exchange_(share.post, memory, at_.group, at_.rank) {}

  LSTM_EXT_DEVICE void run() {
    const S* w = call_.w_hh;
    const int64_t columns = kNumGates * call_.hidden_size;
    multiplier_.load(
        [&](int k, int n) {
          const int64_t unit = at_.first_unit + n / kNumGates;
          return k < call_.hidden_size && unit < call_.hidden_size
                     ? w[k * columns + n % kNumGates * call_.hidden_size + unit]
                     : S{};
        },
        memory_ + share_.layout.weights);
    clear(memory_ + share_.layout.in);
    for (int round = 0; round < at_.rounds; ++round) read_cells(turn(0, round));
    exchange_.begin();
    my_bias_ = bias(mine_);
    float early = projected(turn(0, 0), mine_);
    for (int step = 0; step < call_.seq_len; ++step) {
      for (int round = 0; round < at_.rounds; ++round) early = take(turn(step, round), early);
    }
    exchange_.end();
  }

 private:
  LSTM_EXT_DEVICE Turn turn(int step, int round) const {
    return Turn(share_, at_, static_cast<int>(call_.batch_size), step, round);
  }
  LSTM_EXT_DEVICE Turn after(const Turn& t) const {
    if (t.round + 1 < at_.rounds) return turn(t.step, t.round + 1);
    return turn(t.step + 1, 0);
  }

  LSTM_EXT_DEVICE float* parts() const {
    return reinterpret_cast<float*>(memory_ + share_.layout.parts);
  }
  LSTM_EXT_DEVICE float* cells(const Turn& t) const {
    return reinterpret_cast<float*>(memory_ + share_.layout.cells) +
           t.round * share_.rows * share_.units;
  }

  LSTM_EXT_DEVICE void clear(uint32_t* in) const {
    const int words = kInBuffers * in_words(share_.geometry), threads = thread_count();
    for (int i = thread_index(); i < words; i += threads) in[i] = 0;
  }

  LSTM_EXT_DEVICE void read_cells(const Turn& t) {
    float* to = cells(t);
    for (int i = thread_index(); i < t.rows * share_.units; i += thread_count()) {
      const int64_t unit = at_.first_unit + i % share_.units;
      const int64_t row = t.first_row + i / share_.units;
      to[i] =
          unit < call_.hidden_size ? read_or_zero(call_.c0, row * call_.hidden_size + unit) : 0.0f;
    }
  }

  // The first h, where the exchange would have put it.
  LSTM_EXT_DEVICE void read_hidden(const Turn& t) {
    const auto hidden = static_cast<int>(call_.hidden_size);
    uint32_t* in = exchange_.received(0);
    for (int i = thread_index(); i < t.rows * hidden; i += thread_count()) {
      const int row = i / hidden, k = i % hidden;
      const float h0 = read_or_zero(call_.h0, (int64_t{t.first_row} + row) * hidden + k);
      multiplier_.put(in, row, k, h0);
    }
    sync_block();
  }

  // Step and round, from the h that it needs to the h that it sends. `early` is what projected()
  // gave for it, and that of the next turn is returned.
  LSTM_EXT_DEVICE float take(const Turn& t, float early) {
    exchange_.enter(t.round, t.rows * share_.row_words);
    if (t.step == 0) {
      read_hidden(t);
    } else {
      exchange_.wait(t.step, M::kPairApart, [&](int word) {
        const int row = share_.by_row_words.quotient(word);
        return multiplier_.word(row, share_.by_row_words.rest(word, row));
      });
    }
    const Turn next = after(t);
    const float ahead = next.step < call_.seq_len ? projected(next, mine_) : 0.0f;
    multiplier_.multiply(exchange_.received(t.step), t.rows, parts());
    lost_ = sync_block_or(exchange_.gave_up);
    apply_gates(t, early);
    return ahead;
  }

  // An item is a gate of an own unit in a row; the four gates of a unit are neighbouring lanes.
  // Where things are that belong to it does not change from turn to turn but by the rows of a
  // round.
  struct Item {
    int row, gate;
    bool is_unit;  // and not padding
    int column;    // of (4H)
    int state;     // of (rows, H)
    int sum;       // in the parts
    int cell;      // in the cells of a round
    int place;     // of the unit's word for the exchange
  };
  LSTM_EXT_DEVICE Item item(int index) const {
    const int hidden = static_cast<int>(call_.hidden_size);
    const int row = share_.by_gates.quotient(index), n = share_.by_gates.rest(index, row);
    const int own = n / kNumGates, unit = at_.first_unit + own, word = M::words(unit);
    Item i;
    i.row = row, i.gate = n % kNumGates;
    i.is_unit = unit < hidden;
    i.column = i.gate * hidden + unit;
    i.state = row * hidden + unit;
    i.sum = row * share_.geometry.outs + n;
    i.cell = row * share_.units + own;
    i.place = X::kInPlace ? multiplier_.word(row, word) : row * share_.row_words + word;
    return i;
  }

  LSTM_EXT_DEVICE float bias(const Item& i) const {
    return i.is_unit ? read_or_zero(call_.bias, i.column) : 0.0f;
  }
  // What a gate is without the recurrent part and the bias.
  LSTM_EXT_DEVICE float projected(const Turn& t, const Item& i) const {
    if (!i.is_unit || i.row >= t.rows) return 0.0f;
    const int64_t row =
        t.step * call_.projected_time_stride + (t.first_row + i.row) * call_.projected_batch_stride;
    return call_.projected[row + i.column];
  }

  // What an item needs from memory is asked for while the one before it is computed.
  LSTM_EXT_DEVICE void apply_gates(const Turn& t, float early) {
    const int items = ceil_warp(kNumGates * share_.units * t.rows), threads = thread_count();
    if (t.step + 1 < call_.seq_len) exchange_.sent(t.step);
    Item i = mine_;
    float z = early + my_bias_;
    for (int index = thread_index(); index < items; index += threads) {
      Item next = i;
      float next_z = 0;
      if (index + threads < items) {
        next = item(index + threads);
        next_z = projected(t, next) + bias(next);
      }
      apply_gate(t, i, z);
      i = next, z = next_z;
    }
  }

  // By the four lanes of a unit: each its gate, and all of them the cell.
  LSTM_EXT_DEVICE void apply_gate(const Turn& t, const Item& i, float z) {
    const bool exists = i.is_unit && i.row < t.rows;
    float* cell = cells(t) + i.cell;
    const int64_t row = int64_t{t.first_row} + i.row;
    const unsigned flags = exists ? flags_of(call_, t.step, row) : 0;
    const float c_prev = exists && !(flags & kReset) ? *cell : 0.0f;
    if (exists) z += multiplier_.sum(parts(), i.sum);
    const float active = activate(z, i.gate == kCandidate);
    const int first = thread_index() % kWarp - i.gate;
    const float all[] = {shuffle(active, first), shuffle(active, first + 1),
                         shuffle(active, first + 2), shuffle(active, first + 3)};
    CellState<Number<float>> state = cell_forward(gates_of(all), Number<float>{c_prev});
    const int unit = i.state - i.row * static_cast<int>(call_.hidden_size);
    if (flags & kMasked) state = {{kept_h(call_, t.step, row, unit)}, {c_prev}};
    if (call_.h_factors) sync_warp();  // a lane writes the h that others have just read
    if (lost_) state.h.v = state.c.v = not_a_number();
    if (!exists) state.h.v = 0;
    const float read_next = exists ? as_read(call_, t.step + 1, row, unit, state.h.v) : state.h.v;
    send(t, i, read_next);
    if (exists) keep(t, i, active, state, cell, flags, read_next);
  }

  // After the sends, which the peers wait for.
  LSTM_EXT_DEVICE void keep(const Turn& t, const Item& i, float active,
                            const CellState<Number<float>>& state, float* cell, unsigned flags,
                            float read_next) const {
    const int64_t step_row = int64_t{t.step} * call_.batch_size + t.first_row;
    const int64_t hidden = call_.hidden_size, at = step_row * hidden + i.state;
    if (call_.gates) {
      const int64_t row = (step_row + i.row) * kNumGates * hidden;
      call_.gates[row + i.column] = narrow<S>(active);
    }
    if (i.gate != 0) return;
    *cell = state.c.v;
    const S h = narrow<S>(state.h.v);
    call_.hidden[at + call_.batch_size * hidden] = narrow<S>(read_next);
    if (call_.output) call_.output[at] = flags & kSilent ? S{} : h;
    if (call_.cells) call_.cells[at] = state.c.v;
    const bool is_last = t.step + 1 == call_.seq_len;
    if (is_last) call_.c[t.first_row * hidden + i.state] = state.c.v;
    if (is_last || call_.h_factors) call_.h[t.first_row * hidden + i.state] = h;
  }

  // The word to each peer, beginning at the own block, so that not all send to the same at once.
  // Units past the last send zeros.
  LSTM_EXT_DEVICE void send(const Turn& t, const Item& i, float h) {
    const uint32_t value = M::packed(h);
    if (t.step + 1 == call_.seq_len || i.row >= t.rows) return;
    const int copies = X::kPublic ? 1 : share_.blocks;
    for (int copy = thread_index() % kSenders; copy < copies; copy += kSenders) {
      const int peer = at_.rank + copy;
      exchange_.send(t.step, peer < share_.blocks ? peer : peer - share_.blocks, i.place, value);
    }
  }

  LSTM_EXT_DEVICE static int ceil_warp(int items) { return (items + kWarp - 1) / kWarp * kWarp; }

  const Forward<S>& call_;
  const Share& share_;
  const Position at_;
  uint32_t* memory_;
  M multiplier_;
  const Item mine_;
  float my_bias_ = 0;
  X exchange_;
  bool lost_ = false;
};

template <class M, class X>
LSTM_EXT_KERNEL(kMaxThreads)
persistent_forward(const Forward<typename M::Stored> call, const Share share) {
  LSTM_EXT_SHARED_MEMORY(memory);
  ForwardBlock<M, X>(call, share, reinterpret_cast<uint32_t*>(memory)).run();
}

}  // namespace cuda
}  // namespace lstm_ext
