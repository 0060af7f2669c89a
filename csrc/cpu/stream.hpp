// One step at a time: the state of an LSTM between the steps of a batch of streams.
#pragma once

#include <cstdint>
#include <memory>

#include "cpu/buffer.hpp"
#include "cpu/encoded.hpp"
#include "cpu/packed_weights.hpp"
#include "cpu/trial.hpp"

namespace lstm_ext {
namespace cpu {

class Team;

// Everything a step needs is allocated by the constructor. A step gives the bits that lstm_forward
// gives for it within a sequence. Not for use by several threads at once.
template <class F>
class Stream {
 public:
  using T = typename Format<F>::Value;

  // The state begins at zero. The weights are shared, not copied.
  Stream(std::shared_ptr<const PackedWeights<F>> weights, int64_t batch_size);

  const PackedWeights<F>& weights() const { return *weights_; }
  int64_t batch_size() const { return batch_size_; }

  // x (B, I) with unit column stride; output (B, P) contiguous, overlapping no input. h becomes
  // output. num_threads is a limit, 0 the process's own.
  void step(const T* x, int64_t x_row_stride, T* output, int num_threads);

  // h (B, P) and c (B, H) contiguous.
  void read_state(T* h, T* c) const;
  void write_state(const T* h, const T* c);
  void reset(int64_t row);

 private:
  struct Area {  // (B, stride)
    T* data;
    int64_t stride;
    T* row(int64_t index) const { return data + index * stride; }
  };
  const Area& h() const { return h_[current_]; }
  const Area& next_h() const { return h_[1 - current_]; }
  Rows<F> rows(const T* x, int64_t row_stride, EncodedRows<F>& encoded) const;
  void run_cells(const StepArgs<F>& args, int num_threads);
  void run_blocks(const StepArgs<F>& args, Team& team) const;
  void run_norm_cells(const StepArgs<F>& args) const;
  void finish(T* output) const;

  std::shared_ptr<const PackedWeights<F>> weights_;
  int64_t batch_size_;
  bool projects_, finishes_h_;  // as ForwardPlan's
  int64_t current_ = 0;         // which of the two h is h_{t-1}
  Buffer<T> memory_;
  Area h_[2], c_;
  Area made_;  // what the cells make: next_h(), but with a projection
  T* totals_;  // a row for each row of the batch and block: threads work on different blocks
  T* norm_;    // with layer normalisation: both products, and a row's scratch
  EncodedRows<F> encoded_x_, encoded_h_;
  Trial trial_;  // of a team for a step, if it is worth one
  Buffer<unsigned char> encoded_memory_;
};

extern template class Stream<float>;
extern template class Stream<double>;
extern template class Stream<Bfloat16>;
extern template class Stream<Int8>;

}  // namespace cpu
}  // namespace lstm_ext
