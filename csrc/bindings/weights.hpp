// The weights as Python holds them.
#pragma once

#include <memory>
#include <string>
#include <variant>

#include "bindings/arrays.hpp"
#include "cpu/kernel_sets.hpp"
#include "cpu/packed_weights.hpp"
#include "cpu/threads.hpp"

namespace lstm_ext {
namespace bindings {

// PackedWeights of either element type.
class Weights {
 public:
  Weights(const py::array& kernel, const py::array& recurrent_kernel, const py::object& bias,
          const std::string& isa) {
    if (py::isinstance<py::array_t<float>>(kernel)) {
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
                               std::shared_ptr<const cpu::PackedWeights<double>>>;
  const Variant& shared() const { return weights_; }

 private:
  template <class T>
  void pack(const py::array& kernel, const py::array& recurrent_kernel, const py::object& bias,
            const std::string& isa) {
    if (kernel.ndim() != 2 || recurrent_kernel.ndim() != 2) refuse("kernel", "2 dimensions");
    const int64_t input_size = kernel.shape(0), hidden = recurrent_kernel.shape(0);
    const int64_t columns = kNumGates * hidden;
    const T* w_ih = read<T>(kernel, "kernel", {input_size, columns}, Layout::kUnitLastStride);
    const T* w_hh =
        read<T>(recurrent_kernel, "recurrent_kernel", {hidden, columns}, Layout::kUnitLastStride);
    weights_ = std::make_shared<const cpu::PackedWeights<T>>(
        cpu::find_kernel_set(isa), input_size, hidden, w_ih, element_stride<T>(kernel, 0), w_hh,
        element_stride<T>(recurrent_kernel, 0), read_optional<T>(bias, "bias", {columns}));
  }

  Variant weights_;
};

// What a call's num_threads stands for: 0 is the process's own setting.
inline int thread_limit(int num_threads) {
  return num_threads > 0 ? num_threads : cpu::num_threads();
}

}  // namespace bindings
}  // namespace lstm_ext
