// Kernels for AVX2 and FMA: 12 sums, 3 broadcasts and a panel vector fill the 16 registers. A tile
// of 2 or 1 rows has 8 or 4 sums, and would wait for them; so one of 4 or 5 by halves takes those
// rows.
#define LSTM_EXT_TILE_ROWS 3
#define LSTM_EXT_MOST_ROWS 5
#include <immintrin.h>
#include "cpu/kernels/kernel_file.hpp"

namespace lstm_ext {
namespace cpu {
namespace avx2 {
namespace {
#include "cpu/kernels/vec_avx2.hpp"

#include "cpu/kernels/flush_x86.hpp"

#include "cpu/kernels/math.hpp"

#include "cpu/kernels/tile_impl.hpp"

#include "cpu/kernels/gemm_impl.hpp"

#include "cpu/kernels/cell_impl.hpp"

#include "cpu/kernels/step_impl.hpp"

#include "cpu/kernels/arrays_impl.hpp"

#include "cpu/kernels/small_weights.hpp"
}  // namespace

extern const KernelSet kernels;
const KernelSet kernels = {"avx2", make_table<F32>(), make_table<F64>(),
                           make_bfloat16_table<WidenedBfloat16>(), make_int8_table<WidenedInt8>()};
}  // namespace avx2
}  // namespace cpu
}  // namespace lstm_ext
