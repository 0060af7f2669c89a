// Launching a persistent kernel: one launch, or for a grid as many as the chip has no room for at
// once.
#pragma once

#include <algorithm>

#include "cuda/persistent_backward.hpp"
#include "cuda/persistent_forward.hpp"

namespace lstm_ext {
namespace cuda {

template <class Call>
void launch_persistent(void (*kernel)(Call, Share), const Call& call, const Execution& execution) {
  const Plan& plan = execution.plan;
  const bool is_grid = plan.algorithm == Algorithm::kGrid;
  const int64_t batch = call.batch_size, rows = plan.rows;
  for (int64_t first = 0; first < batch; first += rows * plan.groups) {
    const int64_t left = (batch - first + rows - 1) / rows;
    const int groups = static_cast<int>(std::min<int64_t>(plan.groups, left));
    if (is_grid) zero(execution.scratch, plan.scratch_bytes, execution.stream);
    const Launch where{groups * plan.blocks,      1,       plan.geometry.threads, plan.shared_bytes,
                       is_grid ? 1 : plan.blocks, is_grid, execution.stream};
    const auto mail_words =
        static_cast<int64_t>(plan.scratch_bytes / sizeof(uint64_t)) / plan.groups;
    const Share share{plan.geometry, plan.blocks,
                      plan.units,    plan.rows,
                      first,         is_grid ? static_cast<uint64_t*>(execution.scratch) : nullptr,
                      mail_words,    {execution.timeout_ns, execution.status, kTimedOut}};
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
