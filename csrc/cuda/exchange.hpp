// How the blocks of a group pass on what each made in a step. Step `s` counts from 0 in the order
// in which steps are computed, forward or backward.
//
//   enter(round, words)        the calls that follow are about the rows of this round, for which a
//                              block receives `words` in a step
//   send(s, to, word, value)   a word for step s + 1 of the block `to`; `word` is its place
//   sent(s)                    by all threads, before or after their sends of step s
//   wait(s, apart, place)      until all words for step s are there. Unless words come in place,
//                              `place(word)` says where the receiver wants a word of an even
//                              number, and `apart` how much further the next one
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

// How the blocks of a launch exchange words. It stays in the kernel's arguments, so that it takes
// no registers.
struct Post {
  int slots;       // shared memory that receives, as an offset: two slots in a cluster, else one
  int slot_words;  // from one to the next
  int words;       // that a block receives in a step, of a full round
  int arrivals;    // shared memory, two, as an offset; in a cluster only
  uint64_t* mail;  // device memory of all groups, zero when the grid starts; in a grid only
  int64_t mail_words;  // of it, for a group and round
  int rounds;
  int peers;       // blocks of a group
  bool broadcast;  // every block receives the same
  Bound bound;
};

// Returns once `ready()` is true, or `gave_up` after too long; with `gave_up` it asks only once. To
// read the clock takes longer than most waits, and so does not begin with it.
template <class Ready>
LSTM_EXT_DEVICE void wait_for(const Bound& bound, bool& gave_up, const Ready& ready) {
  constexpr uint32_t kTries = 256;
  uint64_t start = 0;
#pragma unroll 1
  for (uint32_t tries = 1; !ready() && !gave_up; ++tries) {
    if (tries % kTries != 0) continue;
    const uint64_t now = clock_ns();
    if (start == 0) {
      start = now;
    } else if (now - start > bound.timeout_ns) {
      report(bound.status, bound.code);
      gave_up = true;
    }
  }
}

// Through the shared memory of the blocks of a cluster. A group of one block is its own peer, and
// needs no cluster. There is one round.
class ClusterExchange {
 public:
  static constexpr bool kInPlace = true;  // words go where the receiver wants them
  static constexpr bool kPublic = false;  // every peer is sent a copy

  LSTM_EXT_DEVICE ClusterExchange(const Post& post, uint32_t* memory, int, int)
      : post_(post), memory_(memory) {}

  // Before the first send, since no peer may send before a block has made its arrivals, and after
  // the last wait: to a block that gave up and left, others might still send.
  LSTM_EXT_DEVICE void begin() {
    if (post_.peers == 1) return sync_block();
    if (thread_index() == 0) {
      arrival_init(arrival(0));
      arrival_init(arrival(1));
    }
    sync_cluster();
  }
  LSTM_EXT_DEVICE void end() {
    if (post_.peers > 1) sync_cluster();
  }

  LSTM_EXT_DEVICE void enter(int, int words) { words_ = words; }
  LSTM_EXT_DEVICE void send(int s, int to, int word, uint32_t value) {
    uint32_t* at = received(s + 1) + word;
    if (post_.peers == 1) {
      *at = value;
    } else if (!gave_up) {
      store_to_peer(at, value, arrival(s + 1), to);
    }
  }
  LSTM_EXT_DEVICE void sent(int s) {
    if (post_.peers > 1 && thread_index() == 0 && !gave_up) {
      arrival_expect(arrival(s + 1), 4u * words_);
    }
  }
  // The slot of step s is used for the (s / 2)-th time, step 0 and its slot's first use apart.
  template <class Place>
  LSTM_EXT_DEVICE void wait(int s, int, const Place&) {
    if (post_.peers == 1) return sync_block();
    const auto parity = static_cast<uint32_t>((s - 1) / 2 & 1);
    uint64_t* awaited = arrival(s);
    const auto ready = [=] { return arrival_complete(awaited, parity); };
    wait_for(post_.bound, gave_up, ready);
    sync_warp();  // lanes left the loop at different times, and an mma needs them together
  }
  LSTM_EXT_DEVICE uint32_t* received(int s) const {
    return memory_ + post_.slots + (s & 1) * post_.slot_words;
  }

  bool gave_up = false;

 private:
  LSTM_EXT_DEVICE uint64_t* arrival(int s) const {
    return reinterpret_cast<uint64_t*>(memory_ + post_.arrivals) + (s & 1);
  }

  const Post& post_;
  uint32_t* memory_;
  int words_ = 0;
};

// Through the L2 cache: every word carries the step that it is for, and the receiver polls the
// words themselves, so that one trip is all. `mail` is zero when the grid starts.
class GridExchange {
 public:
  static constexpr bool kInPlace = false;
  static constexpr bool kPublic = true;  // where all receive the same, it is written once

  LSTM_EXT_DEVICE GridExchange(const Post& post, uint32_t* memory, int group, int rank)
      : post_(post), memory_(memory), group_(group), box_(post.broadcast ? 0 : rank) {}

  LSTM_EXT_DEVICE void begin() { sync_block(); }
  LSTM_EXT_DEVICE void end() {}

  LSTM_EXT_DEVICE void enter(int round, int words) {
    mail_ = post_.mail + (group_ * post_.rounds + round) * post_.mail_words;
    words_ = words;
  }
  LSTM_EXT_DEVICE void send(int s, int to, int word, uint32_t value) {
    store_flagged(slot(s + 1, to) + word, value | static_cast<uint64_t>(flag(s + 1)) << 32);
  }
  LSTM_EXT_DEVICE void sent(int64_t) {}

  template <class Place>
  LSTM_EXT_DEVICE void wait(int s, int apart, const Place& place) {
    constexpr int kAtOnce = 4;  // pairs on their way before the first is looked at
    const uint64_t* from = slot(s, box_);
    const int stride = 2 * thread_count();
    for (int first = 2 * thread_index(); first < words_; first += kAtOnce * stride) {
      uint64_t values[kAtOnce][2];
      const auto ready = [&] {
        bool all = true;
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          const int word = first + i * stride;
          if (word < words_) load_flagged_pair(from + word, values[i]);
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          const bool both = is_new(values[i][0], s) && is_new(values[i][1], s);
          all = all && (both || first + i * stride >= words_);
        }
        return all;
      };
      wait_for(post_.bound, gave_up, ready);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int word = first + i * stride;
        if (word >= words_) continue;
        uint32_t* to = memory_ + post_.slots + place(word);
        to[0] = static_cast<uint32_t>(values[i][0]);
        to[apart] = static_cast<uint32_t>(values[i][1]);
      }
    }
    sync_block();
  }
  LSTM_EXT_DEVICE uint32_t* received(int) const { return memory_ + post_.slots; }

  bool gave_up = false;

 private:
  LSTM_EXT_DEVICE static uint32_t flag(int s) { return static_cast<uint32_t>(s); }
  LSTM_EXT_DEVICE static bool is_new(uint64_t value, int s) {
    return static_cast<uint32_t>(value >> 32) == flag(s);
  }
  LSTM_EXT_DEVICE uint64_t* slot(int s, int of) const {
    const int boxes = post_.broadcast ? 1 : post_.peers;
    return mail_ + int64_t{(s & 1) * boxes + (post_.broadcast ? 0 : of)} * post_.words;
  }
  const Post& post_;
  uint32_t* memory_;
  int group_;
  int box_;  // which of the slots' boxes is this block's
  uint64_t* mail_ = nullptr;
  int words_ = 0;
};

}  // namespace cuda
}  // namespace lstm_ext
