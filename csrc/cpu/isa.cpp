#include "cpu/isa.hpp"

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#define LSTM_EXT_X86 1
#ifdef _MSC_VER
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace lstm_ext {
namespace cpu {
namespace {

#ifdef LSTM_EXT_X86

constexpr int kTileData = 18;  // its number among the states that are saved

struct Registers {
  uint32_t eax, ebx, ecx, edx;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf = 0) {
#ifdef _MSC_VER
  int r[4];
  __cpuidex(r, static_cast<int>(leaf), static_cast<int>(subleaf));
  return {static_cast<uint32_t>(r[0]), static_cast<uint32_t>(r[1]), static_cast<uint32_t>(r[2]),
          static_cast<uint32_t>(r[3])};
#else
  Registers r{0, 0, 0, 0};
  __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
  return r;
#endif
}

// Extended control register 0: which register states the operating system saves.
uint64_t saved_states() {
#ifdef _MSC_VER
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
#endif
}

bool bit(uint32_t word, int index) { return (word >> index) & 1u; }

// Whether Linux would grant the tiles to a process that asks.
bool grants_tiles() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long kSupported = 0x1021;
  uint64_t states = 0;
  return syscall(SYS_arch_prctl, kSupported, &states) == 0 && (states >> kTileData & 1) != 0;
#else
  return false;
#endif
}

CpuFeatures detect() {
  CpuFeatures features{};
  if (cpuid(0).eax < 7) return features;
  const Registers leaf1 = cpuid(1);
  const Registers leaf7 = cpuid(7);
  if (!bit(leaf1.ecx, 27)) return features;  // no OSXSAVE: xgetbv would fault
  const uint64_t states = saved_states();
  const bool saves_256 = (states & 0x6) == 0x6;    // SSE and AVX
  const bool saves_512 = (states & 0xe6) == 0xe6;  // and the masks, and both halves of the ZMMs
  features.avx2 = saves_256 && bit(leaf1.ecx, 12) && bit(leaf1.ecx, 28) && bit(leaf7.ebx, 5);
  features.avx512 = features.avx2 && saves_512 && bit(leaf7.ebx, 16) && bit(leaf7.ebx, 17) &&
                    bit(leaf7.ebx, 30) && bit(leaf7.ebx, 31);
  features.avx512_vnni = features.avx512 && bit(leaf7.ecx, 11);
  features.avx512_bf16 = features.avx512_vnni && leaf7.eax >= 1 && bit(cpuid(7, 1).eax, 5);
  const bool saves_tiles = (states & 0x60000) == 0x60000;
  features.avx512_amx = features.avx512_vnni && saves_tiles && bit(leaf7.edx, 22) &&
                        bit(leaf7.edx, 24) && bit(leaf7.edx, 25) && grants_tiles();
  return features;
}

#else

CpuFeatures detect() {
  CpuFeatures features{};
#if defined(__aarch64__) || defined(_M_ARM64)
  features.neon = true;
#endif
  return features;
}

#endif

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

bool acquire_tiles() {
#if defined(LSTM_EXT_X86) && defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long kRequest = 0x1023;
  static const bool granted =
      cpu_features().avx512_amx && syscall(SYS_arch_prctl, kRequest, long{kTileData}) == 0;
  return granted;
#else
  return false;
#endif
}

}  // namespace cpu
}  // namespace lstm_ext
