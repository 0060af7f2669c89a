#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"
#include "bindings/call_options.hpp"
#include "bindings/weights.hpp"
#include "cpu/drivers.hpp"
#include "cpu/schedule.hpp"

namespace lstm_ext {
namespace bindings {
namespace {

// What a forward pass reads besides the weights, and where it writes.
struct ForwardArrays {
  py::array x;
  py::object h0, c0;
  bool go_backwards;
  py::object output;
  py::array h, c;
  py::object gates, cells;
  py::object options;  // CallOptions or None

  template <class F>
  LstmForward<typename cpu::Format<F>::Value> call(const cpu::PackedWeights<F>& weights) {
    using T = typename cpu::Format<F>::Value;
    LstmForward<T> call{};
    const LstmShape s = call.shape = shape_of(weights, x);
    const int64_t batch = s.batch_size, hidden = s.hidden_size, size = s.output_size();
    call.go_backwards = go_backwards;
    call.x = read_sequence<T>(x, "x", s, s.input_size, Layout::kAny);
    call.h0 = read_optional<T>(h0, "h0", {batch, size});
    call.c0 = read_optional<T>(c0, "c0", {batch, hidden});
    call.output = write_sequence<T>(output, "output", s, size);
    call.h = write<T>(h, "h", {batch, size});
    call.c = write<T>(c, "c", {batch, hidden});
    if (!options.is_none()) {
      const auto& o = py::cast<const CallOptions&>(options);
      call.slots = o.slots(s);
      call.noise = o.noise<T>(s);
      call.activated = o.activated;
      call.hidden = write_optional<T>(o.hidden, "hidden", {kept(call), hidden});
      call.normed = write_optional<T>(o.normed, "normed", {kept(call), 2 * kNumGates * hidden + 2});
    }
    call.gates = write_optional<T>(gates, "gates", {kept(call), kNumGates * hidden});
    call.cells = write_optional<T>(cells, "cells", {kept(call), hidden});
    if (!call.gates != !call.cells) refuse("cells", "both gates and cells");
    if (cpu::Format<F>::kEncodes && call.gates && !call.activated) {
      refuse("gates", "None beside small weights");
    }
    return call;
  }

 private:
  // The rows of what is kept; not counted if nothing is.
  template <class T>
  int64_t kept(const LstmForward<T>& call) const {
    const bool keeps = !gates.is_none() || call.hidden;
    return keeps || !options.is_none() ? cpu::count_steps(call.shape, call.slots) : 0;
  }
};

// What a backward pass reads besides the weights, and where it writes.
struct BackwardArrays {
  py::array x;
  py::object h0, c0;
  bool go_backwards;
  py::array output, gates, cells;
  py::object d_output, d_h, d_c;
  py::array d_gates;
  py::object d_x;
  py::array d_kernel, d_recurrent_kernel;
  py::object d_bias, d_h0, d_c0;
  py::object d_peephole, d_projection_kernel, d_norm;
  py::object options;  // CallOptions or None
  bool adds_to_d_x;

  template <class T>
  LstmBackward<T> call(const cpu::PackedWeights<T>& weights) {
    LstmBackward<T> call{};
    const LstmShape s = call.shape = shape_of(weights, x);
    const int64_t batch = s.batch_size, hidden = s.hidden_size, columns = kNumGates * hidden;
    const int64_t size = s.output_size();
    call.go_backwards = go_backwards;
    call.adds_to_d_x = adds_to_d_x;
    int64_t kept = batch * s.seq_len;
    if (!options.is_none()) {
      const auto& o = py::cast<const CallOptions&>(options);
      call.slots = o.slots(s);
      call.noise = o.noise<T>(s);
      kept = cpu::count_steps(s, call.slots);
      call.hidden = read_optional<T>(o.hidden, "hidden", {kept, hidden});
      call.normed = write_optional<T>(o.normed, "normed", {kept, 2 * kNumGates * hidden + 2});
    }
    call.x = read_sequence<T>(x, "x", s, s.input_size, Layout::kAny);
    call.h0 = read_optional<T>(h0, "h0", {batch, size});
    call.c0 = read_optional<T>(c0, "c0", {batch, hidden});
    call.output = read_sequence<T>(output, "output", s, size, Layout::kUnitLastStride);
    call.gates = read<T>(gates, "gates", {kept, columns});
    call.cells = read<T>(cells, "cells", {kept, hidden});
    call.d_output = read_sequence<T>(d_output, "d_output", s, size, Layout::kUnitLastStride);
    call.d_h = read_optional<T>(d_h, "d_h", {batch, size});
    call.d_c = read_optional<T>(d_c, "d_c", {batch, hidden});
    call.d_gates = write<T>(d_gates, "d_gates", {kept, columns});
    call.d_x = write_sequence<T>(d_x, "d_x", s, s.input_size);
    call.d_w_ih = write<T>(d_kernel, "d_kernel", {s.input_size, columns});
    call.d_w_hh = write<T>(d_recurrent_kernel, "d_recurrent_kernel", {size, columns});
    call.d_bias = write_optional<T>(d_bias, "d_bias", {columns});
    call.d_h0 = write_optional<T>(d_h0, "d_h0", {batch, size});
    call.d_c0 = write_optional<T>(d_c0, "d_c0", {batch, hidden});
    call.d_peephole = write_optional<T>(d_peephole, "d_peephole", {3 * hidden});
    call.d_w_hr = write_optional<T>(d_projection_kernel, "d_projection_kernel", {hidden, size});
    call.d_norm = write_optional<T>(d_norm, "d_norm", {10 * hidden});
    if (weights.has_norm() && !(call.normed && call.d_norm)) {
      refuse("normed", "normed and d_norm beside layer normalisation");
    }
    if (s.projection_size > 0 && !(call.hidden && call.d_w_hr)) {
      refuse("hidden", "hidden and d_projection_kernel beside a projection");
    }
    return call;
  }
};

template <class F>
void backward(const cpu::PackedWeights<F>& weights, BackwardArrays& arrays, int num_threads) {
  if constexpr (cpu::Format<F>::kEncodes) {
    refuse("weights", "float32 or float64 ones for a backward pass");
  } else {
    const auto call = arrays.call(weights);
    const py::gil_scoped_release release;
    cpu::lstm_backward(weights, call, num_threads);
  }
}

template <class Arrays>
using Calls = std::vector<std::pair<std::shared_ptr<const Weights>, std::shared_ptr<Arrays>>>;

// Calls visitor(tasks) with the calls as tasks for weights of the first one's format, which all
// have.
template <template <class> class Task, class Arrays, class Visitor>
void visit_tasks(Calls<Arrays>& calls, const Visitor& visitor) {
  if (calls.empty()) return;
  calls.front().first->visit([&](const auto& first) {
    using Packed = std::decay_t<decltype(first)>;
    using F = typename Packed::Stored;
    if constexpr (std::is_same_v<Arrays, BackwardArrays> && cpu::Format<F>::kEncodes) {
      refuse("weights", "float32 or float64 ones for a backward pass");
    } else {
      std::vector<Task<F>> tasks;
      for (auto& [weights, arrays] : calls) {
        const Packed* const packed = weights->template get<F>();
        if (packed == nullptr) refuse("weights", "one format for all calls");
        tasks.push_back({packed, arrays->call(*packed)});
      }
      const py::gil_scoped_release release;
      visitor(tasks);
    }
  });
}

}  // namespace

void add_operator(py::module_& module) {
  py::class_<WeightsSource>(module, "WeightsSource",
                            "Arrays of the weights of one LSTM, as they are when they are packed.")
      .def(py::init<py::array, py::array, py::object, py::object, py::object, py::object,
                    CellOptions, std::string, std::string>(),
           py::arg("kernel"), py::arg("recurrent_kernel"), py::arg("bias"), py::arg("peephole"),
           py::arg("projection_kernel"), py::arg("layer_norm"), py::arg("cell"), py::arg("isa"),
           py::arg("weights_dtype"))
      .def(
          "pack",
          [](const WeightsSource& source, bool single_step) {
            return std::make_shared<Weights>(
                source, single_step ? cpu::StepsOf::kSingleStep : cpu::StepsOf::kAnySequence);
          },
          "single_step: for calls of one step from no state only.", py::arg("single_step") = false);

  py::class_<Weights, std::shared_ptr<Weights>>(
      module, "PackedWeights",
      "The weights of one LSTM, copied and laid out for one instruction set.")
      .def_property_readonly(
          "input_size",
          [](const Weights& w) { return w.visit([](const auto& p) { return p.input_size(); }); })
      .def_property_readonly(
          "units",
          [](const Weights& w) { return w.visit([](const auto& p) { return p.hidden_size(); }); })
      .def_property_readonly(
          "output_size",
          [](const Weights& w) { return w.visit([](const auto& p) { return p.output_size(); }); })
      .def_property_readonly(
          "has_peephole",
          [](const Weights& w) {
            return w.visit([](const auto& p) { return p.peephole() != nullptr; });
          })
      .def_property_readonly(
          "has_projection",
          [](const Weights& w) {
            return w.visit([](const auto& p) { return p.projection_size() > 0; });
          })
      .def_property_readonly(
          "has_layer_norm",
          [](const Weights& w) { return w.visit([](const auto& p) { return p.has_norm(); }); })
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

  py::class_<ForwardArrays, std::shared_ptr<ForwardArrays>>(
      module, "ForwardArrays", "The arrays of a forward pass; what is None is not wanted.")
      .def(py::init([](py::array x, py::object h0, py::object c0, bool go_backwards,
                       py::object output, py::array h, py::array c, py::object gates,
                       py::object cells, py::object options) {
             return ForwardArrays{x, h0, c0, go_backwards, output, h, c, gates, cells, options};
           }),
           py::arg("x"), py::arg("h0"), py::arg("c0"), py::arg("go_backwards"), py::arg("output"),
           py::arg("h"), py::arg("c"), py::arg("gates"), py::arg("cells"), py::arg("options"));

  py::class_<BackwardArrays, std::shared_ptr<BackwardArrays>>(
      module, "BackwardArrays", "The arrays of a backward pass; d_gates may be gates.")
      .def(py::init([](py::array x, py::object h0, py::object c0, bool go_backwards,
                       py::array output, py::array gates, py::array cells, py::object d_output,
                       py::object d_h, py::object d_c, py::array d_gates, py::object d_x,
                       py::array d_kernel, py::array d_recurrent_kernel, py::object d_bias,
                       py::object d_h0, py::object d_c0, py::object d_peephole,
                       py::object d_projection_kernel, py::object d_norm, py::object options,
                       bool adds_to_d_x) {
             return BackwardArrays{x,
                                   h0,
                                   c0,
                                   go_backwards,
                                   output,
                                   gates,
                                   cells,
                                   d_output,
                                   d_h,
                                   d_c,
                                   d_gates,
                                   d_x,
                                   d_kernel,
                                   d_recurrent_kernel,
                                   d_bias,
                                   d_h0,
                                   d_c0,
                                   d_peephole,
                                   d_projection_kernel,
                                   d_norm,
                                   options,
                                   adds_to_d_x};
           }),
           py::arg("x"), py::arg("h0"), py::arg("c0"), py::arg("go_backwards"), py::arg("output"),
           py::arg("gates"), py::arg("cells"), py::arg("d_output"), py::arg("d_h"), py::arg("d_c"),
           py::arg("d_gates"), py::arg("d_x"), py::arg("d_kernel"), py::arg("d_recurrent_kernel"),
           py::arg("d_bias"), py::arg("d_h0"), py::arg("d_c0"), py::arg("d_peephole") = py::none(),
           py::arg("d_projection_kernel") = py::none(), py::arg("d_norm") = py::none(),
           py::arg("options") = py::none(), py::arg("adds_to_d_x") = false);

  module.def(
      "lstm_forward",
      [](const Weights& weights, const py::array& x, const py::object& h0, const py::object& c0,
         bool go_backwards, const py::object& output, const py::array& h, const py::array& c,
         const py::object& gates, const py::object& cells, const py::object& options,
         int num_threads) {
        ForwardArrays arrays{x, h0, c0, go_backwards, output, h, c, gates, cells, options};
        weights.visit([&](const auto& w) {
          const auto call = arrays.call(w);
          const py::gil_scoped_release release;
          cpu::lstm_forward(w, call, num_threads);
        });
      },
      "Fills output, h and c, and gates and cells if they are wanted.", py::arg("weights"),
      py::arg("x"), py::arg("h0"), py::arg("c0"), py::arg("go_backwards"), py::arg("output"),
      py::arg("h"), py::arg("c"), py::arg("gates"), py::arg("cells"), py::arg("options"),
      py::arg("num_threads"));

  module.def(
      "lstm_forward_all",
      [](Calls<ForwardArrays> calls, bool chained, int num_threads) {
        visit_tasks<cpu::ForwardTask>(
            calls, [&](const auto& tasks) { cpu::lstm_forward(tasks, chained, num_threads); });
      },
      "Several forward passes, side by side where there are threads for it. Chained: each one's x "
      "is the output of the one before.",
      py::arg("calls"), py::arg("chained"), py::arg("num_threads"));

  module.def(
      "lstm_backward",
      [](const Weights& weights, py::array x, py::object h0, py::object c0, bool go_backwards,
         py::array output, py::array gates, py::array cells, py::object d_output, py::object d_h,
         py::object d_c, py::array d_gates, py::object d_x, py::array d_kernel,
         py::array d_recurrent_kernel, py::object d_bias, py::object d_h0, py::object d_c0,
         py::object d_peephole, py::object d_projection_kernel, py::object d_norm,
         py::object options, bool adds_to_d_x, int num_threads) {
        BackwardArrays arrays{x,
                              h0,
                              c0,
                              go_backwards,
                              output,
                              gates,
                              cells,
                              d_output,
                              d_h,
                              d_c,
                              d_gates,
                              d_x,
                              d_kernel,
                              d_recurrent_kernel,
                              d_bias,
                              d_h0,
                              d_c0,
                              d_peephole,
                              d_projection_kernel,
                              d_norm,
                              options,
                              adds_to_d_x};
        weights.visit([&](const auto& w) { backward(w, arrays, num_threads); });
      },
      "Fills d_gates (which may be gates) and the gradients that are not None.", py::arg("weights"),
      py::arg("x"), py::arg("h0"), py::arg("c0"), py::arg("go_backwards"), py::arg("output"),
      py::arg("gates"), py::arg("cells"), py::arg("d_output"), py::arg("d_h"), py::arg("d_c"),
      py::arg("d_gates"), py::arg("d_x"), py::arg("d_kernel"), py::arg("d_recurrent_kernel"),
      py::arg("d_bias"), py::arg("d_h0"), py::arg("d_c0"), py::arg("d_peephole"),
      py::arg("d_projection_kernel"), py::arg("d_norm"), py::arg("options"), py::arg("adds_to_d_x"),
      py::arg("num_threads"));

  module.def(
      "lstm_backward_all",
      [](Calls<BackwardArrays> calls, int num_threads) {
        visit_tasks<cpu::BackwardTask>(
            calls, [&](const auto& tasks) { cpu::lstm_backward(tasks, num_threads); });
      },
      "Several backward passes; a later one may add to the d_x of one before.", py::arg("calls"),
      py::arg("num_threads"));
}

}  // namespace bindings
}  // namespace lstm_ext
