// Products of bfloat16 pairs by AVX512_BF16: one instruction for two fused multiply-adds a lane.
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

#include "cpu/kernels/kernels_impl.hpp"

#include "cpu/kernels/cell_impl.hpp"

#include "cpu/kernels/step_impl.hpp"

#include "cpu/kernels/small_weights.hpp"

struct DotBfloat16 : WidenedBfloat16 {
  using Activation = uint16_t;
  using Factor = __m512bh;
  using Loaded = __m512bh;
  static constexpr bool kColumnsFirst = false;
  static constexpr int kFetches = kUnrolled;

  static Factor broadcast(const Activation* a) {
    uint32_t pair;
    __builtin_memcpy(&pair, a, sizeof pair);
    return reinterpret_cast<Factor>(_mm512_set1_epi32(static_cast<int>(pair)));
  }
  static Loaded load(const Weight* panel) {
    return reinterpret_cast<Loaded>(_mm512_loadu_si512(panel));
  }
  static Sum multiply_add(Factor a, Loaded b, Sum sum) { return {_mm512_dpbf16_ps(sum.v, a, b)}; }
};
}  // namespace

extern const KernelTable<Bfloat16> kernels;
const KernelTable<Bfloat16> kernels = make_bfloat16_table<DotBfloat16>();
}  // namespace avx512_bf16
}  // namespace cpu
}  // namespace lstm_ext
