// int8 weights by AVX512_VNNI: one instruction for four products a lane.
#define LSTM_EXT_TILE_ROWS 6
#include <immintrin.h>
#include "cpu/kernels/kernel_file.hpp"

namespace lstm_ext {
namespace cpu {
namespace avx512_vnni {
namespace {
#include "cpu/kernels/vec_avx512.hpp"

#include "cpu/kernels/flush_x86.hpp"

#include "cpu/kernels/math.hpp"

#include "cpu/kernels/tile_impl.hpp"

#include "cpu/kernels/gemm_impl.hpp"

#include "cpu/kernels/cell_impl.hpp"

#include "cpu/kernels/step_impl.hpp"

#include "cpu/kernels/small_weights.hpp"

#include "cpu/kernels/dot_vnni.hpp"
}  // namespace

extern const KernelTable<Int8> kernels;
const KernelTable<Int8> kernels = make_int8_table<DotInt8>();
}  // namespace avx512_vnni
}  // namespace cpu
}  // namespace lstm_ext
