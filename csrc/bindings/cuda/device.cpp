#include <pybind11/pybind11.h>

#include <initializer_list>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>

#include "bindings/cuda/bindings.hpp"
#include "bindings/cuda/plan.hpp"
#include "cuda/recurrence.hpp"

namespace lstm_ext {
namespace bindings {
namespace {

namespace py = pybind11;

template <class E>
E named(const char* argument, const std::string& name,
        std::initializer_list<std::pair<const char*, E>> known) {
  std::string names;
  for (const auto& [text, value] : known) {
    if (name == text) return value;
    names += names.empty() ? text : std::string(", ") + text;
  }
  throw py::value_error(std::string(argument) + ": got '" + name + "', expected one of " + names);
}

cuda::Direction direction_of(const std::string& name) {
  return named<cuda::Direction>(
      "direction", name,
      {{"forward", cuda::Direction::kForward}, {"backward", cuda::Direction::kBackward}});
}
cuda::Algorithm algorithm_of(const std::string& name) {
  return named<cuda::Algorithm>("algorithm", name,
                                {{"auto", cuda::Algorithm::kAuto},
                                 {"cluster", cuda::Algorithm::kCluster},
                                 {"grid", cuda::Algorithm::kGrid},
                                 {"steps", cuda::Algorithm::kSteps}});
}
const char* name_of(cuda::Algorithm algorithm) {
  if (algorithm == cuda::Algorithm::kCluster) return "cluster";
  return algorithm == cuda::Algorithm::kGrid ? "grid" : "steps";
}

// Asked once for each device: the answer takes a while, and stays the same.
cuda::Device facts_of(int device) {
  static std::mutex mutex;
  static std::map<int, cuda::Device> known;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find(device);
  if (found != known.end()) return found->second;
  const cuda::Chip chip = cuda::chip_of(device);
  const cuda::Device facts{chip.capability, chip.processors, chip.shared_bytes,
                           cuda::largest_cluster(chip)};
  known.emplace(device, facts);
  return facts;
}

// A device's number and all that a plan depends on.
using Asked = std::tuple<int, cuda::Precision, cuda::Direction, int64_t, int64_t, bool,
                         cuda::Algorithm, int, int>;

// The answer of an earlier time, or else that of `make`: comparing all divisions takes longer than
// a launch.
template <class Make>
cuda::Plan remembered(const Asked& asked, const Make& make) {
  constexpr std::size_t kMost = 1024;
  static std::mutex mutex;
  static std::map<Asked, cuda::Plan> known;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find(asked);
  if (found != known.end()) return found->second;
  if (known.size() >= kMost) known.clear();
  return known.emplace(asked, make()).first->second;
}

BoundPlan plan(const std::string& dtype, const std::string& direction, int64_t batch_size,
               int64_t units, const std::string& algorithm, int blocks, int rows,
               const py::object& device, bool variant) {
  if (batch_size < 0 || units < 1) throw py::value_error("units: expected at least 1");
  cuda::Device facts{};
  if (device.is_none()) {
    facts = facts_of(cuda::current_device());
  } else {
    const auto given = py::cast<py::dict>(device);
    facts = {py::cast<int>(given["capability"]), py::cast<int>(given["processors"]),
             py::cast<int>(given["shared_bytes"]), py::cast<int>(given["largest_cluster"])};
  }
  const cuda::Question question{precision_of(dtype), direction_of(direction), batch_size, units,
                                variant};
  const cuda::Request request{algorithm_of(algorithm), blocks, rows};
  const auto make = [&] { return cuda::make_plan(question, facts, request); };
  if (!device.is_none()) return {question, make()};
  const Asked asked{cuda::current_device(),
                    question.precision,
                    question.direction,
                    batch_size,
                    units,
                    variant,
                    request.algorithm,
                    blocks,
                    rows};
  return {question, remembered(asked, make)};
}

py::dict describe(const BoundPlan& bound) {
  const cuda::Plan& p = bound.plan;
  py::dict facts;
  facts["algorithm"] = name_of(p.algorithm);
  facts["blocks"] = p.blocks;
  facts["units"] = p.units;
  facts["rows"] = p.rows;
  facts["rounds"] = p.rounds;
  facts["groups"] = p.groups;
  facts["launches"] = p.launches;
  facts["threads"] = p.geometry.threads;
  facts["slices"] = p.geometry.slices;
  facts["parts"] = p.geometry.parts;
  facts["fragments"] = p.geometry.k_tiles * p.geometry.out_tiles;
  facts["deep"] = p.geometry.deep;
  facts["shared_bytes"] = p.shared_bytes;
  return facts;
}

}  // namespace

cuda::Precision precision_of(const std::string& name) {
  return named<cuda::Precision>("dtype", name,
                                {{"float32", cuda::Precision::kFloat32},
                                 {"float64", cuda::Precision::kFloat64},
                                 {"bfloat16", cuda::Precision::kBFloat16}});
}

void add_cuda_device(py::module_& module) {
  // Local: the emulator of the tests has a type of this name too.
  py::class_<BoundPlan>(module, "Plan", py::module_local(),
                        "Which kernels compute a call, and how it is divided.")
      .def_property_readonly("algorithm",
                             [](const BoundPlan& p) { return name_of(p.plan.algorithm); })
      .def_property_readonly("scratch_bytes",
                             [](const BoundPlan& p) { return p.plan.scratch_bytes; })
      .def("describe", &describe);
  module.def("plan", &plan,
             "Choose; `device` is a dict like that of chip(), or None for the current one.",
             py::arg("dtype"), py::arg("direction"), py::arg("batch_size"), py::arg("units"),
             py::arg("algorithm") = "auto", py::arg("blocks") = 0, py::arg("rows") = 0,
             py::arg("device") = py::none(), py::arg("variant") = false);
  module.def(
      "device_count",
      [] {
        std::string reason;
        const int count = cuda::device_count(&reason);
        return std::make_pair(count, reason);
      },
      "The number of devices, and why there is none.");
  module.def(
      "chip",
      [](int device) {
        const cuda::Chip chip = cuda::chip_of(device);
        py::dict facts;
        facts["name"] = chip.name;
        facts["capability"] = chip.capability;
        facts["processors"] = chip.processors;
        facts["shared_bytes"] = chip.shared_bytes;
        facts["largest_cluster"] = facts_of(device).largest_cluster;
        return facts;
      },
      "What a device is; it must be the current one.", py::arg("device"));
  module.def(
      "take_timeout",
      [] {
        volatile int* word = cuda::shared_word();
        const bool timed_out = *word == cuda::kTimedOut;
        *word = 0;
        return timed_out;
      },
      "Whether a kernel gave up waiting since this was last asked.");
}

}  // namespace bindings
}  // namespace lstm_ext
