// What a forward pass's step multiplies, as the kernels of a format read it. Included by
// forward_worker.hpp.
#pragma once

#include <algorithm>

#include "cpu/forward_plan.hpp"
#include "cpu/threads.hpp"

namespace lstm_ext {
namespace cpu {

// The rows of one worker.
template <class F>
class ForwardInputs {
  using T = typename Format<F>::Value;

 public:
  // ready: how many steps of x are there; null: all.
  ForwardInputs(const ForwardPlan<F>& plan, const GroupRows& rows, const Progress* ready,
                const WorkerMemory<F>& memory)
      : plan_(plan),
        call_(plan.call),
        schedule_(plan.schedule),
        rows_(rows),
        input_(ready),
        memory_(memory) {}

  // Own rows of x at the steps [s, s + steps), one step's after the other's.
  Rows<F> x(int64_t s, int64_t steps) {
    if (input_) input_->wait_for(s + steps);
    const int64_t size = call_.shape.input_size;
    if (!plan_.packs_x) {
      const T* const first = call_.x.at(rows_.first, input_time(s));
      const int64_t time_stride = call_.go_backwards ? -call_.x.time_stride : call_.x.time_stride;
      if constexpr (!Format<F>::kEncodes) {
        return {first, rows_.count > 1 ? call_.x.batch_stride : time_stride, 1, nullptr};
      }
    }
    int64_t packed = 0;
    for (int64_t i = s; i < s + steps; ++i) {
      for (int64_t r = 0; r < active_rows(i); ++r, ++packed) {
        const int64_t slot = schedule_.slot(i, rows_.position(r));
        const T* in = call_.x.at(row(r), input_time(slot));
        if constexpr (Format<F>::kEncodes) {
          if (call_.x.feature_stride != 1) in = gather(in, memory_.x);
          memory_.encoded_x.encode(packed, in);
        } else {
          gather(in, memory_.x + packed * size);
        }
      }
    }
    if constexpr (Format<F>::kEncodes) {
      return memory_.encoded_x.rows(0);
    } else {
      return {memory_.x, size, 1, nullptr};
    }
  }

  Rows<F> h(const T* h, int64_t rows) {
    if constexpr (Format<F>::kEncodes) {
      for (int64_t i = 0; i < rows; ++i) memory_.encoded_h.encode(i, h + i * plan_.h_stride);
      return memory_.encoded_h.rows(0);
    } else {
      return {h, plan_.h_stride, 1, nullptr};
    }
  }

 private:
  int64_t row(int64_t index) const { return schedule_.row(rows_.position(index)); }
  int64_t active_rows(int64_t s) const { return rows_.active(schedule_.active(s)); }
  int64_t input_time(int64_t slot) const {
    return call_.go_backwards ? call_.shape.seq_len - 1 - slot : slot;
  }

  const T* gather(const T* in, T* out) const {
    const int64_t size = call_.shape.input_size, stride = call_.x.feature_stride;
    if (stride == 1) {
      std::copy(in, in + size, out);
    } else {
      for (int64_t j = 0; j < size; ++j) out[j] = in[j * stride];
    }
    return out;
  }

  const ForwardPlan<F>& plan_;
  const LstmForward<T>& call_;
  const Schedule& schedule_;
  const GroupRows rows_;
  const Progress* const input_;
  WorkerMemory<F> memory_;
};

}  // namespace cpu
}  // namespace lstm_ext
