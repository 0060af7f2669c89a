// bfloat16 weights by AVX512_BF16: one instruction for two products a lane.
#define LSTM_EXT_TILE_ROWS 6
#include <immintrin.h>
#include "cpu/kernels/kernel_file.hpp"

namespace lstm_ext {
namespace cpu {
namespace avx512_bf16 {
namespace {
#include "cpu/kernels/vec_avx512.hpp"

#include "cpu/kernels/flush_x86.hpp"

#include "cpu/kernels/math.hpp"

#include "cpu/kernels/tile_impl.hpp"

#include "cpu/kernels/gemm_impl.hpp"

#include "cpu/kernels/cell_impl.hpp"

#include "cpu/kernels/step_impl.hpp"

#include "cpu/kernels/small_weights.hpp"

#include "cpu/kernels/dot_bfloat16.hpp"
}  // namespace

extern const KernelTable<Bfloat16> kernels;
const KernelTable<Bfloat16> kernels = make_bfloat16_table<DotBfloat16>(&DotBfloat16::encode);
}  // namespace avx512_bf16
}  // namespace cpu
}  // namespace lstm_ext
