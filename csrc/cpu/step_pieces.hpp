// One time step cut into pieces of its blocks of units, which threads take as they come.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/kernel_set.hpp"
#include "cpu/packed_weights.hpp"
#include "cpu/partition.hpp"

namespace lstm_ext {
namespace cpu {

// A row alone multiplies two blocks at a time.
inline int64_t blocks_in_a_piece(int64_t rows) { return rows == 1 ? 2 : 1; }

// Computes a piece of `size` blocks. step is a thread's own copy, with scratch of its own.
template <class F>
void run_piece(const PackedWeights<F>& w, int64_t size, int64_t piece, StepArgs<F>& step) {
  step.block_begin = piece * size;
  step.block_end = std::min(step.block_begin + size, w.num_blocks());
  step.block_after =
      step.descending ? step.block_begin - 1 : std::min(step.block_end, w.num_blocks() - 1);
  w.kernels().step(step);
}

}  // namespace cpu
}  // namespace lstm_ext
