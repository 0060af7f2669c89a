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

  LSTM_EXT_DEVICE BackwardBlock(const Backward<S>& call, const Share& share, uint32_t* memory)
      : call_(call),
        share_(share),
        at_(position_of(share, call.batch_size)),
        layout_(shared_layout(share.geometry, share.units, 1, 0)),
        in_(memory + layout_.in),
        parts_(reinterpret_cast<float*>(memory + layout_.parts)),
        cells_(reinterpret_cast<float*>(memory + layout_.cells)),
        multiplier_(share.geometry),
        exchange_(mailbox(memory)) {}

  LSTM_EXT_DEVICE void run(uint32_t* memory) {
    const S* w = call_.w_hh;
    const int64_t columns = kNumGates * call_.hidden_size;
    multiplier_.load(
        [&](int k, int n) {
          const int64_t unit = at_.first_unit + k / kNumGates;
          return n < call_.hidden_size && unit < call_.hidden_size
                     ? w[n * columns + k % kNumGates * call_.hidden_size + unit]
                     : S{};
        },
        memory + layout_.weights);
    for (int i = thread_index(); i < in_words(share_.geometry); i += thread_count()) in_[i] = 0;
    read_state();
    exchange_.begin();
    for (int64_t s = 0; s < call_.seq_len; ++s) {
      const Kept early = kept(s, thread_index() / kAdders);
      if (s > 0) receive(s);
      undo_cells(s, early);
      sync_block();
      multiplier_.multiply(in_, at_.rows, parts_);
      sync_block();
      send(s);
    }
    receive(call_.seq_len);
    write_state();
    exchange_.end();
  }

 private:
  LSTM_EXT_DEVICE Mailbox mailbox(uint32_t* memory) const {
    const int all = share_.units * share_.blocks;
    return {memory + layout_.received,
            share_.geometry.rows * all,
            at_.rows * all,
            reinterpret_cast<uint64_t*>(memory + layout_.arrivals),
            share_.mail ? share_.mail + at_.group * share_.mail_words : nullptr,
            share_.blocks,
            at_.rank,
            false,
            share_.bound};
  }

  LSTM_EXT_DEVICE int64_t state_index(int i) const {
    return (at_.first_row + i / share_.units) * call_.hidden_size + unit_of(i);
  }
  LSTM_EXT_DEVICE int64_t unit_of(int i) const { return at_.first_unit + i % share_.units; }

  LSTM_EXT_DEVICE void read_state() {
    for (int i = thread_index(); i < at_.rows * share_.units; i += thread_count()) {
      cells_[i] = unit_of(i) < call_.hidden_size ? read_or_zero(call_.d_c, state_index(i)) : 0.0f;
    }
  }

  LSTM_EXT_DEVICE void receive(int64_t s) {
    exchange_.wait(s, [](int word) { return word; });
    lost_ = sync_block_or(exchange_.gave_up);
  }

  // The gradient of h that the recurrence brings to own unit i (row, unit), in all lanes of the
  // kAdders that work on it.
  LSTM_EXT_DEVICE float recurrent_gradient(int64_t s, int i, int lane) const {
    const int own = at_.rows * share_.units;
    const auto* received = reinterpret_cast<const float*>(exchange_.received(s));
    float sum = 0;
    if (i < own) {
      for (int source = lane; source < share_.blocks; source += kAdders) {
        sum += received[source * own + i];
      }
    }
    for (int mask = 1; mask < kAdders; mask *= 2) sum += shuffle_xor(sum, mask);
    return lost_ ? not_a_number() : sum;
  }

  // What the forward pass kept of own unit i (row, unit), and the gradient of its output. Read
  // before a wait, it is there after it.
  struct Kept {
    float gates[kNumGates];
    float c, c_prev, d_h;
  };
  LSTM_EXT_DEVICE Kept kept(int64_t s, int i) const {
    if (i >= at_.rows * share_.units || unit_of(i) >= call_.hidden_size) return {};
    const int64_t step = call_.seq_len - 1 - s, hidden = call_.hidden_size, unit = unit_of(i);
    const int64_t at = row_of(step, i);
    const S* gates = call_.gates + kNumGates * at + unit;
    const float c_prev = step > 0 ? call_.cells[at - call_.batch_size * hidden + unit]
                                  : read_or_zero(call_.c0, state_index(i));
    return {
        {widen(gates[0]), widen(gates[hidden]), widen(gates[2 * hidden]), widen(gates[3 * hidden])},
        call_.cells[at + unit],
        c_prev,
        upstream(call_, step, at_.first_row + i / share_.units, unit)};
  }

  // kAdders lanes a unit and row: all compute the cell, the first four write a gate each.
  LSTM_EXT_DEVICE void undo_cells(int64_t s, const Kept& early) {
    const int own = at_.rows * share_.units;
    const int lane = thread_index() % kAdders, stride = thread_count() / kAdders;
    for (int i = thread_index() / kAdders; i < ceil_units(own); i += stride) {
      const bool exists = i < own && unit_of(i) < call_.hidden_size;
      const float d_cell = i < own ? cells_[i] : 0.0f;
      float d_h = 0;
      if (s > 0) {
        d_h = recurrent_gradient(s, i, lane);
      } else if (exists) {
        d_h = read_or_zero(call_.d_h, state_index(i));
      }
      CellGradient<Number<float>> gradient{};
      if (exists) {
        const Kept k = i == thread_index() / kAdders ? early : kept(s, i);
        gradient =
            cell_backward(gates_of(k.gates), Number<float>{k.c}, Number<float>{k.c_prev},
                          Number<float>{d_h + k.d_h}, Number<float>{d_cell}, Number<float>{1});
      }
      sync_warp();  // d_gates may be gates, and each lane overwrites what others have read
      if (exists) write(call_.seq_len - 1 - s, i, lane, gradient);
    }
  }

  // Of (T, B, H) arrays; times 4 of (T, B, 4H).
  LSTM_EXT_DEVICE int64_t row_of(int64_t step, int i) const {
    return (step * call_.batch_size + at_.first_row + i / share_.units) * call_.hidden_size;
  }

  LSTM_EXT_DEVICE void write(int64_t step, int i, int lane,
                             const CellGradient<Number<float>>& gradient) {
    if (lane == 0) cells_[i] = gradient.c_prev.v;
    if (lane >= kNumGates) return;
    const CellGates<Number<float>>& z = gradient.z;
    const float mine = lane == kInput       ? z.input.v
                       : lane == kForget    ? z.forget.v
                       : lane == kCandidate ? z.candidate.v
                                            : z.output.v;
    const int64_t at = kNumGates * row_of(step, i) + lane * call_.hidden_size + unit_of(i);
    call_.d_gates[at] = narrow<S>(mine);
    multiplier_.put(in_, i / share_.units, i % share_.units * kNumGates + lane, mine);
  }

  LSTM_EXT_DEVICE void send(int64_t s) {
    const int all = share_.units * share_.blocks;
    exchange_.sent(s);
    for (int i = thread_index(); i < at_.rows * all; i += thread_count()) {
      const int row = i / all, n = i % all;
      const int place = (at_.rank * at_.rows + row) * share_.units + n % share_.units;
      exchange_.send(s, n / share_.units, place, bits_of(multiplier_.sum(parts_, row, n)));
    }
  }

  LSTM_EXT_DEVICE void write_state() const {
    const int own = at_.rows * share_.units;
    const int lane = thread_index() % kAdders, stride = thread_count() / kAdders;
    for (int i = thread_index() / kAdders; i < ceil_units(own); i += stride) {
      const float d_h = recurrent_gradient(call_.seq_len, i, lane);
      if (lane > 0 || i >= own || unit_of(i) >= call_.hidden_size) continue;
      call_.d_h0[state_index(i)] = narrow<S>(d_h);
      call_.d_c0[state_index(i)] = lost_ ? not_a_number() : cells_[i];
    }
  }

  // So that whole warps take part in the shuffles.
  LSTM_EXT_DEVICE static int ceil_units(int units) {
    constexpr int kUnits = kWarp / kAdders;
    return (units + kUnits - 1) / kUnits * kUnits;
  }

  const Backward<S>& call_;
  const Share& share_;
  Position at_;
  SharedLayout layout_;
  uint32_t* in_;
  float* parts_;
  float* cells_;
  M multiplier_;
  X exchange_;
  bool lost_ = false;
};

template <class M, class X>
LSTM_EXT_KERNEL(kMaxThreads)
persistent_backward(const Backward<typename M::Stored> call, const Share share) {
  LSTM_EXT_SHARED_MEMORY(memory);
  auto* words = reinterpret_cast<uint32_t*>(memory);
  BackwardBlock<M, X>(call, share, words).run(words);
}

}  // namespace cuda
}  // namespace lstm_ext
