#include "cuda/persistent_launch.hpp"

namespace lstm_ext {
namespace cuda {

template <class S>
void forward_in_clusters(const Forward<S>& call, const Execution& execution) {
  launch_forward<ClusterExchange>(call, execution);
}
template <class S>
void backward_in_clusters(const Backward<S>& call, const Execution& execution) {
  launch_backward<ClusterExchange>(call, execution);
}

template void forward_in_clusters(const Forward<float>&, const Execution&);
template void forward_in_clusters(const Forward<BFloat16>&, const Execution&);
template void backward_in_clusters(const Backward<float>&, const Execution&);
template void backward_in_clusters(const Backward<BFloat16>&, const Execution&);

int largest_cluster(const Chip& chip) {
  if (chip.capability < 90) return 1;
  Launch launch{16, 1, kMaxThreads, static_cast<size_t>(chip.shared_bytes), 16, false, nullptr};
  return resident_clusters(launch, &persistent_forward<FloatMultiplier<true>, ClusterExchange>) > 0
             ? 16
             : 8;
}

}  // namespace cuda
}  // namespace lstm_ext
