// The module `_cuda` on the emulator: its bindings, and what a test sets.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings/cuda/bindings.hpp"
#include "emulator.hpp"

namespace py = pybind11;

PYBIND11_MODULE(_cuda, module) {
  lstm_ext::bindings::add_cuda_device(module);
  lstm_ext::bindings::add_cuda_operator(module);
  lstm_ext::bindings::add_cuda_variant(module);
  module.def(
      "emulate",
      [](const std::string& order, unsigned seed, int drop_store) {
        emulation::Settings& settings = emulation::settings();
        settings.order = order == "forward"   ? emulation::Order::kForward
                         : order == "reverse" ? emulation::Order::kReverse
                                              : emulation::Order::kRandom;
        settings.seed = seed;
        settings.drop_store = drop_store;
      },
      py::arg("order"), py::arg("seed") = 0, py::arg("drop_store") = -1);
  module.def("emulate_devices", [](int count) { emulation::settings().chip.devices = count; });
  module.def("emulate_elsewhere", [](const std::vector<std::uintptr_t>& pointers) {
    emulation::settings().elsewhere.clear();
    for (const std::uintptr_t p : pointers) {
      emulation::settings().elsewhere.push_back(reinterpret_cast<const void*>(p));
    }
  });
  module.def("launches", [] { return emulation::settings().launches; });
}
