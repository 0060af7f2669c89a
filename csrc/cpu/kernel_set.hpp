// What a kernel file offers: one table of function pointers an instruction set and element type,
// and the argument structs that cross from the drivers to the kernels. Plain structs of raw
// pointers only: this header is seen by files built for different processors.
//
// Packed panels. A matrix (K, N) that stands on the right of a product is cut into panels of
// `width` columns, each stored row after row: panels[(j / width) * K * width + k * width + j %
// width], zero where j >= N. A gate-interleaved panel holds the four gates of `lanes` units side by
// side: its columns are [gate][lane], its width 4 * lanes.
//
// Order of additions. Every product over k is cut into blocks of kDepthBlock. A block is summed
// in the order of k from zero, and the blocks are added to the output in their order. The value
// of an output therefore depends neither on the tile that it is computed in, nor on threads, nor
// on the vector length.
#pragma once

#include <cstdint>

namespace lstm_ext {
namespace cpu {

constexpr int64_t kDepthBlock = 128;
constexpr int kPanelVectors = 4;  // a panel is at most this many vectors wide

// c (m, n) = [bias (n) | 0 | c] + a (m, k) · b (k, n)
template <class T>
struct GemmArgs {
  int64_t m, n, k;
  const T* a;
  int64_t a_row_stride, a_column_stride;
  const T* panels;      // b, packed
  int64_t panel_width;  // a multiple of the lanes, at most kPanelVectors of them
  const T* bias;        // (n) or null
  T* c;                 // overlaps neither a nor b
  int64_t c_row_stride;
  bool accumulate;  // start from c; bias is then null
};

// One operand of a step's product: a (rows, k) times gate-interleaved panels.
template <class T>
struct StepOperand {
  const T* a;  // unit column stride
  int64_t a_row_stride;
  int64_t k;
  const T* panels;
};

// One time step for some rows and some blocks of `lanes` units: z, gates, c and h.
// h, c and z are padded to whole blocks, so they are read and written in full vectors; padded
// lanes hold zeros. output, gates and cells are written up to hidden_size only.
template <class T>
struct StepArgs {
  int64_t rows, hidden_size;
  int64_t block_begin, block_end;
  int num_operands;
  StepOperand<T> operands[2];  // added in this order
  const T* z;                  // (rows, blocks * 4 * lanes), or null: start from bias
  int64_t z_row_stride;
  const T* bias;  // (blocks * 4 * lanes)
  T* totals;      // scratch (rows * 4 * lanes)
  T* c;           // (rows, blocks * lanes): c_{t-1} in, c_t out
  T* h;           // (rows, blocks * lanes): h_t out; not an operand's a
  int64_t state_row_stride;
  T* output;  // (rows, H) or null
  int64_t output_row_stride;
  T* gates;  // (rows, 4H) contiguous, or null
  T* cells;  // (rows, H) contiguous, or null
};

// The elementwise part of a backward step, for some rows and the units [unit_begin, unit_end).
template <class T>
struct CellBackwardArgs {
  int64_t rows, hidden_size;
  int64_t unit_begin, unit_end;
  const T* gates;     // (rows, 4H) contiguous
  const T* cells;     // (rows, H) contiguous: c_t
  const T* c_prev;    // (rows, H) contiguous: c_{t-1}; null means zeros
  const T* d_output;  // (rows, H) or null
  int64_t d_output_row_stride;
  const T* d_h;  // (rows, H): what reaches h_t from step t+1 and from outside
  T* d_c;        // (rows, H): the same for c_t in, for c_{t-1} out
  int64_t d_state_row_stride;
  T* d_gates;  // (rows, 4H) contiguous; may be gates
};

template <class T>
struct AdamArgs {
  int64_t size;
  T* param;
  const T* grad;
  T* m;
  T* v;
  T step_size;
  T new_m, new_v;  // 1 - beta_1 and 1 - beta_2: the share that the new gradient has
  T epsilon;
  T keep;  // 1 - learning rate * weight decay
};

template <class T>
struct KernelTable {
  int lanes;
  void (*gemm)(const GemmArgs<T>&);
  void (*step)(const StepArgs<T>&);
  void (*cell_backward)(const CellBackwardArgs<T>&);
  void (*adam)(const AdamArgs<T>&);
  void (*sigmoid)(int64_t size, const T* x, T* y);
  void (*tanh)(int64_t size, const T* x, T* y);
  // For the harness's ceilings: runs and returns the number of floating-point operations.
  int64_t (*fma_probe)(int64_t iterations, T* sink);
  void (*read_probe)(int64_t size, const T* data, T* sink);
};

struct KernelSet {
  const char* name;
  KernelTable<float> f32;
  KernelTable<double> f64;

  template <class T>
  const KernelTable<T>& table() const;
};

template <>
inline const KernelTable<float>& KernelSet::table<float>() const {
  return f32;
}
template <>
inline const KernelTable<double>& KernelSet::table<double>() const {
  return f64;
}

}  // namespace cpu
}  // namespace lstm_ext
