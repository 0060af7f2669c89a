// The machine's ceilings, measured on the calling core with the best kernel set.
#pragma once

#include <cstdint>

namespace lstm_ext {
namespace cpu {

// Floating-point operations a second of float32 fused multiply-adds, the best of several rounds
// that take `seconds` together.
double measure_fma_rate(double seconds);

// Bytes a second of reading an array of `bytes` bytes again and again, likewise.
double measure_read_bandwidth(int64_t bytes, double seconds);

}  // namespace cpu
}  // namespace lstm_ext
