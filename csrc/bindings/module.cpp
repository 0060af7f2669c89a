#include <pybind11/pybind11.h>

#include "bindings/bindings.hpp"

PYBIND11_MODULE(_cpu, module, pybind11::mod_gil_not_used()) {
  module.doc() = "CPU kernels of lstm_ext. Arguments are checked in lstm_ext.functional.";
  lstm_ext::bindings::add_options(module);
  lstm_ext::bindings::add_operator(module);
  lstm_ext::bindings::add_plain_forward(module);
  lstm_ext::bindings::add_plain_backward(module);
  lstm_ext::bindings::add_stream(module);
  lstm_ext::bindings::add_training(module);
  lstm_ext::bindings::add_config(module);
}
