#include <stdexcept>
#include <type_traits>

#include "cuda/device.hpp"
#include "cuda/recurrence.hpp"

namespace lstm_ext {
namespace cuda {
namespace {

template <class T>
void copy_or_zero(T* to, const T* from, int64_t count, Stream stream) {
  if (count == 0) return;
  if (from) {
    copy(to, from, count * sizeof(T), stream);
  } else {
    zero(to, count * sizeof(T), stream);
  }
}

// Calls of persistent kernels.
template <class Call>
constexpr bool kMayPersist =
    std::is_same_v<Call, Forward<float>> || std::is_same_v<Call, Forward<BFloat16>> ||
    std::is_same_v<Call, Backward<float>> || std::is_same_v<Call, Backward<BFloat16>>;

template <class Call>
constexpr bool kHasVariant = std::is_base_of_v<VariantBackward<typename Call::Stored>, Call>;

template <class Call>
void undo_steps(const Call& call, const Execution& execution) {
  const int64_t state = call.batch_size * call.hidden_size;
  if (state == 0) return;
  if (call.seq_len == 0) {
    copy_or_zero(call.d_h0, call.d_h, call.batch_size * size_of_h(call), execution.stream);
    return copy_or_zero(call.d_c0, call.d_c, state, execution.stream);
  }
  if constexpr (kMayPersist<Call>) {
    if (execution.plan.algorithm == Algorithm::kCluster)
      return backward_in_clusters(call, execution);
    if (execution.plan.algorithm == Algorithm::kGrid) return backward_in_grid(call, execution);
  }
  backward_in_steps(call, execution);
}

}  // namespace

// The persistent kernels read h0 and write the last h themselves.
template <class Call>
void lstm_forward(const Call& call, const Execution& execution) {
  const int64_t state = call.batch_size * call.hidden_size;
  const int64_t state_of_h = call.batch_size * size_of_h(call);
  if (state == 0) return;
  const Algorithm algorithm = execution.plan.algorithm;
  const bool is_persistent = algorithm != Algorithm::kSteps && call.seq_len > 0;
  if (call.gates || call.flags || !is_persistent)
    copy_or_zero(call.hidden, call.h0, state_of_h, execution.stream);
  if constexpr (kMayPersist<Call>) {
    if (is_persistent && algorithm == Algorithm::kCluster) {
      return forward_in_clusters(call, execution);
    }
    if (is_persistent) return forward_in_grid(call, execution);
  }
  if (call.seq_len == 0) {
    copy_or_zero(call.c, call.c0, state, execution.stream);
  } else {
    forward_in_steps(call, execution);
  }
  if (call.h_factors) return;  // h is there
  copy(call.h, call.hidden + call.seq_len * state_of_h, state_of_h * sizeof(typename Call::Stored),
       execution.stream);
}

template <class Call>
void lstm_backward(const Call& call, const Execution& execution) {
  undo_steps(call, execution);
  if constexpr (kHasVariant<Call>) {
    if (call.d_peephole) sum_peepholes(call, execution);
  }
}

template void lstm_forward(const Forward<float>&, const Execution&);
template void lstm_forward(const Forward<double>&, const Execution&);
template void lstm_forward(const Forward<BFloat16>&, const Execution&);
template void lstm_forward(const VariantForward<float>&, const Execution&);
template void lstm_forward(const VariantForward<double>&, const Execution&);
template void lstm_forward(const ProjectedForward<float>&, const Execution&);
template void lstm_forward(const ProjectedForward<double>&, const Execution&);
template void lstm_backward(const Backward<float>&, const Execution&);
template void lstm_backward(const Backward<double>&, const Execution&);
template void lstm_backward(const Backward<BFloat16>&, const Execution&);
template void lstm_backward(const VariantBackward<float>&, const Execution&);
template void lstm_backward(const VariantBackward<double>&, const Execution&);
template void lstm_backward(const ProjectedBackward<float>&, const Execution&);
template void lstm_backward(const ProjectedBackward<double>&, const Execution&);

}  // namespace cuda
}  // namespace lstm_ext
