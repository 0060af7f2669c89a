#include <pybind11/pybind11.h>

#include "bindings/cuda/bindings.hpp"

PYBIND11_MODULE(_cuda, module, pybind11::mod_gil_not_used()) {
  module.doc() = "CUDA kernels of lstm_ext. Arguments are checked in lstm_ext.cuda.";
  lstm_ext::bindings::add_cuda_device(module);
  lstm_ext::bindings::add_cuda_operator(module);
  lstm_ext::bindings::add_cuda_variant(module);
}
