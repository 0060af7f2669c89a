// Kernels for AVX-512: 24 sums, 4 panel vectors and a broadcast of the 32 registers.
#define LSTM_EXT_TILE_ROWS 6
#include <immintrin.h>
#include "cpu/kernels/kernel_file.hpp"

namespace lstm_ext {
namespace cpu {
namespace avx512 {
namespace {
#include "cpu/kernels/vec_avx512.hpp"

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
const KernelSet kernels = {"avx512", make_table<F32>(), make_table<F64>(),
                           make_bfloat16_table<WidenedBfloat16>(), make_int8_table<WidenedInt8>()};
}  // namespace avx512
}  // namespace cpu
}  // namespace lstm_ext
