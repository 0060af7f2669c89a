// Prints the instruction sets that a build for this processor offers here, best first.
#include <cstdio>

#include "cpu/kernel_sets.hpp"

int main() {
  for (const auto* set : lstm_ext::cpu::runnable_kernel_sets()) std::puts(set->name);
  return 0;
}
