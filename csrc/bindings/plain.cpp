// Calls with whole sequences and no options, as layers make most of theirs: one native call each,
// which allocates the results. Small ones take less time than checking all options of the operator
// would. What does not fit is left to lstm_ext.functional, which finds words for it.
#include <initializer_list>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/bindings.hpp"
#include "bindings/weights.hpp"
#include "cpu/drivers.hpp"

namespace lstm_ext {
namespace bindings {
namespace {

template <class T>
using Array = py::array_t<T>;

template <class T>
Array<T> new_array(std::initializer_list<int64_t> shape) {
  return Array<T>(std::vector<py::ssize_t>(shape));
}

// Results of a forward pass.
template <class T>
struct Results {
  py::object output;
  Array<T> h, c;
};

// Fills in what such a call has but its state. Throws where x does not fit.
template <class F, class T = typename cpu::Format<F>::Value>
LstmForward<T> prepare(const cpu::PackedWeights<F>& weights, const py::array& x, bool go_backwards,
                       Results<T>& results) {
  LstmForward<T> call{};
  const LstmShape s = call.shape = shape_of(weights, x);
  call.go_backwards = go_backwards;
  call.x = read_sequence<T>(x, "x", s, s.input_size, Layout::kAny);
  results.h = new_array<T>({s.batch_size, s.output_size()});
  results.c = new_array<T>({s.batch_size, s.hidden_size});
  call.h = results.h.mutable_data();
  call.c = results.c.mutable_data();
  return call;
}

template <class T>
Sequence<T> new_sequence(const LstmShape& s, py::object& array) {
  const int64_t size = s.output_size();
  auto sequence = new_array<T>({s.batch_size, s.seq_len, size});
  T* const data = sequence.mutable_data();
  array = std::move(sequence);
  return {data, s.seq_len * size, size, 1};
}

// function(), or None where it finds that something does not fit, or memory does not suffice.
template <class Function>
py::object or_none(const Function& function) {
  try {
    return function();
  } catch (const py::value_error&) {
  } catch (const std::bad_alloc&) {
  } catch (const py::error_already_set&) {
  }
  return py::none();
}

template <class F>
py::object forward(const cpu::PackedWeights<F>& weights, const py::array& x, const py::object& h0,
                   const py::object& c0, bool go_backwards, bool return_sequences) {
  using T = typename cpu::Format<F>::Value;
  Results<T> results;
  auto call = prepare(weights, x, go_backwards, results);
  call.h0 = read_optional<T>(h0, "h0", {call.shape.batch_size, call.shape.output_size()});
  call.c0 = read_optional<T>(c0, "c0", {call.shape.batch_size, call.shape.hidden_size});
  results.output = results.h;
  if (return_sequences) call.output = new_sequence<T>(call.shape, results.output);
  {
    const py::gil_scoped_release release;
    cpu::lstm_forward(weights, call, 0);
  }
  return py::make_tuple(std::move(results.output), std::move(results.h), std::move(results.c));
}

// A forward pass that carries gradients back, once.
class PlainPass {
 public:
  virtual ~PlainPass() = default;
  // The gradient of the output, contiguous -> (d_x or None, [d_kernel, d_recurrent_kernel,
  // d_bias]).
  virtual py::tuple pull_back(const py::array& d_output, bool need_x) = 0;
};

// Of a plain LSTM or one whose cells differ, but without what has gradients or state of its own.
template <class T>
class PassOf : public PlainPass {
 public:
  PassOf(std::shared_ptr<const cpu::PackedWeights<T>> weights, const py::array& x,
         bool go_backwards, bool return_sequences)
      : weights_(std::move(weights)), x_(x), return_sequences_(return_sequences) {
    const auto& w = *weights_;
    if (w.projection_size() > 0 || w.has_norm() || w.peephole()) refuse("weights", "plain ones");
    auto call = prepare(w, x, go_backwards, results_);
    call.output = new_sequence<T>(call.shape, results_.output);
    const int64_t steps = call.shape.batch_size * call.shape.seq_len;
    gates_ = cpu::Buffer<T>(steps * kNumGates * w.hidden_size());
    cells_ = cpu::Buffer<T>(steps * w.hidden_size());
    call.gates = gates_.data();
    call.cells = cells_.data();
    {
      const py::gil_scoped_release release;
      cpu::lstm_forward(w, call, 0);
    }
    back_.shape = call.shape;
    back_.go_backwards = go_backwards;
    back_.x = call.x;
    back_.output = {call.output.data, call.output.batch_stride, call.output.time_stride, 1};
    back_.gates = back_.d_gates = gates_.data();
    back_.cells = cells_.data();
  }

  py::tuple results() const {
    const py::object h = results_.h;
    return py::make_tuple(return_sequences_ ? results_.output : h, h, results_.c);
  }

  py::tuple pull_back(const py::array& d_output, bool need_x) override {
    if (!gates_.data()) refuse("backward", "to be called once: it was before");
    const LstmShape& s = back_.shape;
    const int64_t columns = kNumGates * s.hidden_size;
    auto call = back_;
    if (return_sequences_) {
      call.d_output = read_sequence<T>(d_output, "d_output", s, s.hidden_size, Layout::kContiguous);
    } else {
      call.d_h = read<T>(d_output, "d_output", {s.batch_size, s.hidden_size});
    }
    py::object d_x = py::none();
    if (need_x) {
      auto array = new_array<T>({s.batch_size, s.seq_len, s.input_size});
      call.d_x = {array.mutable_data(), s.seq_len * s.input_size, s.input_size, 1};
      d_x = std::move(array);
    }
    auto d_w_ih = new_array<T>({s.input_size, columns});
    auto d_w_hh = new_array<T>({s.hidden_size, columns});
    call.d_w_ih = d_w_ih.mutable_data();
    call.d_w_hh = d_w_hh.mutable_data();
    py::list gradients;
    gradients.append(d_w_ih);
    gradients.append(d_w_hh);
    if (weights_->has_bias()) {
      auto d_bias = new_array<T>({columns});
      call.d_bias = d_bias.mutable_data();
      gradients.append(d_bias);
    }
    {
      const py::gil_scoped_release release;
      cpu::lstm_backward(*weights_, call, 0);
    }
    gates_ = {};
    return py::make_tuple(std::move(d_x), std::move(gradients));
  }

 private:
  const std::shared_ptr<const cpu::PackedWeights<T>> weights_;
  const py::array x_;
  const bool return_sequences_;
  Results<T> results_;
  cpu::Buffer<T> gates_, cells_;
  LstmBackward<T> back_{};  // all but the gradients
};

template <class F>
py::object vjp(const std::shared_ptr<const cpu::PackedWeights<F>>& weights, const py::array& x,
               bool go_backwards, bool return_sequences) {
  if constexpr (cpu::Format<F>::kEncodes) {
    return py::none();
  } else {
    auto pass = std::make_shared<PassOf<F>>(weights, x, go_backwards, return_sequences);
    py::tuple results = pass->results();
    return py::make_tuple(results[0], results[1], results[2],
                          std::static_pointer_cast<PlainPass>(std::move(pass)));
  }
}

}  // namespace

void add_plain(py::module_& module) {
  py::class_<PlainPass, std::shared_ptr<PlainPass>>(module, "PlainPass")
      .def("pull_back", &PlainPass::pull_back, py::arg("d_output"), py::arg("need_x"));

  module.def(
      "lstm_plain",
      [](const Weights& weights, const py::array& x, const py::object& h0, const py::object& c0,
         bool go_backwards, bool return_sequences) {
        return or_none([&] {
          return weights.visit(
              [&](const auto& w) { return forward(w, x, h0, c0, go_backwards, return_sequences); });
        });
      },
      "Returns output, h and c, or None if an array does not fit.", py::arg("weights"),
      py::arg("x"), py::arg("h0"), py::arg("c0"), py::arg("go_backwards"),
      py::arg("return_sequences"));

  module.def(
      "lstm_vjp_plain",
      [](const Weights& weights, const py::array& x, bool go_backwards, bool return_sequences) {
        return or_none([&] {
          return std::visit(
              [&](const auto& shared) { return vjp(shared, x, go_backwards, return_sequences); },
              weights.shared());
        });
      },
      "Returns output, h, c and what carries the gradient of output back, or None if x or the "
      "weights do not fit.",
      py::arg("weights"), py::arg("x"), py::arg("go_backwards"), py::arg("return_sequences"));
}

}  // namespace bindings
}  // namespace lstm_ext
