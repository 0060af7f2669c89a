#include "bindings/cuda/variant.hpp"

#include <pybind11/pybind11.h>

#include "bindings/activation.hpp"
#include "bindings/cuda/bindings.hpp"

namespace lstm_ext {
namespace bindings {

namespace py = pybind11;

void add_cuda_variant(py::module_& module) {
  // Local: the emulator of the tests has a type of this name too.
  py::class_<BoundVariant>(module, "Variant", py::module_local(),
                           "What differs from the plain cell.")
      .def(py::init([](const py::tuple& recurrent, const py::tuple& candidate,
                       const py::tuple& output, double clip, double cell_clip, bool input_forget,
                       double zoneout, double cell_zoneout, const py::object& peephole,
                       const py::object& zoneout_places, const py::object& cell_zoneout_places) {
             return BoundVariant{
                 {activation_of(recurrent), activation_of(candidate), activation_of(output), clip,
                  cell_clip, input_forget, zoneout, cell_zoneout},
                 peephole,
                 zoneout_places,
                 cell_zoneout_places};
           }),
           py::arg("recurrent"), py::arg("candidate"), py::arg("output"), py::arg("clip"),
           py::arg("cell_clip"), py::arg("input_forget"), py::arg("zoneout"),
           py::arg("cell_zoneout"), py::arg("peephole"), py::arg("zoneout_places"),
           py::arg("cell_zoneout_places"));
}

}  // namespace bindings
}  // namespace lstm_ext
