#include <string>
#include <variant>

#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"
#include "bindings/weights.hpp"
#include "cpu/stream.hpp"

namespace lstm_ext {
namespace bindings {
namespace {

std::string text_of(const py::array& array) {
  std::string shape;
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
    shape += (axis ? ", " : "") + std::to_string(array.shape(axis));
  }
  return "shape (" + shape + (array.ndim() == 1 ? ",)" : ")");
}

// A Stream of either element type. A step is a microsecond's work, so it is called from Python
// without a layer between; hence the errors for users stand here.
class AnyStream {
 public:
  AnyStream(const Weights& weights, int64_t batch_size)
      : stream_(std::visit(
            [&](const auto& shared) -> Variant { return cpu::Stream(shared, batch_size); },
            weights.shared())) {}

  py::array step(const py::object& x, const py::object& out) {
    return std::visit([&](auto& stream) { return step_of(stream, x, out); }, stream_);
  }

  void reset(const py::object& rows) {
    std::visit(
        [&](auto& stream) {
          if (rows.is_none()) {
            for (int64_t row = 0; row < stream.batch_size(); ++row) stream.reset(row);
            return;
          }
          const auto numbers = py::cast<py::array_t<int64_t>>(rows);
          for (py::ssize_t i = 0; i < numbers.size(); ++i) stream.reset(numbers.data()[i]);
        },
        stream_);
  }

  py::tuple state() const {
    return std::visit(
        [](const auto& stream) -> py::tuple {
          using T = element<decltype(stream)>;
          const py::ssize_t batch = stream.batch_size();
          py::array_t<T> h({batch, py::ssize_t{stream.weights().output_size()}});
          py::array_t<T> c({batch, py::ssize_t{stream.weights().hidden_size()}});
          stream.read_state(h.mutable_data(), c.mutable_data());
          return py::make_tuple(h, c);
        },
        stream_);
  }

  void set_state(const py::array& h, const py::array& c) {
    std::visit(
        [&](auto& stream) {
          using T = element<decltype(stream)>;
          const int64_t batch = stream.batch_size(), hidden = stream.weights().hidden_size();
          const T* new_h = read<T>(h, "h", {batch, stream.weights().output_size()});
          stream.write_state(new_h, read<T>(c, "c", {batch, hidden}));
        },
        stream_);
  }

 private:
  using Variant = std::variant<cpu::Stream<float>, cpu::Stream<double>, cpu::Stream<cpu::Bfloat16>,
                               cpu::Stream<cpu::Int8>>;
  template <class S>
  using element = std::decay_t<decltype(*std::declval<S>().weights().bias())>;

  template <class F>
  static py::array step_of(cpu::Stream<F>& stream, const py::object& x, const py::object& out) {
    using T = typename cpu::Format<F>::Value;
    const int64_t batch = stream.batch_size(), size = stream.weights().output_size();
    const int64_t features = stream.weights().input_size();
    const auto input = expect<T>(x, "x", batch, features);
    const bool unit_stride = features == 1 || input.strides(1) == py::ssize_t{sizeof(T)};
    if (!unit_stride || input.strides(0) % py::ssize_t{sizeof(T)} != 0) {
      throw py::value_error("x: got scattered features, expected them one after the other");
    }
    auto output = out.is_none() ? py::array(py::array_t<T>({batch, size}))
                                : expect<T>(out, "out", batch, size);
    if (!out.is_none() && !(output.flags() & py::array::c_style)) {
      throw py::value_error("out: got an array that is not contiguous, expected a contiguous one");
    }
    T* const to = static_cast<T*>(output.mutable_data());
    const T* const from = static_cast<const T*>(input.data());
    if (from < to + batch * size && to < from + features) {
      throw py::value_error("out: got memory that x lies in, expected an array of its own");
    }
    const int64_t row_stride = element_stride<T>(input, 0);
    {
      const py::gil_scoped_release release;
      stream.step(from, row_stride, to, 0);
    }
    return output;
  }

  template <class T>
  static py::array expect(const py::object& value, const char* name, int64_t rows,
                          int64_t columns) {
    const char* dtype = sizeof(T) == 4 ? "float32" : "float64";
    const std::string expected = std::string(", expected an array of ") + dtype + " of shape (" +
                                 std::to_string(rows) + ", " + std::to_string(columns) + ")";
    if (!py::isinstance<py::array_t<T>>(value)) {
      const bool is_array = py::isinstance<py::array>(value);
      const py::object got = is_array ? py::object(value.attr("dtype"))
                                      : py::object(py::type::of(value).attr("__name__"));
      throw py::type_error(std::string(name) + ": got " + (is_array ? "an array of " : "") +
                           std::string(py::str(got)) + expected);
    }
    auto array = py::reinterpret_borrow<py::array>(value);
    if (array.ndim() != 2 || array.shape(0) != rows || array.shape(1) != columns) {
      throw py::value_error(std::string(name) + ": got " + text_of(array) + expected);
    }
    return array;
  }

  Variant stream_;
};

}  // namespace

void add_stream(py::module_& module) {
  py::class_<AnyStream>(module, "Stream", "The state of an LSTM, advanced one step at a time.")
      .def(py::init<const Weights&, int64_t>(), py::arg("weights"), py::arg("batch_size"))
      .def("step", &AnyStream::step, py::arg("x"), py::arg("out") = py::none())
      .def("reset", &AnyStream::reset, py::arg("rows") = py::none())
      .def("state", &AnyStream::state)
      .def("set_state", &AnyStream::set_state, py::arg("h"), py::arg("c"));
}

}  // namespace bindings
}  // namespace lstm_ext
