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
  // bias, peephole, projection_kernel and layer_norm may be None.
  Weights(const py::array& kernel, const py::array& recurrent_kernel, const py::object& bias,
          const py::object& peephole, const py::object& projection_kernel,
          const py::object& layer_norm, const CellOptions& cell, const std::string& isa,
          const std::string& weights_dtype) {
    const Arrays arrays{kernel, recurrent_kernel, bias, peephole, projection_kernel, layer_norm};
    if (weights_dtype == "bfloat16") {
      pack<cpu::Bfloat16>(arrays, cell, isa);
    } else if (weights_dtype == "int8") {
      pack<cpu::Int8>(arrays, cell, isa);
    } else if (!weights_dtype.empty()) {
      refuse("weights_dtype", "bfloat16, int8 or nothing");
    } else if (py::isinstance<py::array_t<float>>(kernel)) {
      pack<float>(arrays, cell, isa);
    } else if (py::isinstance<py::array_t<double>>(kernel)) {
      pack<double>(arrays, cell, isa);
    } else {
      refuse("kernel", "elements of float32 or float64");
    }
  }

  template <class Visitor>
  decltype(auto) visit(Visitor&& visitor) const {
    return std::visit([&](const auto& weights) -> decltype(auto) { return visitor(*weights); },
                      weights_);
  }

  // null if they are of another format.
  template <class F>
  const cpu::PackedWeights<F>* get() const {
    const auto* const shared = std::get_if<std::shared_ptr<const cpu::PackedWeights<F>>>(&weights_);
    return shared ? shared->get() : nullptr;
  }

  using Variant = std::variant<std::shared_ptr<const cpu::PackedWeights<float>>,
                               std::shared_ptr<const cpu::PackedWeights<double>>,
                               std::shared_ptr<const cpu::PackedWeights<cpu::Bfloat16>>,
                               std::shared_ptr<const cpu::PackedWeights<cpu::Int8>>>;
  const Variant& shared() const { return weights_; }

 private:
  struct Arrays {
    const py::array &kernel, &recurrent_kernel;
    const py::object &bias, &peephole, &projection_kernel, &layer_norm;
  };

  template <class F>
  void pack(const Arrays& a, const CellOptions& cell, const std::string& isa) {
    using T = typename cpu::Format<F>::Value;
    if (a.kernel.ndim() != 2 || a.recurrent_kernel.ndim() != 2) refuse("kernel", "2 dimensions");
    const int64_t columns = a.recurrent_kernel.shape(1), hidden = columns / kNumGates;
    const int64_t size = a.recurrent_kernel.shape(0);
    if (columns % kNumGates != 0) refuse("recurrent_kernel", "four columns a unit");
    const bool projects = !a.projection_kernel.is_none();
    if (!projects && size != hidden) refuse("recurrent_kernel", "a row a unit");
    cpu::WeightArrays<T> w{};
    w.input_size = a.kernel.shape(0);
    w.hidden_size = hidden;
    w.projection_size = projects ? size : 0;
    w.w_ih = read<T>(a.kernel, "kernel", {w.input_size, columns}, Layout::kUnitLastStride);
    w.w_hh =
        read<T>(a.recurrent_kernel, "recurrent_kernel", {size, columns}, Layout::kUnitLastStride);
    w.bias = read_optional<T>(a.bias, "bias", {columns});
    w.peephole = read_optional<T>(a.peephole, "peephole", {3 * hidden});
    w.w_hr = read_optional<T>(a.projection_kernel, "projection_kernel", {hidden, size});
    if (!a.layer_norm.is_none()) {
      if (cpu::Format<F>::kEncodes || projects) refuse("layer_norm", "None here");
      const auto norm = py::cast<py::tuple>(a.layer_norm);
      if (norm.size() != 4) refuse("layer_norm", "four arrays");
      w.kernel_gain = read_optional<T>(norm[0], "kernel_gain", {columns});
      w.recurrent_gain = read_optional<T>(norm[1], "recurrent_gain", {columns});
      w.cell_gain = read_optional<T>(norm[2], "cell_gain", {hidden});
      w.cell_offset = read_optional<T>(norm[3], "cell_offset", {hidden});
      if (!w.kernel_gain || !w.recurrent_gain || !w.cell_gain || !w.cell_offset) {
        refuse("layer_norm", "four arrays");
      }
    }
    w.cell = cell;
    const cpu::KernelSet& kernels = cpu::find_kernel_set(isa, cpu::Format<F>::kEncodes);
    w.w_ih_row_stride = element_stride<T>(a.kernel, 0);
    w.w_hh_row_stride = element_stride<T>(a.recurrent_kernel, 0);
    const py::gil_scoped_release release;
    weights_ = std::make_shared<const cpu::PackedWeights<F>>(kernels, w);
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

// Of a call with x (B, T, features).
template <class F>
LstmShape shape_of(const cpu::PackedWeights<F>& weights, const py::array& x) {
  if (x.ndim() != 3) refuse("x", "3 dimensions");
  return weights.shape(x.shape(0), x.shape(1));
}

}  // namespace bindings
}  // namespace lstm_ext
