// The one list of kernel sets: it drives dispatch, the tests and the benchmarks.
#pragma once

#include <string>
#include <vector>

#include "cpu/kernel_set.hpp"

namespace lstm_ext {
namespace cpu {

// Every set that was built, best first, runnable here or not.
std::vector<std::string> built_isas();

// The sets that this processor runs, best first; never empty.
const std::vector<const KernelSet*>& runnable_kernel_sets();

// The set of that name; "" means the one that LSTM_EXT_ISA names, or else the best.
// Throws std::invalid_argument if it is unknown or does not run here. For small weights it has what
// its kernels need of the operating system.
const KernelSet& find_kernel_set(const std::string& isa, bool for_small_weights = false);

}  // namespace cpu
}  // namespace lstm_ext
