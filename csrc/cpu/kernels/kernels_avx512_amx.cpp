// Small weights by AMX, whose registers are tiles of 16 rows of 64 bytes: one instruction
// multiplies 16 rows of activations with 32 (bfloat16) or 64 (int8) k of 16 units.
#define LSTM_EXT_TILE_ROWS 6
#include <immintrin.h>
#include "cpu/kernels/kernel_file.hpp"

namespace lstm_ext {
namespace cpu {
namespace avx512_amx {
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

#include "cpu/kernels/tiles_amx.hpp"
}  // namespace

extern const SmallKernelTables kernels;
const SmallKernelTables kernels = {make_bfloat16_table<TiledBfloat16>(),
                                   make_int8_table<TiledInt8>()};
}  // namespace avx512_amx
}  // namespace cpu
}  // namespace lstm_ext
