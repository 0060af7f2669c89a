#include <string>

#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"
#include "bindings/weights.hpp"
#include "cpu/drivers.hpp"

namespace lstm_ext {
namespace bindings {
namespace {

template <class F>
LstmShape shape_of(const cpu::PackedWeights<F>& weights, const py::array& x) {
  if (x.ndim() != 3) refuse("x", "3 dimensions");
  return {x.shape(0), x.shape(1), weights.input_size(), weights.hidden_size()};
}

template <class F>
void forward(const cpu::PackedWeights<F>& weights, const py::array& x, const py::object& h0,
             const py::object& c0, bool go_backwards, const py::object& output, py::array& h,
             py::array& c, const py::object& gates, const py::object& cells, int num_threads) {
  using T = typename cpu::Format<F>::Value;
  LstmForward<T> call{};
  const LstmShape s = call.shape = shape_of(weights, x);
  const int64_t batch = s.batch_size, hidden = s.hidden_size;
  call.go_backwards = go_backwards;
  call.x = read_sequence<T>(x, "x", s, s.input_size, Layout::kAny);
  call.h0 = read_optional<T>(h0, "h0", {batch, hidden});
  call.c0 = read_optional<T>(c0, "c0", {batch, hidden});
  call.output = write_sequence<T>(output, "output", s, hidden);
  call.h = write<T>(h, "h", {batch, hidden});
  call.c = write<T>(c, "c", {batch, hidden});
  call.gates = write_optional<T>(gates, "gates", {s.seq_len, batch, kNumGates * hidden});
  call.cells = write_optional<T>(cells, "cells", {s.seq_len, batch, hidden});
  if ((call.gates == nullptr) != (call.cells == nullptr)) refuse("cells", "both gates and cells");
  if (cpu::Format<F>::kEncodes && call.gates) refuse("gates", "None beside small weights");
  const py::gil_scoped_release release;
  cpu::lstm_forward(weights, call, num_threads);
}

// What a backward pass reads besides the weights, and where it writes.
struct BackwardArrays {
  py::array x, output, gates, cells;
  py::object h0, c0, d_output, d_h, d_c;
  py::array d_gates;
  py::object d_x;
  py::array d_kernel, d_recurrent_kernel;
  py::object d_bias, d_h0, d_c0;
};

template <class T>
void run_backward(const cpu::PackedWeights<T>& weights, BackwardArrays& a, bool go_backwards,
                  int num_threads) {
  LstmBackward<T> call{};
  const LstmShape s = call.shape = shape_of(weights, a.x);
  const int64_t batch = s.batch_size, hidden = s.hidden_size, columns = kNumGates * hidden;
  call.go_backwards = go_backwards;
  call.x = read_sequence<T>(a.x, "x", s, s.input_size, Layout::kAny);
  call.h0 = read_optional<T>(a.h0, "h0", {batch, hidden});
  call.c0 = read_optional<T>(a.c0, "c0", {batch, hidden});
  call.output = read_sequence<T>(a.output, "output", s, hidden, Layout::kUnitLastStride);
  call.gates = read<T>(a.gates, "gates", {s.seq_len, batch, columns});
  call.cells = read<T>(a.cells, "cells", {s.seq_len, batch, hidden});
  call.d_output = read_sequence<T>(a.d_output, "d_output", s, hidden, Layout::kUnitLastStride);
  call.d_h = read_optional<T>(a.d_h, "d_h", {batch, hidden});
  call.d_c = read_optional<T>(a.d_c, "d_c", {batch, hidden});
  call.d_gates = write<T>(a.d_gates, "d_gates", {s.seq_len, batch, columns});
  call.d_x = write_sequence<T>(a.d_x, "d_x", s, s.input_size);
  call.d_w_ih = write<T>(a.d_kernel, "d_kernel", {s.input_size, columns});
  call.d_w_hh = write<T>(a.d_recurrent_kernel, "d_recurrent_kernel", {hidden, columns});
  call.d_bias = write_optional<T>(a.d_bias, "d_bias", {columns});
  call.d_h0 = write_optional<T>(a.d_h0, "d_h0", {batch, hidden});
  call.d_c0 = write_optional<T>(a.d_c0, "d_c0", {batch, hidden});
  const py::gil_scoped_release release;
  cpu::lstm_backward(weights, call, num_threads);
}

template <class F>
void backward(const cpu::PackedWeights<F>& weights, BackwardArrays& a, bool go_backwards,
              int num_threads) {
  if constexpr (cpu::Format<F>::kEncodes) {
    refuse("weights", "float32 or float64 ones for a backward pass");
  } else {
    run_backward<F>(weights, a, go_backwards, num_threads);
  }
}

}  // namespace

void add_operator(py::module_& module) {
  py::class_<Weights>(module, "PackedWeights",
                      "The weights of one LSTM, copied and laid out for one instruction set.")
      .def(py::init<const py::array&, const py::array&, const py::object&, const std::string&,
                    const std::string&>(),
           py::arg("kernel"), py::arg("recurrent_kernel"), py::arg("bias"), py::arg("isa"),
           py::arg("weights_dtype"))
      .def_property_readonly(
          "input_size",
          [](const Weights& w) { return w.visit([](const auto& p) { return p.input_size(); }); })
      .def_property_readonly(
          "units",
          [](const Weights& w) { return w.visit([](const auto& p) { return p.hidden_size(); }); })
      .def_property_readonly(
          "has_bias",
          [](const Weights& w) { return w.visit([](const auto& p) { return p.has_bias(); }); })
      .def_property_readonly("isa",
                             [](const Weights& w) {
                               return w.visit([](const auto& p) { return p.kernel_set().name; });
                             })
      .def_property_readonly(
          "weights_dtype",
          [](const Weights& w) { return w.visit([](const auto& p) { return weights_dtype(p); }); })
      .def_property_readonly("dtype", [](const Weights& w) {
        return w.visit(
            [](const auto& p) { return py::dtype::of<std::decay_t<decltype(*p.bias())>>(); });
      });

  module.def(
      "lstm_forward",
      [](const Weights& weights, const py::array& x, const py::object& h0, const py::object& c0,
         bool go_backwards, const py::object& output, py::array& h, py::array& c,
         const py::object& gates, const py::object& cells, int num_threads) {
        weights.visit([&](const auto& w) {
          forward(w, x, h0, c0, go_backwards, output, h, c, gates, cells, num_threads);
        });
      },
      "Fills output, h and c, and gates and cells if a backward pass is to follow.",
      py::arg("weights"), py::arg("x"), py::arg("h0"), py::arg("c0"), py::arg("go_backwards"),
      py::arg("output"), py::arg("h"), py::arg("c"), py::arg("gates"), py::arg("cells"),
      py::arg("num_threads"));

  module.def(
      "lstm_backward",
      [](const Weights& weights, py::array x, py::object h0, py::object c0, bool go_backwards,
         py::array output, py::array gates, py::array cells, py::object d_output, py::object d_h,
         py::object d_c, py::array d_gates, py::object d_x, py::array d_kernel,
         py::array d_recurrent_kernel, py::object d_bias, py::object d_h0, py::object d_c0,
         int num_threads) {
        BackwardArrays arrays{x,
                              output,
                              gates,
                              cells,
                              h0,
                              c0,
                              d_output,
                              d_h,
                              d_c,
                              d_gates,
                              d_x,
                              d_kernel,
                              d_recurrent_kernel,
                              d_bias,
                              d_h0,
                              d_c0};
        weights.visit([&](const auto& w) { backward(w, arrays, go_backwards, num_threads); });
      },
      "Fills d_gates (which may be gates) and the gradients that are not None.", py::arg("weights"),
      py::arg("x"), py::arg("h0"), py::arg("c0"), py::arg("go_backwards"), py::arg("output"),
      py::arg("gates"), py::arg("cells"), py::arg("d_output"), py::arg("d_h"), py::arg("d_c"),
      py::arg("d_gates"), py::arg("d_x"), py::arg("d_kernel"), py::arg("d_recurrent_kernel"),
      py::arg("d_bias"), py::arg("d_h0"), py::arg("d_c0"), py::arg("num_threads"));
}

}  // namespace bindings
}  // namespace lstm_ext
