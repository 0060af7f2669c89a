// A launch a step, for the plain cell.
#include "cuda/steps_launch.hpp"

namespace lstm_ext {
namespace cuda {

template void forward_in_steps(const Forward<float>&, const Execution&);
template void forward_in_steps(const Forward<double>&, const Execution&);
template void forward_in_steps(const Forward<BFloat16>&, const Execution&);
template void backward_in_steps(const Backward<float>&, const Execution&);
template void backward_in_steps(const Backward<double>&, const Execution&);
template void backward_in_steps(const Backward<BFloat16>&, const Execution&);

}  // namespace cuda
}  // namespace lstm_ext
