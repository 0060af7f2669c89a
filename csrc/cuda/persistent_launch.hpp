// Launching a persistent kernel: one launch, or for a grid as many as the chip has no room for at
// once.
#pragma once

#include <algorithm>

#include "cuda/persistent_backward.hpp"
#include "cuda/persistent_forward.hpp"

namespace lstm_ext {
namespace cuda {

// Forward, words are those of h, and alike for all blocks; backward float32 for each block.
inline Share share_of(const Plan& plan, int first_row, const Execution& execution,
                      Direction direction, size_t item) {
  const bool is_grid = plan.algorithm == Algorithm::kGrid,
             forward = direction == Direction::kForward;
  Share share{};
  share.geometry = plan.geometry, share.layout = plan.layout;
  share.blocks = plan.blocks, share.units = plan.units, share.rows = plan.rows;
  share.rounds = plan.rounds;
  share.first_row = first_row;
  share.all = plan.units * plan.blocks;
  share.row_words = static_cast<int>(share.all * item / sizeof(uint32_t));
  share.by_units = divider(plan.units), share.by_gates = divider(kNumGates * plan.units);
  share.by_all = divider(share.all), share.by_row_words = divider(share.row_words);
  Post& post = share.post;
  post.slots = forward ? plan.layout.in : plan.layout.received;
  post.slot_words = forward ? in_words(plan.geometry) : plan.rows * share.all;
  post.words = plan.rows * (forward ? share.row_words : share.all);
  post.arrivals = plan.layout.arrivals;
  post.mail = is_grid ? static_cast<uint64_t*>(execution.scratch) : nullptr;
  post.mail_words = plan.mail_words;
  post.rounds = plan.rounds, post.peers = plan.blocks;
  post.broadcast = forward && is_grid;
  post.bound = {execution.timeout_ns, execution.status, kTimedOut};
  return share;
}

template <class Call>
void launch_persistent(void (*kernel)(Call, Share), const Call& call, const Execution& execution) {
  const Plan& plan = execution.plan;
  const bool is_grid = plan.algorithm == Algorithm::kGrid;
  const int64_t batch = call.batch_size, group_rows = int64_t{plan.rows} * plan.rounds;
  for (int64_t first = 0; first < batch; first += group_rows * plan.groups) {
    const int64_t left = (batch - first + group_rows - 1) / group_rows;
    const int groups = static_cast<int>(std::min<int64_t>(plan.groups, left));
    if (is_grid) zero(execution.scratch, plan.scratch_bytes, execution.stream);
    const Launch where{groups * plan.blocks,      1,       plan.geometry.threads, plan.shared_bytes,
                       is_grid ? 1 : plan.blocks, is_grid, execution.stream};
    const Share share =
        share_of(plan, static_cast<int>(first), execution, Call::kDirection, sizeof(*call.w_hh));
    launch(where, kernel, call, share);
  }
}

template <class S, bool kDeep>
struct MultiplierFor {
  using Type = FloatMultiplier<kDeep>;
};
template <bool kDeep>
struct MultiplierFor<BFloat16, kDeep> {
  using Type = BFloat16Multiplier<kDeep>;
};

template <class X, class S>
void launch_forward(const Forward<S>& call, const Execution& execution) {
  const bool deep = execution.plan.geometry.deep;
  launch_persistent(deep ? &persistent_forward<typename MultiplierFor<S, true>::Type, X>
                         : &persistent_forward<typename MultiplierFor<S, false>::Type, X>,
                    call, execution);
}

template <class X, class S>
void launch_backward(const Backward<S>& call, const Execution& execution) {
  const bool deep = execution.plan.geometry.deep;
  launch_persistent(deep ? &persistent_backward<typename MultiplierFor<S, true>::Type, X>
                         : &persistent_backward<typename MultiplierFor<S, false>::Type, X>,
                    call, execution);
}

}  // namespace cuda
}  // namespace lstm_ext
