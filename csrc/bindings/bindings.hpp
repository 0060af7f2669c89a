// One function per topic adds its part to the module.
#pragma once

#include <pybind11/pybind11.h>

namespace lstm_ext {
namespace bindings {

void add_options(pybind11::module_& module);         // CellOptions, CallOptions
void add_operator(pybind11::module_& module);        // PackedWeights, lstm_forward, lstm_backward
void add_plain_forward(pybind11::module_& module);   // lstm_plain, _layers, _directions
void add_plain_backward(pybind11::module_& module);  // lstm_vjp_plain, _directions
void add_stream(pybind11::module_& module);          // Stream
void add_training(pybind11::module_& module);        // products, a loss, Adam, the activations
void add_config(pybind11::module_& module);          // instruction sets, threads, build, ceilings

}  // namespace bindings
}  // namespace lstm_ext
