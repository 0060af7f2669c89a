// Functions that kernels call one lane at a time. Compiled for any processor, so that all
// instruction sets get the same bits.
#pragma once

namespace lstm_ext {
namespace cpu {

double scalar_softplus(double z);    // log(1 + e^z)
double scalar_gelu(double z);        // z times the normal distribution function of z
double scalar_gelu_slope(double z);  // its derivative

}  // namespace cpu
}  // namespace lstm_ext
