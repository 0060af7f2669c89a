// The weights as Python holds them.
#pragma once

#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "bindings/arrays.hpp"
#include "cpu/kernel_sets.hpp"
#include "cpu/packed_weights.hpp"

namespace lstm_ext {
namespace bindings {

// The arrays of one LSTM's weights and what kind of cell they are for. They are kept as they are,
// and may change until they are packed.
class WeightsSource {
 public:
  // bias, peephole, projection_kernel and layer_norm may be None.
  WeightsSource(py::array kernel, py::array recurrent_kernel, py::object bias, py::object peephole,
                py::object projection_kernel, py::object layer_norm, CellOptions cell,
                std::string isa, std::string weights_dtype)
      : kernel_(std::move(kernel)),
        recurrent_kernel_(std::move(recurrent_kernel)),
        bias_(std::move(bias)),
        peephole_(std::move(peephole)),
        projection_kernel_(std::move(projection_kernel)),
        layer_norm_(std::move(layer_norm)),
        cell_(std::move(cell)),
        isa_(std::move(isa)),
        weights_dtype_(std::move(weights_dtype)) {}

  // Calls visitor(F{}) for the format F in which the weights are to be stored.
  template <class Visitor>
  void visit_format(Visitor&& visitor) const {
    if (weights_dtype_ == "bfloat16") {
      visitor(cpu::Bfloat16{});
    } else if (weights_dtype_ == "int8") {
      visitor(cpu::Int8{});
    } else if (!weights_dtype_.empty()) {
      refuse("weights_dtype", "bfloat16, int8 or nothing");
    } else if (py::isinstance<py::array_t<float>>(kernel_)) {
      visitor(float{});
    } else if (py::isinstance<py::array_t<double>>(kernel_)) {
      visitor(double{});
    } else {
      refuse("kernel", "elements of float32 or float64");
    }
  }

  template <class F>
  std::shared_ptr<const cpu::PackedWeights<F>> pack(cpu::StepsOf steps) const {
    const auto arrays = read_all<F>();
    const cpu::KernelSet& kernels = cpu::find_kernel_set(isa_, cpu::Format<F>::kEncodes);
    const py::gil_scoped_release release;
    return std::make_shared<const cpu::PackedWeights<F>>(kernels, arrays, steps);
  }

 private:
  template <class F>
  cpu::WeightArrays<typename cpu::Format<F>::Value> read_all() const {
    using T = typename cpu::Format<F>::Value;
    if (kernel_.ndim() != 2 || recurrent_kernel_.ndim() != 2) refuse("kernel", "2 dimensions");
    const int64_t columns = recurrent_kernel_.shape(1), hidden = columns / kNumGates;
    const int64_t size = recurrent_kernel_.shape(0);
    if (columns % kNumGates != 0) refuse("recurrent_kernel", "four columns a unit");
    const bool projects = !projection_kernel_.is_none();
    if (!projects && size != hidden) refuse("recurrent_kernel", "a row a unit");
    cpu::WeightArrays<T> w{};
    w.input_size = kernel_.shape(0);
    w.hidden_size = hidden;
    w.projection_size = projects ? size : 0;
    w.w_ih = read<T>(kernel_, "kernel", {w.input_size, columns}, Layout::kUnitLastStride);
    w.w_ih_row_stride = element_stride<T>(kernel_, 0);
    w.w_hh =
        read<T>(recurrent_kernel_, "recurrent_kernel", {size, columns}, Layout::kUnitLastStride);
    w.w_hh_row_stride = element_stride<T>(recurrent_kernel_, 0);
    w.bias = read_optional<T>(bias_, "bias", {columns});
    w.peephole = read_optional<T>(peephole_, "peephole", {3 * hidden});
    w.w_hr = read_optional<T>(projection_kernel_, "projection_kernel", {hidden, size});
    w.cell = cell_;
    if (layer_norm_.is_none()) return w;
    if (cpu::Format<F>::kEncodes || projects) refuse("layer_norm", "None here");
    const auto norm = py::cast<py::tuple>(layer_norm_);
    if (norm.size() != 4) refuse("layer_norm", "four arrays");
    w.kernel_gain = read_optional<T>(norm[0], "kernel_gain", {columns});
    w.recurrent_gain = read_optional<T>(norm[1], "recurrent_gain", {columns});
    w.cell_gain = read_optional<T>(norm[2], "cell_gain", {hidden});
    w.cell_offset = read_optional<T>(norm[3], "cell_offset", {hidden});
    if (!w.kernel_gain || !w.recurrent_gain || !w.cell_gain || !w.cell_offset) {
      refuse("layer_norm", "four arrays");
    }
    return w;
  }

  const py::array kernel_, recurrent_kernel_;
  const py::object bias_, peephole_, projection_kernel_, layer_norm_;
  const CellOptions cell_;
  const std::string isa_, weights_dtype_;
};

// PackedWeights of any format.
class Weights {
 public:
  explicit Weights(const WeightsSource& source, cpu::StepsOf steps = cpu::StepsOf::kAnySequence) {
    source.visit_format([&](auto format) { weights_ = source.pack<decltype(format)>(steps); });
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
