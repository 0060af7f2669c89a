// Which instruction sets this processor and its operating system can run.
#pragma once

namespace lstm_ext {
namespace cpu {

struct CpuFeatures {
  bool avx2;         // AVX2 and FMA, with the operating system saving the 256-bit registers
  bool avx512;       // F, BW, DQ and VL, with the operating system saving the 512-bit registers
  bool avx512_vnni;  // besides, VNNI
  bool avx512_bf16;  // besides both, BF16
  bool avx512_amx;   // besides both, AMX with tiles of bfloat16 and int8, which must be acquired
  bool neon;         // every 64-bit ARM processor has it
};

// Read once; the same in every thread.
const CpuFeatures& cpu_features();

// Asks the operating system for AMX's tiles, once for the process; returns whether it has them.
// From then on Linux refuses stacks for signals (sigaltstack) that are too small for their 8 KiB of
// state, so nobody should ask who does not need them.
bool acquire_tiles();

}  // namespace cpu
}  // namespace lstm_ext
