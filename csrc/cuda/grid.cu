#include "cuda/persistent_launch.hpp"

namespace lstm_ext {
namespace cuda {

template <class S>
void forward_in_grid(const Forward<S>& call, const Execution& execution) {
  launch_forward<GridExchange>(call, execution);
}
template <class S>
void backward_in_grid(const Backward<S>& call, const Execution& execution) {
  launch_backward<GridExchange>(call, execution);
}

template void forward_in_grid(const Forward<float>&, const Execution&);
template void forward_in_grid(const Forward<BFloat16>&, const Execution&);
template void backward_in_grid(const Backward<float>&, const Execution&);
template void backward_in_grid(const Backward<BFloat16>&, const Execution&);

}  // namespace cuda
}  // namespace lstm_ext
