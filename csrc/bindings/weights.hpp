// The weights as Python holds them.
#pragma once

#include <memory>
#include <string>
#include <type_traits>
#include <variant>

#include "bindings/arrays.hpp"
#include "cpu/kernel_sets.hpp"
#include "cpu/packed_weights.hpp"

namespace lstm_ext {
namespace bindings {

// PackedWeights of any format.
class Weights {
 public:
  Weights(const py::array& kernel, const py::array& recurrent_kernel, const py::object& bias,
          const std::string& isa, const std::string& weights_dtype) {
    if (weights_dtype == "bfloat16") {
      pack<cpu::Bfloat16>(kernel, recurrent_kernel, bias, isa);
    } else if (weights_dtype == "int8") {
      pack<cpu::Int8>(kernel, recurrent_kernel, bias, isa);
    } else if (!weights_dtype.empty()) {
      refuse("weights_dtype", "bfloat16, int8 or nothing");
    } else if (py::isinstance<py::array_t<float>>(kernel)) {
      pack<float>(kernel, recurrent_kernel, bias, isa);
    } else if (py::isinstance<py::array_t<double>>(kernel)) {
      pack<double>(kernel, recurrent_kernel, bias, isa);
    } else {
      refuse("kernel", "elements of float32 or float64");
    }
  }

  template <class Visitor>
  decltype(auto) visit(Visitor&& visitor) const {
    return std::visit([&](const auto& weights) -> decltype(auto) { return visitor(*weights); },
                      weights_);
  }

  using Variant = std::variant<std::shared_ptr<const cpu::PackedWeights<float>>,
                               std::shared_ptr<const cpu::PackedWeights<double>>,
                               std::shared_ptr<const cpu::PackedWeights<cpu::Bfloat16>>,
                               std::shared_ptr<const cpu::PackedWeights<cpu::Int8>>>;
  const Variant& shared() const { return weights_; }

 private:
  template <class F>
  void pack(const py::array& kernel, const py::array& recurrent_kernel, const py::object& bias,
            const std::string& isa) {
    using T = typename cpu::Format<F>::Value;
    if (kernel.ndim() != 2 || recurrent_kernel.ndim() != 2) refuse("kernel", "2 dimensions");
    const int64_t input_size = kernel.shape(0), hidden = recurrent_kernel.shape(0);
    const int64_t columns = kNumGates * hidden;
    const T* w_ih = read<T>(kernel, "kernel", {input_size, columns}, Layout::kUnitLastStride);
    const T* w_hh =
        read<T>(recurrent_kernel, "recurrent_kernel", {hidden, columns}, Layout::kUnitLastStride);
    const T* offset = read_optional<T>(bias, "bias", {columns});
    const cpu::KernelSet& kernels = cpu::find_kernel_set(isa);
    const int64_t ih_stride = element_stride<T>(kernel, 0);
    const int64_t hh_stride = element_stride<T>(recurrent_kernel, 0);
    const py::gil_scoped_release release;
    weights_ = std::make_shared<const cpu::PackedWeights<F>>(kernels, input_size, hidden, w_ih,
                                                             ih_stride, w_hh, hh_stride, offset);
  }

  Variant weights_;
};

// The name of a format's weights.
template <class F>
const char* weights_dtype(const cpu::PackedWeights<F>&) {
  if (std::is_same_v<F, cpu::Bfloat16>) return "bfloat16";
  if (std::is_same_v<F, cpu::Int8>) return "int8";
  return sizeof(typename cpu::Format<F>::Value) == 4 ? "float32" : "float64";
}

}  // namespace bindings
}  // namespace lstm_ext
