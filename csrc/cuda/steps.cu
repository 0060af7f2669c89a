#include <type_traits>

#include "cuda/steps_backward.hpp"
#include "cuda/steps_forward.hpp"

namespace lstm_ext {
namespace cuda {
namespace {

// Up to this many rows the wide kernels would mostly multiply zeros, and up to that many those of
// 64 rows.
constexpr int64_t kNarrowBatch = 16, kHalfBatch = 32;

Launch blocks_of(int64_t units, int64_t unit_tile, int64_t rows, int64_t row_tile, int threads,
                 size_t shared_bytes, Stream stream) {
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

template <class S, int kRows>
Step<Forward<S>> wide_forward(const Forward<S>& call, Stream stream) {
  constexpr int kTile = kWideDepth * (kRows + kNumGates * kStepUnits);
  return {blocks_of(call.hidden_size, kStepUnits, call.batch_size, kRows, 4 * kRows,
                    kTile * sizeof(Computing<S>), stream),
          &step_forward_wide<S, kRows>};
}

template <class S>
Step<Forward<S>> forward_step(const Forward<S>& call, Stream stream) {
  const int64_t units = call.hidden_size, rows = call.batch_size;
  if (rows <= kNarrowBatch) {
    constexpr int kOutputs = kNarrowRows * kNumGates * kStepUnits;
    return {blocks_of(units, kStepUnits, rows, kNarrowRows, kNarrowThreads,
                      (kNarrowSlices + 1) * kOutputs * sizeof(Computing<S>), stream),
            &step_forward_narrow<S>};
  }
  if constexpr (std::is_same_v<S, BFloat16>) {
    return {blocks_of(units, kStepUnits, rows, kWideRows, kMatrixThreads,
                      2 * kMatrixStride * (kWideRows + kNumGates * kStepUnits), stream),
            &step_forward_matrix};
  } else {
    if (rows <= kHalfBatch) return wide_forward<S, kWideRows / 2>(call, stream);
    return wide_forward<S, kWideRows>(call, stream);
  }
}

template <class S, int kRows>
Step<Backward<S>> wide_backward(const Backward<S>& call, Stream stream) {
  constexpr int kTile = kWideDepth * (kRows + 4 + kBackUnits + 1);
  return {blocks_of(call.hidden_size, kBackUnits, call.batch_size, kRows, 4 * kRows,
                    kTile * sizeof(Computing<S>), stream),
          &step_backward_wide<S, kRows>};
}

template <class S>
Step<Backward<S>> backward_step(const Backward<S>& call, Stream stream) {
  const int64_t units = call.hidden_size, rows = call.batch_size;
  if (rows <= kNarrowBatch) {
    return {blocks_of(units, kStepUnits, rows, kNarrowRows, kNarrowThreads,
                      kNarrowSlices * kNarrowRows * kStepUnits * sizeof(Computing<S>), stream),
            &step_backward_narrow<S>};
  }
  if constexpr (std::is_same_v<S, BFloat16>) {
    return {blocks_of(units, kBackUnits, rows, kWideRows, kMatrixThreads,
                      2 * kMatrixStride * (kWideRows + kBackUnits), stream),
            &step_backward_matrix};
  } else {
    if (rows <= kHalfBatch) return wide_backward<S, kWideRows / 2>(call, stream);
    return wide_backward<S, kWideRows>(call, stream);
  }
}

}  // namespace

template <class S>
void forward_in_steps(const Forward<S>& call, const Execution& execution) {
  const Step<Forward<S>> kernel = forward_step(call, execution.stream);
  for (int64_t step = 0; step < call.seq_len; ++step) {
    launch(kernel.where, kernel.kernel, call, step);
  }
}

template <class S>
void backward_in_steps(const Backward<S>& call, const Execution& execution) {
  const Step<Backward<S>> kernel = backward_step(call, execution.stream);
  for (int64_t step = call.seq_len - 1; step >= -1; --step) {
    launch(kernel.where, kernel.kernel, call, step);
  }
}

template void forward_in_steps(const Forward<float>&, const Execution&);
template void forward_in_steps(const Forward<double>&, const Execution&);
template void forward_in_steps(const Forward<BFloat16>&, const Execution&);
template void backward_in_steps(const Backward<float>&, const Execution&);
template void backward_in_steps(const Backward<double>&, const Execution&);
template void backward_in_steps(const Backward<BFloat16>&, const Execution&);

}  // namespace cuda
}  // namespace lstm_ext
