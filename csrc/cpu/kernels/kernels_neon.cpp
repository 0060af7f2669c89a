// Kernels for NEON: 20 sums, a panel of 4 vectors and 5 broadcasts, which compilers load together,
// are 29 of the 32 registers.
#define LSTM_EXT_TILE_ROWS 5
#include <arm_neon.h>
#include "cpu/kernels/kernel_file.hpp"

namespace lstm_ext {
namespace cpu {
namespace neon {
namespace {
#include "cpu/kernels/vec_neon.hpp"

#include "cpu/kernels/flush_arm.hpp"

#include "cpu/kernels/math.hpp"

#include "cpu/kernels/tile_impl.hpp"

#include "cpu/kernels/gemm_impl.hpp"

#include "cpu/kernels/cell_impl.hpp"

#include "cpu/kernels/step_impl.hpp"

#include "cpu/kernels/arrays_impl.hpp"

#include "cpu/kernels/small_weights.hpp"

// Pairs of factors take two registers each: 16 sums, 8 factors, 2 weights and a mask.
struct PairedBfloat16 : WidenedBfloat16 {
  static constexpr int kTileRows = 4;
  static constexpr int kMostRows = 4;
};
struct PairedInt8 : WidenedInt8 {
  static constexpr int kTileRows = 4;
  static constexpr int kMostRows = 4;
};
}  // namespace

extern const KernelSet kernels;
const KernelSet kernels = {"neon", make_table<F32>(), make_table<F64>(),
                           make_bfloat16_table<PairedBfloat16>(), make_int8_table<PairedInt8>()};
}  // namespace neon
}  // namespace cpu
}  // namespace lstm_ext
