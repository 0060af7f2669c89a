#include "bindings/activation.hpp"
#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"
#include "bindings/call_options.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace bindings {
void add_options(py::module_& module) {
  py::class_<CellOptions>(module, "CellOptions", "What differs from the plain cell, weights aside.")
      .def(py::init([](const py::tuple& recurrent, const py::tuple& candidate,
                       const py::tuple& output, double clip, double cell_clip, bool input_forget,
                       double zoneout, double cell_zoneout) {
             return CellOptions{activation_of(recurrent),
                                activation_of(candidate),
                                activation_of(output),
                                clip,
                                cell_clip,
                                input_forget,
                                zoneout,
                                cell_zoneout};
           }),
           py::arg("recurrent"), py::arg("candidate"), py::arg("output"), py::arg("clip"),
           py::arg("cell_clip"), py::arg("input_forget"), py::arg("zoneout"),
           py::arg("cell_zoneout"));

  py::class_<CallOptions>(module, "CallOptions",
                          "Which slots of a call are steps, its noise, and what it keeps.")
      .def(py::init([](const py::object& lengths, const py::object& mask, const py::object& reset,
                       bool repeats_output, const py::object& noise_h, const py::object& zoneout,
                       const py::object& cell_zoneout, const py::object& hidden,
                       const py::object& normed, bool activated) {
             return CallOptions{lengths, mask,         reset,  repeats_output, noise_h,
                                zoneout, cell_zoneout, hidden, normed,         activated};
           }),
           py::kw_only(), py::arg("lengths") = py::none(), py::arg("mask") = py::none(),
           py::arg("reset") = py::none(), py::arg("repeats_output") = true,
           py::arg("noise_h") = py::none(), py::arg("zoneout") = py::none(),
           py::arg("cell_zoneout") = py::none(), py::arg("hidden") = py::none(),
           py::arg("normed") = py::none(), py::arg("activated") = false);
}

}  // namespace bindings
}  // namespace lstm_ext
