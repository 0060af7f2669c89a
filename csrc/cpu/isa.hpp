// Which instruction sets this processor and its operating system can run.
#pragma once

namespace lstm_ext {
namespace cpu {

struct CpuFeatures {
  bool avx2;         // AVX2 and FMA, with the operating system saving the 256-bit registers
  bool avx512;       // F, BW, DQ and VL, with the operating system saving the 512-bit registers
  bool avx512_vnni;  // besides, VNNI
  bool avx512_amx;   // besides both, AMX with tiles of bfloat16 and int8, granted by the system
  bool neon;         // every 64-bit ARM processor has it
};

// Read once; the same in every thread.
const CpuFeatures& cpu_features();

}  // namespace cpu
}  // namespace lstm_ext
