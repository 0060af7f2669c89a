#include <string>

#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"
#include "bindings/weights.hpp"
#include "cpu/gemm.hpp"

namespace lstm_ext {
namespace bindings {
namespace {

template <class T>
const cpu::KernelTable<T>& best_kernels() {
  return cpu::find_kernel_set("").table<T>();
}

template <class T>
cpu::Matrix<const T> read_matrix(const py::array& array, const char* name) {
  if (array.ndim() != 2) refuse(name, "2 dimensions");
  const T* data = read<T>(array, name, {array.shape(0), array.shape(1)}, Layout::kAny);
  return {data, array.shape(0), array.shape(1), element_stride<T>(array, 0),
          array.shape(1) > 1 ? element_stride<T>(array, 1) : 1};
}

template <class T>
void matmul(const py::array& a, const py::array& b, const py::object& bias, py::array& out,
            int num_threads) {
  const auto left = read_matrix<T>(a, "a");
  const auto right = read_matrix<T>(b, "b");
  if (left.columns != right.rows) refuse("b", std::to_string(left.columns) + " rows");
  const T* offset = read_optional<T>(bias, "bias", {right.columns});
  T* c = write<T>(out, "out", {left.rows, right.columns});
  const py::gil_scoped_release release;
  cpu::matmul<T>(best_kernels<T>(), left, right, offset,
                 {c, left.rows, right.columns, right.columns, 1}, thread_limit(num_threads));
}

struct AdamSettings {
  double step_size, beta_1, beta_2, epsilon, decay;
};

template <class T>
void adam_update(py::array& param, const py::array& grad, py::array& m, py::array& v,
                 const AdamSettings& s) {
  const int64_t size = param.size();
  const auto flat = [&](py::array& array, const char* name) {
    if (array.size() != size) refuse(name, std::to_string(size) + " elements");
    if (!(array.flags() & py::array::c_style)) refuse(name, "a contiguous array");
    if (!py::isinstance<py::array_t<T>>(array)) refuse(name, "the type of its parameter");
    return static_cast<T*>(array.mutable_data());
  };
  if (grad.size() != size || !(grad.flags() & py::array::c_style) ||
      !py::isinstance<py::array_t<T>>(grad)) {
    refuse("grads", "a contiguous array like its parameter");
  }
  // The differences in double: 1 - 0.999 in float32 would be off in the fifth digit.
  best_kernels<T>().adam({size, flat(param, "params"), static_cast<const T*>(grad.data()),
                          flat(m, "m"), flat(v, "v"), static_cast<T>(s.step_size),
                          static_cast<T>(1 - s.beta_1), static_cast<T>(1 - s.beta_2),
                          static_cast<T>(s.epsilon), static_cast<T>(1 - s.decay)});
}

template <class T>
void activate(const std::string& name, const py::array& x, py::array& out, const std::string& isa) {
  const T* in = read<T>(x, "x", {x.size()});
  T* y = write<T>(out, "out", {x.size()});
  const auto& kernels = cpu::find_kernel_set(isa).table<T>();
  const auto function = name == "sigmoid" ? kernels.sigmoid
                        : name == "tanh"  ? kernels.tanh
                                          : nullptr;
  if (function == nullptr) refuse("name", "'sigmoid' or 'tanh'");
  const py::gil_scoped_release release;
  function(x.size(), in, y);
}

bool is_float32(const py::array& array) { return py::isinstance<py::array_t<float>>(array); }

}  // namespace

void add_training(py::module_& module) {
  module.def(
      "matmul",
      [](const py::array& a, const py::array& b, const py::object& bias, py::array& out,
         int num_threads) {
        is_float32(a) ? matmul<float>(a, b, bias, out, num_threads)
                      : matmul<double>(a, b, bias, out, num_threads);
      },
      "out (M, N) = a (M, K) @ b (K, N) + bias (N), each sum in one fixed order.", py::arg("a"),
      py::arg("b"), py::arg("bias"), py::arg("out"), py::arg("num_threads"));

  module.def(
      "adam_update",
      [](const py::list& params, const py::list& grads, const py::list& m, const py::list& v,
         double step_size, double beta_1, double beta_2, double epsilon, double decay) {
        if (grads.size() != params.size() || m.size() != params.size() ||
            v.size() != params.size()) {
          refuse("params", "four lists of one length");
        }
        const AdamSettings settings{step_size, beta_1, beta_2, epsilon, decay};
        for (std::size_t i = 0; i < params.size(); ++i) {
          py::array param(py::reinterpret_borrow<py::array>(params[i]));
          py::array grad(py::reinterpret_borrow<py::array>(grads[i]));
          py::array m_i(py::reinterpret_borrow<py::array>(m[i]));
          py::array v_i(py::reinterpret_borrow<py::array>(v[i]));
          is_float32(param) ? adam_update<float>(param, grad, m_i, v_i, settings)
                            : adam_update<double>(param, grad, m_i, v_i, settings);
        }
      },
      "One Adam step over lists of contiguous arrays, in place.", py::arg("params"),
      py::arg("grads"), py::arg("m"), py::arg("v"), py::kw_only(), py::arg("step_size"),
      py::arg("beta_1"), py::arg("beta_2"), py::arg("epsilon"), py::arg("decay") = 0.0);

  module.def(
      "activate",
      [](const std::string& name, const py::array& x, py::array& out, const std::string& isa) {
        is_float32(x) ? activate<float>(name, x, out, isa) : activate<double>(name, x, out, isa);
      },
      "The cell's own sigmoid or tanh over a flat array.", py::arg("name"), py::arg("x"),
      py::arg("out"), py::arg("isa") = "");
}

}  // namespace bindings
}  // namespace lstm_ext
