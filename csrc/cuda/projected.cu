// Two launches a step, for cells with a projection.
#include "cuda/steps_projected.hpp"

namespace lstm_ext {
namespace cuda {

template void forward_in_steps(const ProjectedForward<float>&, const Execution&);
template void forward_in_steps(const ProjectedForward<double>&, const Execution&);
template void backward_in_steps(const ProjectedBackward<float>&, const Execution&);
template void backward_in_steps(const ProjectedBackward<double>&, const Execution&);

}  // namespace cuda
}  // namespace lstm_ext
