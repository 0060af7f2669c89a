#include "cpu/kernel_sets.hpp"

#include <cstdlib>
#include <stdexcept>

#include "cpu/isa.hpp"

namespace lstm_ext {
namespace cpu {

#ifdef LSTM_EXT_X86_KERNELS
#ifdef LSTM_EXT_AMX_KERNELS
namespace avx512_amx {
extern const SmallKernelTables kernels;
}
#endif
namespace avx512_bf16 {
extern const KernelTable<Bfloat16> kernels;
}
namespace avx512_vnni {
extern const KernelTable<Int8> kernels;
}
namespace avx512 {
extern const KernelSet kernels;
}
namespace avx2 {
extern const KernelSet kernels;
}
#endif
#ifdef LSTM_EXT_ARM_KERNELS
namespace neon {
extern const KernelSet kernels;
}
#endif
namespace baseline {
extern const KernelSet kernels;
}

namespace {

struct Candidate {
  const KernelSet* set;
  bool runs;
};

#ifdef LSTM_EXT_X86_KERNELS

// AVX-512 with newer products for small weights: all else is the same.
const KernelSet& avx512_with_vnni() {
  static const KernelSet set = [] {
    KernelSet with = avx512::kernels;
    with.name = "avx512_vnni";
    with.int8 = avx512_vnni::kernels;
    return with;
  }();
  return set;
}

const KernelSet& avx512_with_bf16() {
  static const KernelSet set = [] {
    KernelSet with = avx512_with_vnni();
    with.name = "avx512_bf16";
    with.bf16 = avx512_bf16::kernels;
    return with;
  }();
  return set;
}

#endif

#ifdef LSTM_EXT_AMX_KERNELS

const KernelSet& avx512_with_amx() {
  static const KernelSet set = [] {
    KernelSet with = avx512::kernels;
    with.name = "avx512_amx";
    with.bf16 = avx512_amx::kernels.bf16;
    with.int8 = avx512_amx::kernels.int8;
    with.uses_tiles = true;
    return with;
  }();
  return set;
}

#endif

std::vector<Candidate> candidates() {
  return {
#ifdef LSTM_EXT_AMX_KERNELS
      {&avx512_with_amx(), cpu_features().avx512_amx},
#endif
#ifdef LSTM_EXT_X86_KERNELS
      {&avx512_with_bf16(), cpu_features().avx512_bf16},
      {&avx512_with_vnni(), cpu_features().avx512_vnni},
      {&avx512::kernels, cpu_features().avx512},
      {&avx2::kernels, cpu_features().avx2},
#endif
#ifdef LSTM_EXT_ARM_KERNELS
      {&neon::kernels, cpu_features().neon},
#endif
      {&baseline::kernels, true},
  };
}

}  // namespace

std::vector<std::string> built_isas() {
  std::vector<std::string> names;
  for (const Candidate& candidate : candidates()) names.emplace_back(candidate.set->name);
  return names;
}

const std::vector<const KernelSet*>& runnable_kernel_sets() {
  static const std::vector<const KernelSet*> sets = [] {
    std::vector<const KernelSet*> runnable;
    for (const Candidate& candidate : candidates()) {
      if (candidate.runs) runnable.push_back(candidate.set);
    }
    return runnable;
  }();
  return sets;
}

const KernelSet& find_kernel_set(const std::string& isa, bool for_small_weights) {
  const auto lacks_tiles = [&](const KernelSet& set) {
    return for_small_weights && set.uses_tiles && !acquire_tiles();
  };
  std::string name = isa;
  if (name.empty()) {
    const char* forced = std::getenv("LSTM_EXT_ISA");
    if (forced != nullptr) name = forced;
  }
  std::string known;
  for (const KernelSet* set : runnable_kernel_sets()) {
    if (name.empty() && !lacks_tiles(*set)) return *set;
    if (name == set->name) {
      if (!lacks_tiles(*set)) return *set;
      throw std::invalid_argument((isa.empty() ? "LSTM_EXT_ISA" : "isa") + std::string("='") +
                                  name + "': the operating system denies this process its tiles");
    }
    known += (known.empty() ? "" : ", ") + std::string(set->name);
  }
  throw std::invalid_argument((isa.empty() ? "LSTM_EXT_ISA" : "isa") + std::string("='") + name +
                              "': expected an instruction set that runs here: " + known);
}

}  // namespace cpu
}  // namespace lstm_ext
