#include <type_traits>

#include "cuda/steps_backward.hpp"
#include "cuda/steps_forward.hpp"

namespace lstm_ext {
namespace cuda {
namespace {

// Up to this many rows, the wide kernels would mostly multiply zeros.
constexpr int64_t kNarrowBatch = 16;

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

}  // namespace

template <class S>
void forward_in_steps(const Forward<S>& call, const Execution& execution) {
  constexpr size_t kValue = sizeof(Computing<S>);
  const int64_t units = call.hidden_size, rows = call.batch_size;
  constexpr int kOutputs = kNarrowRows * kNumGates * kStepUnits;
  const Launch narrow = blocks_of(units, kStepUnits, rows, kNarrowRows, kNarrowThreads,
                                  (kNarrowSlices + 1) * kOutputs * kValue, execution.stream);
  const Launch wide =
      blocks_of(units, kStepUnits, rows, kWideRows, kWideThreads,
                kWideDepth * (kWideRows + kNumGates * kStepUnits) * kValue, execution.stream);
  const Launch matrix =
      blocks_of(units, kStepUnits, rows, kWideRows, kMatrixThreads,
                2 * kMatrixStride * (kWideRows + kNumGates * kStepUnits), execution.stream);
  for (int64_t step = 0; step < call.seq_len; ++step) {
    if (rows <= kNarrowBatch) {
      launch(narrow, &step_forward_narrow<S>, call, step);
    } else if constexpr (std::is_same_v<S, BFloat16>) {
      launch(matrix, &step_forward_matrix, call, step);
    } else {
      launch(wide, &step_forward_wide<S>, call, step);
    }
  }
}

template <class S>
void backward_in_steps(const Backward<S>& call, const Execution& execution) {
  constexpr size_t kValue = sizeof(Computing<S>);
  const int64_t units = call.hidden_size, rows = call.batch_size;
  const Launch narrow =
      blocks_of(units, kStepUnits, rows, kNarrowRows, kNarrowThreads,
                kNarrowSlices * kNarrowRows * kStepUnits * kValue, execution.stream);
  const Launch wide =
      blocks_of(units, kBackUnits, rows, kWideRows, kWideThreads,
                kWideDepth * (kWideRows + 4 + kBackUnits + 1) * kValue, execution.stream);
  const Launch matrix = blocks_of(units, kBackUnits, rows, kWideRows, kMatrixThreads,
                                  2 * kMatrixStride * (kWideRows + kBackUnits), execution.stream);
  for (int64_t step = call.seq_len - 1; step >= -1; --step) {
    if (rows <= kNarrowBatch) {
      launch(narrow, &step_backward_narrow<S>, call, step);
    } else if constexpr (std::is_same_v<S, BFloat16>) {
      launch(matrix, &step_backward_matrix, call, step);
    } else {
      launch(wide, &step_backward_wide<S>, call, step);
    }
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
