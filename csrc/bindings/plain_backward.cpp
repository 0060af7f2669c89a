#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "bindings/bindings.hpp"
#include "bindings/given_slots.hpp"
#include "bindings/plain.hpp"
#include "cpu/drivers.hpp"
#include "cpu/schedule.hpp"

namespace lstm_ext {
namespace bindings {
namespace {

// A forward pass that carries gradients back, once.
class PlainPass {
 public:
  virtual ~PlainPass() = default;
  // The gradient of the output -> (d_x or None, a list [d_kernel, d_recurrent_kernel, d_bias] for
  // each direction); None, and it may be called again, if that is no contiguous array that fits.
  virtual py::object pull_back(const py::object& d_output, bool need_x) = 0;
};

// What a pass reads besides x and the weights. All but states may be None.
struct Given {
  std::vector<std::pair<py::object, py::object>> states;  // (h, c) of each direction
  const py::object &lengths, &mask, &reset;
  bool zero_output;
};

template <class T>
struct Direction {
  std::shared_ptr<const cpu::PackedWeights<T>> weights;
  bool go_backwards;
  int64_t offset;  // of its features in the output
  Results<T> results{};
  cpu::Buffer<T> gates{}, cells{};
  LstmBackward<T> back{};  // all but the gradients
};

// Of one LSTM, or of two that read in either direction, whose outputs stand side by side in the
// order of time. Cells may differ from the plain one, but have no gradients or state of their own.
template <class T>
class PassOf : public PlainPass {
 public:
  PassOf(std::vector<Direction<T>> directions, const py::array& x, bool return_sequences,
         const Given& given)
      : directions_(std::move(directions)),
        x_(x),
        states_(given.states),
        return_sequences_(return_sequences),
        whole_(shape_of(*directions_[0].weights, x)),
        slots_(whole_, given.lengths, given.mask, given.reset, given.zero_output) {
    for (const auto& own : directions_) {
      const auto& w = *own.weights;
      if (w.projection_size() > 0 || w.has_norm() || w.peephole()) refuse("weights", "plain ones");
      if (w.input_size() != whole_.input_size) refuse("weights", "inputs of one size");
      size_ += w.hidden_size();
    }
    const auto both = new_sequence<T>(whole_, size_, output_);
    std::vector<cpu::ForwardTask<T>> tasks;
    for (auto& own : directions_) tasks.push_back({own.weights.get(), begin(own, both)});
    const py::gil_scoped_release release;
    if (tasks.size() == 1) {
      cpu::lstm_forward(*tasks[0].weights, tasks[0].call, 0);
    } else {
      cpu::lstm_forward(tasks, false, 0);
    }
  }

  // The output of the pass: of every slot, or of the last ones.
  py::object output() const {
    if (return_sequences_) return output_;
    if (!is_pair()) return last_of(directions_[0]);
    return beside(last_of(directions_[0]), last_of(directions_[1]));
  }

  const std::vector<Direction<T>>& directions() const { return directions_; }

  // (h, c) of each direction.
  py::list states() const {
    py::list pairs;
    for (const auto& own : directions_) pairs.append(py::make_tuple(own.results.h, own.results.c));
    return pairs;
  }

  py::object pull_back(const py::object& d_output, bool need_x) override {
    if (was_called_) refuse("backward", "to be called once: it was before");
    if (!py::isinstance<py::array>(d_output)) return py::none();
    Sequence<const T> d_sequence{nullptr, 0, 0, 1};
    const T* d_last = nullptr;
    try {
      if (return_sequences_) {
        d_sequence = read_sequence<T>(d_output, "d_output", whole_, size_, Layout::kContiguous);
      } else {
        const auto array = py::reinterpret_borrow<py::array>(d_output);
        d_last = read<T>(array, "d_output", {whole_.batch_size, size_});
      }
    } catch (const py::value_error&) {
      return py::none();
    }
    py::object d_x = py::none();
    Sequence<T> d_inputs{nullptr, 0, 0, 1};
    if (need_x) {
      d_inputs = new_sequence<T>(whole_, whole_.input_size, d_x);
      // Where there is no step the pass writes nothing.
      const int64_t count = whole_.batch_size * whole_.seq_len * whole_.input_size;
      if (slots_.skips()) std::fill_n(d_inputs.data, count, T(0));
    }
    py::list gradients;
    std::vector<Array<T>> d_h;  // holds what the tasks point to
    std::vector<cpu::BackwardTask<T>> tasks;
    for (auto& own : directions_) {
      auto call = own.back;
      const int64_t units = call.shape.hidden_size;
      call.d_output =
          part_of(d_sequence, whole_.seq_len, own.offset, is_pair() && own.go_backwards);
      call.d_h = d_last;
      if (d_last && (is_pair() || slots_.skips())) {
        d_h.push_back(slots_.silenced(d_last + own.offset, whole_.batch_size, units, size_,
                                      own.go_backwards));
        call.d_h = d_h.back().data();
      }
      call.d_x = d_inputs;
      call.adds_to_d_x = !tasks.empty();
      gradients.append(gradients_of(own, call));
      tasks.push_back({own.weights.get(), call});
    }
    was_called_ = true;
    {
      const py::gil_scoped_release release;
      if (tasks.size() == 1) {
        cpu::lstm_backward(*tasks[0].weights, tasks[0].call, 0);
      } else {
        cpu::lstm_backward(tasks, 0);
      }
    }
    for (auto& own : directions_) own.gates = {};
    return py::make_tuple(std::move(d_x), std::move(gradients));
  }

 private:
  bool is_pair() const { return directions_.size() > 1; }

  LstmForward<T> begin(Direction<T>& own, Sequence<T> both) {
    const auto& w = *own.weights;
    const LstmShape s = shape_of(w, x_);
    auto call = prepare(s, read_sequence<T>(x_, "x", s, s.input_size, Layout::kAny),
                        own.go_backwards, own.results);
    const auto& [h0, c0] = states_[&own - directions_.data()];
    read_state(call, h0, c0);
    call.slots = slots_.slots();
    call.output = part_of(both, s.seq_len, own.offset, is_pair() && own.go_backwards);
    // Without a single step there are arrays too, as null would say that they are not wanted.
    const int64_t steps = std::max<int64_t>(cpu::count_steps(s, call.slots), 1);
    own.gates = cpu::Buffer<T>(steps * kNumGates * s.hidden_size);
    own.cells = cpu::Buffer<T>(steps * s.hidden_size);
    call.gates = own.gates.data();
    call.cells = own.cells.data();
    auto& back = own.back;
    back.shape = s;
    back.go_backwards = own.go_backwards;
    back.x = call.x;
    back.h0 = call.h0;
    back.c0 = call.c0;
    back.slots = call.slots;
    back.output = {call.output.data, call.output.batch_stride, call.output.time_stride, 1};
    back.gates = back.d_gates = own.gates.data();
    back.cells = own.cells.data();
    return call;
  }

  Array<T> last_of(const Direction<T>& own) const {
    return slots_.silenced<T>(own.results.h, own.go_backwards);
  }

  // Makes the arrays of the weights' gradients.
  static py::list gradients_of(const Direction<T>& own, LstmBackward<T>& call) {
    const LstmShape& s = call.shape;
    const int64_t columns = kNumGates * s.hidden_size;
    auto d_w_ih = new_array<T>({s.input_size, columns});
    auto d_w_hh = new_array<T>({s.hidden_size, columns});
    call.d_w_ih = d_w_ih.mutable_data();
    call.d_w_hh = d_w_hh.mutable_data();
    py::list gradients;
    gradients.append(d_w_ih);
    gradients.append(d_w_hh);
    if (own.weights->has_bias()) {
      auto d_bias = new_array<T>({columns});
      call.d_bias = d_bias.mutable_data();
      gradients.append(d_bias);
    }
    return gradients;
  }

  std::vector<Direction<T>> directions_;
  const py::array x_;
  const std::vector<std::pair<py::object, py::object>> states_;
  const bool return_sequences_;
  const LstmShape whole_;  // of the first direction
  const GivenSlots slots_;
  int64_t size_ = 0;  // of the output
  py::object output_;
  bool was_called_ = false;
};

template <class F>
py::object vjp(const std::shared_ptr<const cpu::PackedWeights<F>>& weights, const py::array& x,
               bool go_backwards, bool return_sequences, const Given& given) {
  if constexpr (cpu::Format<F>::kEncodes) {
    return py::none();
  } else {
    std::vector<Direction<F>> directions;
    directions.push_back({weights, go_backwards, 0});
    auto pass = std::make_shared<PassOf<F>>(std::move(directions), x, return_sequences, given);
    const Results<F>& results = pass->directions()[0].results;
    return py::make_tuple(pass->output(), results.h, results.c,
                          std::static_pointer_cast<PlainPass>(std::move(pass)));
  }
}

template <class F>
py::object vjp_of_both(const std::shared_ptr<const cpu::PackedWeights<F>>& forward,
                       const Weights& backward, const py::array& x, bool return_sequences,
                       const Given& given) {
  if constexpr (cpu::Format<F>::kEncodes) {
    return py::none();
  } else {
    using Shared = std::shared_ptr<const cpu::PackedWeights<F>>;
    const auto* const other = std::get_if<Shared>(&backward.shared());
    if (other == nullptr) refuse("weights", "one format for both");
    std::vector<Direction<F>> directions;
    directions.push_back({forward, false, 0});
    directions.push_back({*other, true, forward->hidden_size()});
    auto pass = std::make_shared<PassOf<F>>(std::move(directions), x, return_sequences, given);
    py::object output = pass->output();
    py::list states = pass->states();
    return py::make_tuple(std::move(output), std::move(states),
                          std::static_pointer_cast<PlainPass>(std::move(pass)));
  }
}

}  // namespace

void add_plain_backward(py::module_& module) {
  py::class_<PlainPass, std::shared_ptr<PlainPass>>(module, "PlainPass")
      .def("pull_back", &PlainPass::pull_back, py::arg("d_output"), py::arg("need_x"));

  module.def(
      "lstm_vjp_plain",
      [](const Weights& weights, const py::array& x, bool go_backwards, bool return_sequences,
         const py::object& h0, const py::object& c0, const py::object& lengths,
         const py::object& mask, const py::object& reset, bool zero_output) {
        return or_none([&] {
          return std::visit(
              [&](const auto& shared) {
                return vjp(shared, x, go_backwards, return_sequences,
                           {{{h0, c0}}, lengths, mask, reset, zero_output});
              },
              weights.shared());
        });
      },
      "Returns output, h, c and what carries the gradient of output back, or None if something "
      "does not fit.",
      py::arg("weights"), py::arg("x"), py::arg("go_backwards"), py::arg("return_sequences"),
      py::arg("h0") = py::none(), py::arg("c0") = py::none(), py::arg("lengths") = py::none(),
      py::arg("mask") = py::none(), py::arg("reset") = py::none(), py::arg("zero_output") = false);

  module.def(
      "lstm_vjp_plain_directions",
      [](const Weights& forward, const Weights& backward, const py::array& x,
         const std::vector<std::pair<py::object, py::object>>& states, bool return_sequences,
         const py::object& lengths, const py::object& mask, const py::object& reset,
         bool zero_output) {
        return or_none([&] {
          if (states.size() != 2) refuse("states", "one for each");
          return std::visit(
              [&](const auto& shared) {
                return vjp_of_both(shared, backward, x, return_sequences,
                                   {states, lengths, mask, reset, zero_output});
              },
              forward.shared());
        });
      },
      "Returns the outputs of two directions side by side, the pair (h, c) of each and what "
      "carries "
      "the gradient of output back, or None if something does not fit.",
      py::arg("forward"), py::arg("backward"), py::arg("x"), py::arg("states"),
      py::arg("return_sequences"), py::arg("lengths"), py::arg("mask"), py::arg("reset"),
      py::arg("zero_output"));
}

}  // namespace bindings
}  // namespace lstm_ext
