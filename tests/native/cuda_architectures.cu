// One persistent kernel of each kind: together they use every function of cuda/device.hpp.
#include "cuda/persistent_backward.hpp"
#include "cuda/persistent_forward.hpp"

namespace lstm_ext {
namespace cuda {

template __global__ void persistent_forward<BFloat16Multiplier<false>, ClusterExchange>(
    Forward<BFloat16>, Share);
template __global__ void persistent_backward<FloatMultiplier<false>, GridExchange>(Backward<float>,
                                                                                   Share);

}  // namespace cuda
}  // namespace lstm_ext
