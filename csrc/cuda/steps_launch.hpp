// Which kernel computes a step of a call, and its launches.
#pragma once

#include <type_traits>

#include "cuda/steps_backward.hpp"
#include "cuda/steps_forward.hpp"

namespace lstm_ext {
namespace cuda {

// Up to so many rows the narrow kernels, which read the weights once for four rows, were faster on
// an H100 than those with tiles; in float32 and float64, and in bfloat16. The wide ones have half
// as many rows up to kHalfBatch.
constexpr int64_t kNarrowForward = 16, kNarrowBackward = 8, kHalfBatch = 32;
constexpr int64_t kNarrowForwardBFloat16 = 32, kNarrowBackwardBFloat16 = 64;

inline Launch blocks_of(int64_t units, int64_t unit_tile, int64_t rows, int64_t row_tile,
                        int threads, size_t shared_bytes, Stream stream) {
  return {static_cast<int>((units + unit_tile - 1) / unit_tile),
          static_cast<int>((rows + row_tile - 1) / row_tile),
          threads,
          shared_bytes,
          1,
          false,
          stream};
}

// The kernel of a step and its launch.
template <class Call>
struct Step {
  Launch where;
  void (*kernel)(Call, int64_t);
};

template <class Call, int kRows>
Step<Call> wide_forward(const Call& call, Stream stream) {
  constexpr int kTile = kWideDepth * (kRows + 4 + kNumGates * kStepUnits);
  return {blocks_of(call.hidden_size, kStepUnits, call.batch_size, kRows, 4 * kRows,
                    kTile * sizeof(typename Call::A), stream),
          &step_forward_wide<Call, kRows>};
}

template <class Call>
Step<Call> forward_step(const Call& call, Stream stream) {
  using A = typename Call::A;
  constexpr bool kSmall = std::is_same_v<typename Call::Stored, BFloat16>;
  const int64_t units = call.hidden_size, rows = call.batch_size;
  if (rows <= (kSmall ? kNarrowForwardBFloat16 : kNarrowForward)) {
    constexpr int kOutputs = kNarrowRows * kNumGates * kStepUnits;
    return {blocks_of(units, kStepUnits, rows, kNarrowRows, kNarrowThreads,
                      (kNarrowSlices + 1) * kOutputs * sizeof(A), stream),
            &step_forward_narrow<Call>};
  }
  if constexpr (kSmall) {
    return {blocks_of(units, kStepUnits, rows, kMatrixRows, kMatrixThreads,
                      2 * kMatrixStride * (kMatrixRows + kNumGates * kStepUnits), stream),
            &step_forward_matrix<Call>};
  } else {
    if (rows <= kHalfBatch) return wide_forward<Call, kWideRows / 2>(call, stream);
    return wide_forward<Call, kWideRows>(call, stream);
  }
}

template <class Call>
Step<Call> backward_step(const Call& call, Stream stream) {
  using A = typename Call::A;
  constexpr bool kSmall = std::is_same_v<typename Call::Stored, BFloat16>;
  const int64_t units = call.hidden_size, rows = call.batch_size;
  if (rows <= (kSmall ? kNarrowBackwardBFloat16 : kNarrowBackward)) {
    return {blocks_of(units, kStepUnits, rows, kNarrowRows, kNarrowThreads,
                      kNarrowSlices * kNarrowRows * kStepUnits * sizeof(A), stream),
            &step_backward_narrow<Call>};
  }
  if constexpr (kSmall) {
    return {blocks_of(units, kBackUnits, rows, kMatrixRows, kMatrixThreads,
                      2 * kMatrixStride * (kMatrixRows + kBackUnits), stream),
            &step_backward_matrix<Call>};
  } else {
    using Tile = BackTile<Call>;
    return {
        blocks_of(units, kStepUnits, rows, Tile::kRows, Tile::kThreads, Tile::kSharedBytes, stream),
        &step_backward_wide<Call>};
  }
}

template <class Call>
void forward_in_steps(const Call& call, const Execution& execution) {
  const Step<Call> kernel = forward_step(call, execution.stream);
  for (int64_t step = 0; step < call.seq_len; ++step) {
    launch(kernel.where, kernel.kernel, call, step);
  }
}

template <class Call>
void backward_in_steps(const Call& call, const Execution& execution) {
  const Step<Call> kernel = backward_step(call, execution.stream);
  for (int64_t step = call.seq_len - 1; step >= -1; --step) {
    launch(kernel.where, kernel.kernel, call, step);
  }
}

}  // namespace cuda
}  // namespace lstm_ext
