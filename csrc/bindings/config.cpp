#include <string>
#include <vector>

#include <pybind11/stl.h>

#include "bindings/bindings.hpp"
#include "cpu/kernel_sets.hpp"
#include "cpu/probes.hpp"
#include "cpu/threads.hpp"

#define LSTM_EXT_STRING_OF(x) #x
#define LSTM_EXT_STRING(x) LSTM_EXT_STRING_OF(x)

namespace lstm_ext {
namespace bindings {
namespace {

namespace py = pybind11;

std::string compiler() {
#if defined(__clang__)
  return "Clang " __clang_version__;
#elif defined(__GNUC__)
  return "GCC " __VERSION__;
#elif defined(_MSC_VER)
  return "MSVC " LSTM_EXT_STRING(_MSC_VER);
#else
  return "unknown";
#endif
}

std::vector<std::string> runnable_isas() {
  std::vector<std::string> names;
  for (const cpu::KernelSet* set : cpu::runnable_kernel_sets()) names.emplace_back(set->name);
  return names;
}

}  // namespace

void add_config(py::module_& module) {
  module.attr("__version__") = LSTM_EXT_VERSION;
  module.attr("compiler") = compiler();
  module.attr("pybind11_version") = LSTM_EXT_STRING(PYBIND11_VERSION_MAJOR) "." LSTM_EXT_STRING(
      PYBIND11_VERSION_MINOR) "." LSTM_EXT_STRING(PYBIND11_VERSION_PATCH);
  module.def("built_isas", &cpu::built_isas, "Every instruction set built in, best first.");
  module.def("available_isas", &runnable_isas, "Those that this processor runs, best first.");
  module.def(
      "chosen_isa", [] { return std::string(cpu::find_kernel_set("").name); },
      "The one that weights are packed for unless isa= says otherwise.");
  module.def("num_threads", &cpu::num_threads, "The limit that a call without its own one has.");
  module.def("num_threads_source", &cpu::num_threads_source, "Where num_threads() comes from.");
  module.def("set_num_threads", &cpu::set_num_threads, py::arg("num_threads"));
  module.def("spin_time", &cpu::spin_time, "Microseconds; see set_spin_time.");
  module.def("set_spin_time", &cpu::set_spin_time, py::arg("microseconds"));
  module.attr("max_spin_time") = cpu::kMaxSpinTime;
  module.def("measure_fma_rate", &cpu::measure_fma_rate,
             "Float32 operations a second of one core's fused multiply-adds.", py::arg("seconds"),
             py::call_guard<py::gil_scoped_release>());
  module.def("measure_read_bandwidth", &cpu::measure_read_bandwidth,
             "Bytes a second at which one core reads an array again and again.", py::arg("bytes"),
             py::arg("seconds"), py::call_guard<py::gil_scoped_release>());
}

}  // namespace bindings
}  // namespace lstm_ext
