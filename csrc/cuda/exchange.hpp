// How the blocks of a group pass on what each made in a step. Step `s` counts from 0 in the order
// in which steps are computed, forward or backward.
//
//   send(s, to, word, value)   a word for step s + 1 of the block `to`; `word` is its place
//   sent(s)                    by all threads, before or after their sends of step s
//   wait(s, place)             until all words for step s are there. Unless words come in place,
//                              `place(word)` says where the receiver wants them
//   received(s)                where they then are
//
// A wait is bounded: after `timeout_ns` a thread gives up, for good, and tells the host. The caller
// sees that in `gave_up` and makes the block's results NaN.
//
// Two slots are enough. A block sends the words of step s + 2 into the slot of step s only after it
// has received those of step s + 1 from every peer, and a peer sends them only after a barrier that
// follows its last read of the slot of step s.
#pragma once

#include "cuda/device.hpp"

namespace lstm_ext {
namespace cuda {

struct Bound {
  uint64_t timeout_ns;
  int* status;
  int code;
};

// Where a block's words come and go.
struct Mailbox {
  uint32_t* slots;     // shared memory that receives: two slots in a cluster, else one
  int slot_words;      // from one to the next
  int words;           // that a block receives in a step
  uint64_t* arrivals;  // shared memory, two; in a cluster only
  uint64_t* mail;      // device memory of the group, zero when the grid starts; in a grid only
  int peers;           // blocks of the group
  int rank;            // of this block
  bool broadcast;      // every block receives the same
  Bound bound;
};

// Returns whether `ready()` came true in time.
template <class Ready>
LSTM_EXT_DEVICE bool wait_for(const Bound& bound, const Ready& ready) {
  if (ready()) return true;
  const uint64_t start = clock_ns();
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      if (ready()) return true;
    }
    if (clock_ns() - start > bound.timeout_ns) {
      report(bound.status, bound.code);
      return false;
    }
  }
}

// Through the shared memory of the blocks of a cluster. A group of one block is its own peer, and
// needs no cluster.
class ClusterExchange {
 public:
  static constexpr bool kInPlace = true;  // words go where the receiver wants them
  static constexpr bool kPublic = false;  // every peer is sent a copy

  LSTM_EXT_DEVICE explicit ClusterExchange(const Mailbox& box) : box_(box) {}

  // Before the first send, since no peer may send before a block has made its arrivals, and after
  // the last wait: to a block that gave up and left, others might still send.
  LSTM_EXT_DEVICE void begin() {
    if (box_.peers == 1) return sync_block();
    if (thread_index() == 0) {
      arrival_init(&box_.arrivals[0]);
      arrival_init(&box_.arrivals[1]);
    }
    sync_cluster();
  }
  LSTM_EXT_DEVICE void end() {
    if (box_.peers > 1) sync_cluster();
  }

  LSTM_EXT_DEVICE void send(int64_t s, int to, int word, uint32_t value) {
    const int slot = static_cast<int>((s + 1) & 1);
    uint32_t* at = box_.slots + slot * box_.slot_words + word;
    if (box_.peers == 1) {
      *at = value;
    } else if (!gave_up) {
      store_to_peer(at, value, &box_.arrivals[slot], to);
    }
  }
  LSTM_EXT_DEVICE void sent(int64_t s) {
    if (box_.peers > 1 && thread_index() == 0 && !gave_up) {
      arrival_expect(&box_.arrivals[(s + 1) & 1], 4u * box_.words);
    }
  }
  // The slot of step s is used for the (s / 2)-th time, step 0 and its slot's first use apart.
  template <class Place>
  LSTM_EXT_DEVICE void wait(int64_t s, const Place&) {
    if (box_.peers == 1) return sync_block();
    const auto parity = static_cast<uint32_t>((s - 1) / 2 & 1);
    uint64_t* arrival = &box_.arrivals[s & 1];
    const auto ready = [=] { return arrival_complete(arrival, parity); };
    if (!gave_up) gave_up = !wait_for(box_.bound, ready);
    sync_warp();  // lanes left the loop at different times, and an mma needs them together
  }
  LSTM_EXT_DEVICE uint32_t* received(int64_t s) const {
    return box_.slots + (s & 1) * box_.slot_words;
  }

  bool gave_up = false;

 private:
  Mailbox box_;
};

// Through the L2 cache: every word carries the step that it is for, and the receiver polls the
// words themselves, so that one trip is all. `mail` is zero when the grid starts.
class GridExchange {
 public:
  static constexpr bool kInPlace = false;
  static constexpr bool kPublic = true;  // where all receive the same, it is written once

  LSTM_EXT_DEVICE explicit GridExchange(const Mailbox& box) : box_(box) {}

  LSTM_EXT_DEVICE void begin() { sync_block(); }
  LSTM_EXT_DEVICE void end() {}

  LSTM_EXT_DEVICE void send(int64_t s, int to, int word, uint32_t value) {
    store_flagged(slot(s + 1, to) + word, value | static_cast<uint64_t>(flag(s + 1)) << 32);
  }
  LSTM_EXT_DEVICE void sent(int64_t) {}

  // `place(word)` says where in `into` a word belongs.
  template <class Place>
  LSTM_EXT_DEVICE void wait(int64_t s, const Place& place) {
    constexpr int kAtOnce = 4;  // loads on their way before the first is looked at
    const uint64_t* from = slot(s, box_.rank);
    const int stride = thread_count();
    for (int first = thread_index(); first < box_.words; first += kAtOnce * stride) {
      uint64_t values[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int word = first + i * stride;
        values[i] = word < box_.words ? load_flagged(from + word) : 0;
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int word = first + i * stride;
        if (word < box_.words) box_.slots[place(word)] = arrived(from + word, values[i], flag(s));
      }
    }
    sync_block();
  }
  LSTM_EXT_DEVICE uint32_t* received(int64_t) const { return box_.slots; }

  bool gave_up = false;

 private:
  LSTM_EXT_DEVICE static uint32_t flag(int64_t s) { return static_cast<uint32_t>(s); }
  LSTM_EXT_DEVICE uint64_t* slot(int64_t s, int of) const {
    const int64_t boxes = box_.broadcast ? 1 : box_.peers;
    return box_.mail + ((s & 1) * boxes + (box_.broadcast ? 0 : of)) * box_.words;
  }
  LSTM_EXT_DEVICE uint32_t arrived(const uint64_t* p, uint64_t value, uint32_t flag) {
    const auto is_new = [=](uint64_t v) { return static_cast<uint32_t>(v >> 32) == flag; };
    if (!is_new(value) && !gave_up) {
      gave_up = !wait_for(box_.bound, [&] {
        value = load_flagged(p);
        return is_new(value);
      });
    }
    return static_cast<uint32_t>(value);
  }

  Mailbox box_;
};

}  // namespace cuda
}  // namespace lstm_ext
