// Forward, by blocks that stay for the whole sequence: each holds the recurrent weights of a few
// units, all four gates of them, and their cells. A step multiplies the group's h, which lies in
// shared memory, applies the gates and sends the new h of the own units to the peers.
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

  LSTM_EXT_DEVICE ForwardBlock(const Forward<S>& call, const Share& share, uint32_t* memory)
      : call_(call),
        share_(share),
        at_(position_of(share, call.batch_size)),
        layout_(shared_layout(share.geometry, share.units, kInBuffers, 0)),
        parts_(reinterpret_cast<float*>(memory + layout_.parts)),
        cells_(reinterpret_cast<float*>(memory + layout_.cells)),
        own_(memory + layout_.own),
        multiplier_(share.geometry),
        exchange_(mailbox(memory)) {}

  LSTM_EXT_DEVICE void run(uint32_t* memory) {
    const S* w = call_.w_hh;
    const int64_t columns = kNumGates * call_.hidden_size;
    multiplier_.load(
        [&](int k, int n) {
          const int64_t unit = at_.first_unit + n / kNumGates;
          return k < call_.hidden_size && unit < call_.hidden_size
                     ? w[k * columns + n % kNumGates * call_.hidden_size + unit]
                     : S{};
        },
        memory + layout_.weights);
    read_state(memory);
    exchange_.begin();
    for (int64_t step = 0; step < call_.seq_len; ++step) {
      const float early = projected(step, thread_index());
      if (step > 0) wait(step);
      multiplier_.multiply(exchange_.received(step), at_.rows, parts_);
      lost_ = sync_block_or(exchange_.gave_up);
      apply_gates(step, early);
      sync_block();
      if (step + 1 < call_.seq_len) send(step);
      write_hidden(step);
    }
    exchange_.end();
  }

 private:
  LSTM_EXT_DEVICE Mailbox mailbox(uint32_t* memory) const {
    const int row_words = M::words(share_.units * share_.blocks);
    return {memory + layout_.in,
            in_words(share_.geometry),
            at_.rows * row_words,
            reinterpret_cast<uint64_t*>(memory + layout_.arrivals),
            share_.mail ? share_.mail + at_.group * share_.mail_words : nullptr,
            share_.blocks,
            X::kPublic ? 0 : at_.rank,
            X::kPublic,
            share_.bound};
  }

  LSTM_EXT_DEVICE void read_state(uint32_t* memory) {
    const int words = kInBuffers * in_words(share_.geometry), threads = thread_count();
    for (int i = thread_index(); i < words; i += threads) memory[layout_.in + i] = 0;
    sync_block();
    const auto hidden = static_cast<int>(call_.hidden_size);
    for (int i = thread_index(); i < at_.rows * hidden; i += threads) {
      const int row = i / hidden, k = i % hidden;
      const float h0 = widen(call_.hidden[(at_.first_row + row) * hidden + k]);
      multiplier_.put(memory + layout_.in, row, k, h0);
    }
    for (int i = thread_index(); i < at_.rows * share_.units; i += threads) {
      const int64_t unit = at_.first_unit + i % share_.units;
      const int64_t row = at_.first_row + i / share_.units;
      cells_[i] = unit < hidden ? read_or_zero(call_.c0, row * hidden + unit) : 0.0f;
    }
  }

  LSTM_EXT_DEVICE void wait(int64_t step) {
    const int row_words = M::words(share_.units * share_.blocks);
    exchange_.wait(step,
                   [&](int word) { return multiplier_.word(word / row_words, word % row_words); });
  }

  // An item is a gate of an own unit in a row; the four gates of a unit are neighbouring lanes.
  struct Item {
    int row, own, gate;  // own: unit, counted from the block's first
    bool exists;
  };
  LSTM_EXT_DEVICE Item item(int index) const {
    const int row = index / (kNumGates * share_.units), n = index % (kNumGates * share_.units);
    const int own = n / kNumGates;
    return {row, own, n % kNumGates, row < at_.rows && at_.first_unit + own < call_.hidden_size};
  }
  // Of (T, B, H) arrays; times 4 of (T, B, 4H) up to the gate.
  LSTM_EXT_DEVICE int64_t row_of(int64_t step, int row) const {
    return (step * call_.batch_size + at_.first_row + row) * call_.hidden_size;
  }
  LSTM_EXT_DEVICE int64_t gate_index(int64_t step, const Item& i) const {
    return kNumGates * row_of(step, i.row) + i.gate * call_.hidden_size + at_.first_unit + i.own;
  }

  // What a gate is without the recurrent part. Read before a wait, it is there after it.
  LSTM_EXT_DEVICE float projected(int64_t step, int index) const {
    const Item i = item(index);
    if (!i.exists) return 0.0f;
    const int64_t row =
        step * call_.projected_time_stride + (at_.first_row + i.row) * call_.projected_batch_stride;
    const int64_t column = i.gate * call_.hidden_size + at_.first_unit + i.own;
    return call_.projected[row + column] + read_or_zero(call_.bias, column);
  }

  LSTM_EXT_DEVICE void apply_gates(int64_t step, float early) {
    const int items = kNumGates * share_.units * at_.rows, threads = thread_count();
    for (int index = thread_index(); index < ceil_warp(items); index += threads) {
      const Item i = item(index);
      float z = index < threads ? early : projected(step, index);
      if (i.exists) z += multiplier_.sum(parts_, i.row, i.own * kNumGates + i.gate);
      const Number<float> own{z};
      const float active = i.gate == kCandidate ? tanh(own).v : sigmoid(own).v;
      const int first = thread_index() % kWarp - i.gate;
      const float all[] = {shuffle(active, first), shuffle(active, first + 1),
                           shuffle(active, first + 2), shuffle(active, first + 3)};
      if (i.exists && call_.gates) call_.gates[gate_index(step, i)] = narrow<S>(active);
      if (i.gate == 0 && i.row < at_.rows) finish(step, i, gates_of(all));
    }
  }

  // The cell of one unit in one row. Units past the last send zeros.
  LSTM_EXT_DEVICE void finish(int64_t step, const Item& i, const CellGates<Number<float>>& gates) {
    const int index = i.row * share_.units + i.own;
    CellState<Number<float>> state{{0}, {0}};
    if (i.exists) {
      state = cell_forward(gates, Number<float>{cells_[index]});
      if (lost_) state.h.v = state.c.v = not_a_number();
      cells_[index] = state.c.v;
      const int64_t at = row_of(step, i.row) + at_.first_unit + i.own;
      if (call_.cells) call_.cells[at] = state.c.v;
      if (step + 1 == call_.seq_len) call_.c[at - row_of(step, 0) + row_of(0, 0)] = state.c.v;
    }
    reinterpret_cast<S*>(own_)[index] = narrow<S>(state.h.v);
  }

  // Each word to each peer, beginning at the own one, so that not all send to the same at once.
  LSTM_EXT_DEVICE void send(int64_t step) {
    const int own = M::words(share_.units), all = own * share_.blocks;
    const int words = at_.rows * own, copies = X::kPublic ? 1 : share_.blocks;
    exchange_.sent(step);
    for (int i = thread_index(); i < words * copies; i += thread_count()) {
      const int row = i % words / own, word = at_.rank * own + i % own;
      const int place = X::kInPlace ? multiplier_.word(row, word) : row * all + word;
      exchange_.send(step, (at_.rank + i / words) % share_.blocks, place, own_[i % words]);
    }
  }

  // After the sends, which the peers wait for.
  LSTM_EXT_DEVICE void write_hidden(int64_t step) const {
    const auto* own = reinterpret_cast<const S*>(own_);
    for (int i = thread_index(); i < at_.rows * share_.units; i += thread_count()) {
      const int64_t unit = at_.first_unit + i % share_.units;
      if (unit < call_.hidden_size) {
        call_.hidden[row_of(step + 1, i / share_.units) + unit] = own[i];
      }
    }
  }

  LSTM_EXT_DEVICE static int ceil_warp(int items) { return (items + kWarp - 1) / kWarp * kWarp; }

  const Forward<S>& call_;
  const Share& share_;
  Position at_;
  SharedLayout layout_;
  float* parts_;
  float* cells_;
  uint32_t* own_;
  M multiplier_;
  X exchange_;
  bool lost_ = false;
};

template <class M, class X>
LSTM_EXT_KERNEL(kMaxThreads)
persistent_forward(const Forward<typename M::Stored> call, const Share share) {
  LSTM_EXT_SHARED_MEMORY(memory);
  auto* words = reinterpret_cast<uint32_t*>(memory);
  ForwardBlock<M, X>(call, share, words).run(words);
}

}  // namespace cuda
}  // namespace lstm_ext
