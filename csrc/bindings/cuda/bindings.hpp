// One function per topic adds its part to the module.
#pragma once

#include <pybind11/pybind11.h>

namespace lstm_ext {
namespace bindings {

void add_cuda_device(pybind11::module_& module);    // devices, plans, status
void add_cuda_operator(pybind11::module_& module);  // forward, backward
void add_cuda_variant(pybind11::module_& module);   // the cell's options

}  // namespace bindings
}  // namespace lstm_ext
