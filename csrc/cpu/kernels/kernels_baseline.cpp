// Kernels for what the compiler targets by default: SSE2 on x86-64.
#define LSTM_EXT_TILE_ROWS 3
#include "cpu/kernels/kernel_file.hpp"
#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define LSTM_EXT_SSE2 1
#define LSTM_EXT_VECTORS "cpu/kernels/vec_sse2.hpp"
#else
#define LSTM_EXT_VECTORS "cpu/kernels/vec_portable.hpp"
#endif

namespace lstm_ext {
namespace cpu {
namespace baseline {
namespace {
#include LSTM_EXT_VECTORS

#ifdef LSTM_EXT_SSE2
#include "cpu/kernels/flush_x86.hpp"
#endif

#include "cpu/kernels/math.hpp"

#include "cpu/kernels/tile_impl.hpp"

#include "cpu/kernels/gemm_impl.hpp"

#include "cpu/kernels/cell_impl.hpp"

#include "cpu/kernels/step_impl.hpp"

#include "cpu/kernels/arrays_impl.hpp"

#include "cpu/kernels/small_weights.hpp"
}  // namespace

extern const KernelSet kernels;
const KernelSet kernels = {"baseline", make_table<F32>(), make_table<F64>(),
                           make_bfloat16_table<WidenedBfloat16>(), make_int8_table<WidenedInt8>()};
}  // namespace baseline
}  // namespace cpu
}  // namespace lstm_ext
