// csrc/cuda/runtime.hpp for the emulator.
#include "cuda/runtime.hpp"

#include <algorithm>

#include "emulator.hpp"

namespace lstm_ext {
namespace cuda {

int device_count(std::string* reason) {
  const int count = emulation::settings().chip.devices;
  if (count == 0) *reason = "the CUDA driver finds no device";
  return count;
}

int current_device() { return 0; }

Chip chip_of(int) {
  const emulation::Chip& chip = emulation::settings().chip;
  return {"emulated", chip.capability, chip.processors, chip.shared_bytes};
}

int device_of(const void* p) {
  const auto& others = emulation::settings().elsewhere;
  return std::find(others.begin(), others.end(), p) == others.end() ? 0 : 1;
}

int* shared_word() {
  static int word = 0;
  return &word;
}

}  // namespace cuda
}  // namespace lstm_ext
