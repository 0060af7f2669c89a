// What a kernel file offers: one table of function pointers an instruction set and element type,
// and the argument structs that cross from the drivers to the kernels. Plain structs of raw
// pointers only: this header is seen by files built for different processors.
//
// Packed panels. A matrix (K, N) that stands on the right of a product is cut into panels of
// `width` columns, each stored row after row: panels[(j / width) * K * width + k * width + j %
// width], zero where j >= N. A gate-interleaved panel holds the four gates of `lanes` units side by
// side: its columns are [gate][lane], its width 4 * lanes.
//
// Order of additions. Every product over k is cut into blocks of the format's kDepthBlock. A block
// is summed in the order of k from zero, and the blocks are added to the output in their order. The
// value of an output therefore depends neither on the tile that it is computed in, nor on threads,
// nor on the vector length.
//
// Formats. A format F says how weights are stored: as float or double, which is what activations,
// state and sums have then too; or smaller, as Bfloat16 or Int8 beside float32 activations. For the
// small formats an instruction set multiplies several k at once (a group) and wants activations in
// a form of its own: `encode` makes that, and panels hold the values of a group side by side,
// [k / group][column][k % group], where k counts in the order of `places`.
//
//   Bfloat16  weights and activations rounded to nearest even, NaN kept, numbers below 2^-126 taken
//             for zero. Products are exact, sums are float32 and flush what is below 2^-126. A
//             block is cut into spans of 32 k: those of even and those of odd k are summed apart,
//             in their order from zero, and the sum of both is added to the block's. All of this is
//             what a bfloat16 product of AMX tiles does.
//   Int8      weights are scale * q, |q| <= 127, with a scale for each column (unit and gate).
//             Activations are scale * (q + z), -128 <= q <= 127, with a scale and a whole z for
//             each row and operand, such that they reach from the least of the row, or 0, to its
//             greatest, or 0, and 0 is among them. Sums of products of q are exact integers; what z
//             adds to them is added in float32. A row or column with a NaN or infinity has the
//             scale NaN, so everything that comes of it is NaN.
#pragma once

#include <cstdint>

#include "lstm.hpp"

namespace lstm_ext {
namespace cpu {

constexpr int kPanelVectors = 4;  // a panel is at most this many vectors wide

struct Bfloat16 {};
struct Int8 {};

// Value: of inputs, state, bias and outputs. Activation: of `a` as kernels read it, counted by its
// strides. Weight: of panels.
template <class F>
struct Format {
  using Value = F;
  using Activation = F;
  using Weight = F;
  static constexpr int64_t kDepthBlock = 128;
  static constexpr bool kEncodes = false;
};
template <>
struct Format<Bfloat16> {
  using Value = float;
  using Activation = unsigned char;  // encoded: the instruction set knows what it stands for
  using Weight = uint16_t;
  static constexpr int64_t kDepthBlock = 4096;
  static constexpr bool kEncodes = true;
};
template <>
struct Format<Int8> {
  using Value = float;
  using Activation = unsigned char;
  using Weight = int8_t;
  static constexpr int64_t kDepthBlock = 32768;  // 255 * 127 * this is within 32 bits
  static constexpr bool kEncodes = true;
};

// Of the weights: for each column its scale, and for each block of k and column the sum of its
// weights (float32, scaled), and what the integer sum of its products starts from, since some
// instruction sets add an offset to the activations.
struct Int8Columns {
  const float* scales;   // (columns)
  const float* sums;     // (blocks of k, columns)
  const int32_t* start;  // as sums
  int64_t columns;
};

// Of a row of activations.
struct Int8Row {
  float scale, zero;  // zero: scale * z
};

// What a product needs besides values: nothing but for Int8.
template <class F>
struct Scales {};
template <>
struct Scales<Int8> {
  const Int8Row* rows;  // of a
  Int8Columns columns;
};

// c (m, n) = [bias (n) | 0 | c] + a (m, k) · b (k, n)
template <class F>
struct GemmArgs {
  using T = typename Format<F>::Value;
  int64_t m, n, k;
  const typename Format<F>::Activation* a;
  int64_t a_row_stride, a_column_stride;     // encoded: the column stride is that of a group
  const typename Format<F>::Weight* panels;  // b, packed
  int64_t panel_width;  // a multiple of the lanes, at most kPanelVectors of them; encoded: these,
                        // and n a multiple of it
  const T* bias;        // (n) or null
  T* c;                 // overlaps neither a nor b
  int64_t c_row_stride;
  bool accumulate;  // start from c; bias is then null
  Scales<F> scales{};
  bool descending = false;  // visit the panels from the last to the first; changes no result
  float* wide = nullptr;    // scratch of wide_size(k), or null: nothing is widened beforehand
};

// One operand of a step's product: a (rows, k) times gate-interleaved panels.
template <class F>
struct StepOperand {
  const typename Format<F>::Activation* a;  // unit column stride
  int64_t a_row_stride;
  int64_t k;
  const typename Format<F>::Weight* panels;
  Scales<F> scales{};
};

// What a cell that is not the plain one needs besides.
template <class T>
struct CellVariant {
  const CellOptions* options;
  const T* peephole;  // [block][i, f, o][lane], zero in padded lanes; null: none
  bool is_plain;      // but for the peepholes
  bool is_usual;      // the activations are sigmoid and tanh
  bool keeps_z;       // gates receive z after peepholes and clips, rather than what is made of it
};

// The cells of a step: what becomes of z. h and c are padded to whole blocks, so they are read and
// written in full vectors; padded lanes of c hold zeros. output, gates and cells are written up to
// hidden_size only.
template <class T>
struct CellArgs {
  int64_t hidden_size;
  T* c;  // (rows, blocks * lanes): c_{t-1} in, c_t out
  T* h;  // (rows, blocks * lanes): h_t out; not an operand's a
  int64_t state_row_stride;
  T* output;  // (rows, H) or null
  int64_t output_row_stride;
  T* gates;                       // (rows, 4H), rows 4H * kept_row_step apart; null: not wanted
  T* cells;                       // (rows, H), rows H * kept_row_step apart; null as gates
  int64_t kept_row_step;          // with gates
  const CellVariant<T>* variant;  // null: the plain cell
  const T* keep;  // (rows, blocks * lanes), as c: 1 where c keeps its value; or null
};

// One time step for some rows and some blocks of `lanes` units: z, gates, c and h. z is padded like
// the state.
template <class F>
struct StepArgs : CellArgs<typename Format<F>::Value> {
  using T = typename Format<F>::Value;
  int64_t rows;
  int64_t block_begin, block_end;
  int num_operands;
  StepOperand<F> operands[2];  // added in this order
  const T* z;                  // (rows, blocks * 4 * lanes), or null: start from bias
  int64_t z_row_stride;
  const T* bias;             // (blocks * 4 * lanes)
  T* totals;                 // scratch (rows, 4 * lanes), with one row (2, 4 * lanes)
  bool descending;           // visit the blocks from the last to the first; changes no result
  int64_t block_after = -1;  // one that is likely to be wanted after these, to be fetched; or -1
  float* wide = nullptr;     // as GemmArgs', for the longer operand
};

// The elementwise part of a backward step, for some rows and the units [unit_begin, unit_end).
template <class T>
struct CellBackwardArgs {
  int64_t rows, hidden_size;
  int64_t unit_begin, unit_end;
  int64_t kept_row_step;  // rows of gates, d_gates, cells and c_prev lie so many rows apart
  const T* gates;         // (rows, 4H), as the forward pass left them
  const T* cells;         // (rows, H): c_t
  const T* c_prev;        // (rows, H): c_{t-1}; null means zeros
  const uint8_t* reset;   // (rows), kept_row_step apart: whether c_{t-1} was zeroed; null: nowhere
  const T* d_output;      // (rows, H) or null
  int64_t d_output_row_stride;
  const T* d_h;  // (rows, H): what reaches h_t from step t+1 and from outside
  T* d_c;        // (rows, H): the same for c_t in, for c_{t-1} out
  int64_t d_state_row_stride;
  T* d_gates;                     // (rows, 4H); may be gates
  const CellVariant<T>* variant;  // null: the plain cell
  const T* keep;                  // (rows, H), d_state_row_stride apart: as of the forward pass
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

// Where four successive k stand in panels and in encoded rows.
struct Places {
  int8_t of[4];
};
constexpr Places kInOrder{{0, 1, 2, 3}};

// Everything for a format whose values are the weights themselves, and what a forward pass needs
// for a small one.
template <class F>
struct KernelTable;

template <class T>
struct ValueKernels {
  static constexpr int group = 1, k_multiple = 1, offset = 0, rows_at_once = 1;
  static constexpr bool widens_once = false;
  static constexpr Places places = kInOrder;
  int lanes;
  void (*gemm)(const GemmArgs<T>&);
  void (*step)(const StepArgs<T>&);
  void (*cell_backward)(const CellBackwardArgs<T>&);
  // Whether a product of x (size) with zeros is zero, and may be left out.
  bool (*all_finite)(int64_t size, const T* x);
  void (*adam)(const AdamArgs<T>&);
  void (*sigmoid)(int64_t size, const T* x, T* y);
  void (*tanh)(int64_t size, const T* x, T* y);
  // y of z, and the slopes dy/dz given both. y may be z in the first.
  void (*activate)(const ActivationOptions& options, int64_t size, const T* z, T* y);
  void (*slopes)(const ActivationOptions& options, int64_t size, const T* z, const T* y, T* slopes);
  // For the harness's ceilings: runs and returns the number of floating-point operations.
  int64_t (*fma_probe)(int64_t iterations, T* sink);
  void (*read_probe)(int64_t size, const T* data, T* sink);
};

struct SmallLayout {
  int lanes;
  int group;             // values of k that are multiplied at once
  int k_multiple;        // k is filled up with zeros to a multiple of it, in panels and in rows
  int activation_bytes;  // of an encoded value
  int offset;            // what is added to an encoded activation
  int rows_at_once;      // as many rows are multiplied in the time that float32 takes for one
  Places places;         // in order, or k_multiple is a multiple of four
  bool widens_once;  // whether products of several tiles of rows gain by scratch: GemmArgs::wide
};

// x (k) -> out, filled up with zeros to k_multiple, and what it means (null for Bfloat16).
using Encode = void (*)(int64_t k, const float* x, unsigned char* out, Int8Row* row);

template <class F>
struct SmallKernels : SmallLayout {
  void (*gemm)(const GemmArgs<F>&);
  void (*step)(const StepArgs<F>&);
  Encode encode;
};

// The floats of the scratch for products over k by such a table.
inline int64_t wide_size(const SmallLayout& layout, int64_t k) {
  const int64_t depth = k < Format<Bfloat16>::kDepthBlock ? k : Format<Bfloat16>::kDepthBlock;
  return (depth + layout.k_multiple) * kPanelVectors * layout.lanes;
}

template <>
struct KernelTable<float> : ValueKernels<float> {};
template <>
struct KernelTable<double> : ValueKernels<double> {};
template <>
struct KernelTable<Bfloat16> : SmallKernels<Bfloat16> {};
template <>
struct KernelTable<Int8> : SmallKernels<Int8> {};

struct SmallKernelTables {
  KernelTable<Bfloat16> bf16;
  KernelTable<Int8> int8;
};

struct KernelSet {
  const char* name;
  KernelTable<float> f32;
  KernelTable<double> f64;
  KernelTable<Bfloat16> bf16;
  KernelTable<Int8> int8;
  bool uses_tiles = false;  // for small weights: whoever uses them acquires the tiles first

  template <class F>
  const KernelTable<F>& table() const;
};

template <>
inline const KernelTable<float>& KernelSet::table<float>() const {
  return f32;
}
template <>
inline const KernelTable<double>& KernelSet::table<double>() const {
  return f64;
}
template <>
inline const KernelTable<Bfloat16>& KernelSet::table<Bfloat16>() const {
  return bf16;
}
template <>
inline const KernelTable<Int8>& KernelSet::table<Int8>() const {
  return int8;
}

}  // namespace cpu
}  // namespace lstm_ext
