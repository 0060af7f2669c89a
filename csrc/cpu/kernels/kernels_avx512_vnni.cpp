// Products of four bytes by AVX512_VNNI, which wants one factor without a sign: activations carry
// an offset of 128, and sums start from what that adds, negated.
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

#include "cpu/kernels/kernels_impl.hpp"

#include "cpu/kernels/cell_impl.hpp"

#include "cpu/kernels/step_impl.hpp"

#include "cpu/kernels/small_weights.hpp"

struct DotInt8 : Int8Sums {
  using Activation = uint8_t;
  using Factor = I32;
  using Loaded = I32;
  static constexpr int kGroup = 4;
  static constexpr bool kColumnsFirst = false;
  static constexpr int kFetches = kUnrolled;
  static constexpr int kOffset = 128;

  static Factor broadcast(const Activation* a) {
    int32_t four;
    __builtin_memcpy(&four, a, sizeof four);
    return {(Int32Lanes)_mm512_set1_epi32(four)};
  }
  static Loaded load(const Weight* panel) { return {(Int32Lanes)_mm512_loadu_si512(panel)}; }
  static Sum multiply_add(Factor a, Loaded b, Sum sum) {
    return {(Int32Lanes)_mm512_dpbusd_epi32((__m512i)sum.v, (__m512i)a.v, (__m512i)b.v)};
  }
};
}  // namespace

extern const KernelTable<Int8> kernels;
const KernelTable<Int8> kernels = make_int8_table<DotInt8>();
}  // namespace avx512_vnni
}  // namespace cpu
}  // namespace lstm_ext
