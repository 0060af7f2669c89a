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
  const auto kernel = &persistent_forward<FloatMultiplier<true>, ClusterExchange>;
  if (chip.capability < 90 || compiled_for(kernel) < 90) return 1;
  const auto shared_bytes = static_cast<size_t>(chip.shared_bytes);
  for (const int blocks : {16, 8, 4, 2}) {
    const Launch launch{blocks, 1, kMaxThreads, shared_bytes, blocks, false, nullptr};
    if (resident_clusters(launch, kernel) > 0) return blocks;
  }
  return 1;
}

}  // namespace cuda
}  // namespace lstm_ext
