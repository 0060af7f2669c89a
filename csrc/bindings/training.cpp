#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

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

// A new array, and where it lies.
template <class T>
cpu::Matrix<T> new_matrix(int64_t rows, int64_t columns, py::object& array) {
  py::array_t<T> made({rows, columns});
  const cpu::Matrix<T> matrix{made.mutable_data(), rows, columns, columns, 1};
  array = std::move(made);
  return matrix;
}

template <class T>
cpu::Matrix<const T> transpose(const cpu::Matrix<const T>& a) {
  return {a.data, a.columns, a.rows, a.column_stride, a.row_stride};
}

template <class T>
py::array matmul(const py::array& a, const py::array& b, const py::object& bias, int num_threads,
                 py::array out) {
  const auto left = read_matrix<T>(a, "a");
  const auto right = read_matrix<T>(b, "b");
  if (left.columns != right.rows) refuse("b", std::to_string(left.columns) + " rows");
  const T* offset = read_optional<T>(bias, "bias", {right.columns});
  if (!out) out = py::array_t<T>({left.rows, right.columns});
  T* const c = write<T>(out, "out", {left.rows, right.columns});
  {
    const py::gil_scoped_release release;
    cpu::matmul<T>(best_kernels<T>(), left, right, offset,
                   {c, left.rows, right.columns, right.columns, 1}, num_threads);
  }
  return out;
}

// The gradients of a product that has d_out: d_a = d_out · bᵀ, d_b = aᵀ · d_out, d_bias = Σ d_out.
template <class T>
py::tuple matmul_vjp(const py::array& a, const py::array& b, const py::array& d_out, bool need_a,
                     bool has_bias, int num_threads) {
  const auto left = read_matrix<T>(a, "a");
  const auto right = read_matrix<T>(b, "b");
  const auto d = read_matrix<T>(d_out, "d_out");
  if (left.columns != right.rows) refuse("b", std::to_string(left.columns) + " rows");
  if (d.rows != left.rows || d.columns != right.columns) refuse("d_out", "the shape of a · b");
  py::object d_a = py::none(), d_b, d_bias = py::none();
  cpu::Matrix<T> to_a{}, to_bias{};
  if (need_a) to_a = new_matrix<T>(left.rows, left.columns, d_a);
  const auto to_b = new_matrix<T>(right.rows, right.columns, d_b);
  if (has_bias) {
    py::array_t<T> array(right.columns);
    to_bias = {array.mutable_data(), 1, right.columns, right.columns, 1};
    d_bias = std::move(array);
  }
  {
    const py::gil_scoped_release release;
    const auto& kernels = best_kernels<T>();
    const T one = 1;
    if (need_a) cpu::matmul<T>(kernels, d, transpose(right), nullptr, to_a, num_threads);
    cpu::matmul<T>(kernels, transpose(left), d, nullptr, to_b, num_threads);
    if (has_bias) {
      cpu::matmul<T>(kernels, {&one, 1, d.rows, 0, 0}, d, nullptr, to_bias, num_threads);
    }
  }
  return py::make_tuple(std::move(d_a), std::move(d_b), std::move(d_bias));
}

// Whether one shape is the other, but perhaps for a last axis of size 1.
bool fit_together(const py::array& a, const py::array& b) {
  const py::array &less = a.ndim() < b.ndim() ? a : b, &more = a.ndim() < b.ndim() ? b : a;
  if (more.ndim() - less.ndim() > 1 ||
      !std::equal(less.shape(), less.shape() + less.ndim(), more.shape())) {
    return false;
  }
  return more.ndim() == less.ndim() || (less.ndim() > 0 && more.shape(less.ndim()) == 1);
}

// Returns Σ (y - t)² / size and its gradient with respect to y.
template <class T>
py::object squared_error(const py::array& t, const py::array& y) {
  py::array_t<T> gradient(std::vector<py::ssize_t>(y.shape(), y.shape() + y.ndim()));
  const auto* const wanted = static_cast<const T*>(t.data());
  const auto* const made = static_cast<const T*>(y.data());
  T* const out = gradient.mutable_data();
  const int64_t size = y.size();
  // Several sums, so that they do not wait for each other.
  constexpr int64_t kSums = 4;
  double sums[kSums] = {};
  const double divisor = size > 0 ? static_cast<double>(size) : 1;
  {
    const py::gil_scoped_release release;
    const auto factor = static_cast<T>(2 / divisor);
    for (int64_t i = 0; i < size; ++i) {
      const T error = made[i] - wanted[i];
      sums[i % kSums] += static_cast<double>(error) * static_cast<double>(error);
      out[i] = error * factor;
    }
  }
  return py::make_tuple((sums[0] + sums[1] + (sums[2] + sums[3])) / divisor, std::move(gradient));
}

bool is_float32(const py::array& array) { return py::isinstance<py::array_t<float>>(array); }

struct AdamSettings {
  double step_size, beta_1, beta_2, epsilon, decay;
};

// A parameter with its gradient and moments, all contiguous and of one type and size.
struct AdamArrays {
  py::array param, grad, m, v;

  AdamArrays(py::handle p, py::handle g, py::handle first, py::handle second)
      : param(as_array(p, "params")),
        grad(as_array(g, "grads")),
        m(as_array(first, "m")),
        v(as_array(second, "v")) {
    if (is_float32(param)) {
      check_all<float>();
    } else {
      check_all<double>();
    }
    for (const py::array* array : {&param, &m, &v}) {
      if (!array->writeable()) refuse("params", "arrays that can be written to");
    }
  }

 private:
  static py::array as_array(py::handle value, const char* name) {
    if (!py::isinstance<py::array>(value)) refuse(name, "arrays");
    return py::reinterpret_borrow<py::array>(value);
  }

  template <class T>
  void check_all() const {
    check_flat<T>(param, "params");
    check_flat<T>(grad, "grads");
    check_flat<T>(m, "m");
    check_flat<T>(v, "v");
  }

  template <class T>
  void check_flat(const py::array& array, const char* name) const {
    if (!py::isinstance<py::array_t<T>>(array)) refuse(name, "the type of its parameter");
    if (array.ndim() != param.ndim() ||
        !std::equal(array.shape(), array.shape() + array.ndim(), param.shape())) {
      refuse(name, "the shape of its parameter");
    }
    if (!(array.flags() & py::array::c_style)) refuse(name, "contiguous arrays");
    if (reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) != 0) {
      refuse(name, "aligned arrays");
    }
  }
};

template <class T>
void adam_update(AdamArrays& a, const AdamSettings& s) {
  const auto data = [](py::array& array) { return static_cast<T*>(array.mutable_data()); };
  // The differences in double: 1 - 0.999 in float32 would be off in the fifth digit.
  best_kernels<T>().adam({a.param.size(), data(a.param), static_cast<const T*>(a.grad.data()),
                          data(a.m), data(a.v), static_cast<T>(s.step_size),
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

}  // namespace

void add_training(py::module_& module) {
  module.def(
      "matmul",
      [](const py::array& a, const py::array& b, const py::object& bias, int num_threads,
         const std::optional<py::array>& out) {
        const py::array to = out.value_or(py::reinterpret_steal<py::array>(nullptr));
        return is_float32(a) ? matmul<float>(a, b, bias, num_threads, to)
                             : matmul<double>(a, b, bias, num_threads, to);
      },
      "Returns a (M, K) @ b (K, N) + bias (N), each sum in one fixed order, in `out` or in a new "
      "array.",
      py::arg("a"), py::arg("b"), py::arg("bias"), py::arg("num_threads"),
      py::arg("out") = py::none());

  module.def(
      "matmul_vjp",
      [](const py::array& a, const py::array& b, const py::array& d_out, bool need_a, bool has_bias,
         int num_threads) {
        return is_float32(a) ? matmul_vjp<float>(a, b, d_out, need_a, has_bias, num_threads)
                             : matmul_vjp<double>(a, b, d_out, need_a, has_bias, num_threads);
      },
      "Returns the gradients of what `matmul` takes, for that of what it returns: of a or None, of "
      "b, and of the bias or None.",
      py::arg("a"), py::arg("b"), py::arg("d_out"), py::arg("need_a"), py::arg("has_bias"),
      py::arg("num_threads"));

  module.def(
      "adam_update",
      [](const py::list& params, const py::list& grads, const py::list& m, const py::list& v,
         double step_size, double beta_1, double beta_2, double epsilon, double decay) {
        if (grads.size() != params.size() || m.size() != params.size() ||
            v.size() != params.size()) {
          refuse("params", "four lists of one length");
        }
        const AdamSettings settings{step_size, beta_1, beta_2, epsilon, decay};
        std::vector<AdamArrays> arrays;
        arrays.reserve(params.size());
        for (std::size_t i = 0; i < params.size(); ++i) {
          arrays.emplace_back(params[i], grads[i], m[i], v[i]);
        }
        for (AdamArrays& each : arrays) {
          is_float32(each.param) ? adam_update<float>(each, settings)
                                 : adam_update<double>(each, settings);
        }
      },
      "One Adam step over lists of contiguous arrays, in place.", py::arg("params"),
      py::arg("grads"), py::arg("m"), py::arg("v"), py::kw_only(), py::arg("step_size"),
      py::arg("beta_1"), py::arg("beta_2"), py::arg("epsilon"), py::arg("decay") = 0.0);

  module.def(
      "mean_squared_error",
      [](const py::object& y_true, const py::object& y_pred) -> py::object {
        if (!py::isinstance<py::array>(y_true) || !py::isinstance<py::array>(y_pred)) {
          return py::none();
        }
        const auto t = py::reinterpret_borrow<py::array>(y_true);
        const auto y = py::reinterpret_borrow<py::array>(y_pred);
        constexpr int kPlain = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
        const bool is_plain = (t.flags() & y.flags() & kPlain) == kPlain;
        if (!is_plain || y.ndim() == 0 || !fit_together(t, y)) return py::none();
        if (is_float32(y) && is_float32(t)) return squared_error<float>(t, y);
        if (py::isinstance<py::array_t<double>>(y) && py::isinstance<py::array_t<double>>(t)) {
          return squared_error<double>(t, y);
        }
        return py::none();
      },
      "Returns the mean of the squares of y_pred - y_true over all values and its gradient with "
      "respect to y_pred, or None if they are no plain arrays of one dtype that fit together.",
      py::arg("y_true"), py::arg("y_pred"));

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
