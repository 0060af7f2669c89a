// A launch a step, for every other cell.
#include "cuda/peepholes.hpp"
#include "cuda/steps_launch.hpp"

namespace lstm_ext {
namespace cuda {

template void forward_in_steps(const VariantForward<float>&, const Execution&);
template void forward_in_steps(const VariantForward<double>&, const Execution&);
template void backward_in_steps(const VariantBackward<float>&, const Execution&);
template void backward_in_steps(const VariantBackward<double>&, const Execution&);
template void sum_peepholes(const VariantBackward<float>&, const Execution&);
template void sum_peepholes(const VariantBackward<double>&, const Execution&);

}  // namespace cuda
}  // namespace lstm_ext
