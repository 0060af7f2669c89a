#include <pybind11/stl.h>

#include <memory>
#include <utility>
#include <vector>

#include "bindings/bindings.hpp"
#include "bindings/given_slots.hpp"
#include "bindings/plain.hpp"
#include "cpu/drivers.hpp"

namespace lstm_ext {
namespace bindings {
namespace {

using WeightsOfAll = std::vector<std::shared_ptr<const Weights>>;

template <class F>
py::object forward(const cpu::PackedWeights<F>& weights, const py::array& x, const py::object& h0,
                   const py::object& c0, bool go_backwards, bool return_sequences) {
  using T = typename cpu::Format<F>::Value;
  Results<T> results;
  const LstmShape s = shape_of(weights, x);
  auto call =
      prepare(s, read_sequence<T>(x, "x", s, s.input_size, Layout::kAny), go_backwards, results);
  read_state(call, h0, c0);
  results.output = results.h;
  if (return_sequences) call.output = new_sequence<T>(s, s.output_size(), results.output);
  {
    const py::gil_scoped_release release;
    cpu::lstm_forward(weights, call, 0);
  }
  return py::make_tuple(std::move(results.output), std::move(results.h), std::move(results.c));
}

// What several calls share.
struct CallsOfAll {
  const WeightsOfAll& weights;
  const py::array& x;
  const py::object& states;  // pairs (h, c), or None
  bool return_sequences;
  const py::object &lengths, &mask, &reset;
  bool zero_output;
};

// Weights of format F, one by one with their number.
template <class F, class Visitor>
void visit_all(const CallsOfAll& calls, const Visitor& visitor) {
  int64_t index = 0;
  for (const auto& weights : calls.weights) {
    const auto* const packed = weights->template get<F>();
    if (packed == nullptr) refuse("weights", "one format for all");
    visitor(*packed, index++);
  }
}

template <class T>
void read_state_of(LstmForward<T>& call, const CallsOfAll& calls, int64_t index) {
  if (calls.states.is_none()) return;
  const auto states = py::reinterpret_borrow<py::sequence>(calls.states);
  if (states.size() != calls.weights.size()) refuse("states", "one for each");
  if (states[index].is_none()) return;
  const auto pair = py::reinterpret_borrow<py::sequence>(states[index]);
  const py::object h = pair[0], c = pair[1];
  read_state(call, h, c);
}

template <class F>
void run(const std::vector<cpu::ForwardTask<F>>& tasks, bool chained) {
  const py::gil_scoped_release release;
  if (tasks.size() == 1) {
    cpu::lstm_forward(*tasks[0].weights, tasks[0].call, 0);
  } else {
    cpu::lstm_forward(tasks, chained, 0);
  }
}

template <class T>
py::list pairs_of(const std::vector<Results<T>>& results) {
  py::list states;
  for (const auto& own : results) states.append(py::make_tuple(own.h, own.c));
  return states;
}

// Layers on top of each other, or a single one.
template <class F>
py::object forward_layers(const cpu::PackedWeights<F>& first, const CallsOfAll& calls,
                          bool go_backwards) {
  using T = typename cpu::Format<F>::Value;
  const LstmShape whole = shape_of(first, calls.x);
  const GivenSlots slots(whole, calls.lengths, calls.mask, calls.reset, calls.zero_output);
  const int64_t count = static_cast<int64_t>(calls.weights.size());
  if (count > 1 && go_backwards) refuse("go_backwards", "false for several layers");
  auto x = read_sequence<T>(calls.x, "x", whole, whole.input_size, Layout::kAny);
  std::vector<cpu::ForwardTask<F>> tasks;
  std::vector<Results<T>> results(count);
  int64_t features = whole.input_size;
  visit_all<F>(calls, [&](const auto& weights, int64_t index) {
    const LstmShape s = weights.shape(whole.batch_size, whole.seq_len);
    if (s.input_size != features) refuse("weights", "a layer for the outputs of the one before");
    auto call = prepare(s, x, go_backwards, results[index]);
    read_state_of(call, calls, index);
    call.slots = slots.slots();
    features = s.output_size();
    if (calls.return_sequences || index + 1 < count) {
      call.output = new_sequence<T>(s, features, results[index].output);
      x = {call.output.data, call.output.batch_stride, call.output.time_stride, 1};
    }
    tasks.push_back({&weights, call});
  });
  run(tasks, true);
  auto& last = results.back();
  if (!calls.return_sequences) last.output = slots.silenced<T>(last.h, go_backwards);
  return py::make_tuple(last.output, pairs_of(results));
}

// A layer that reads forwards and one that reads backwards; the output has theirs side by side, in
// the order of time.
template <class F>
py::object forward_directions(const cpu::PackedWeights<F>& first, const CallsOfAll& calls) {
  using T = typename cpu::Format<F>::Value;
  if (calls.weights.size() != 2) refuse("weights", "two");
  const LstmShape whole = shape_of(first, calls.x);
  const GivenSlots slots(whole, calls.lengths, calls.mask, calls.reset, calls.zero_output);
  const auto x = read_sequence<T>(calls.x, "x", whole, whole.input_size, Layout::kAny);
  int64_t size = 0;
  visit_all<F>(calls, [&](const auto& weights, int64_t) {
    const LstmShape s = weights.shape(whole.batch_size, whole.seq_len);
    if (s.input_size != whole.input_size) refuse("weights", "inputs of one size");
    size += s.output_size();
  });
  std::vector<cpu::ForwardTask<F>> tasks;
  std::vector<Results<T>> results(2);
  py::object output;
  Sequence<T> both{};
  if (calls.return_sequences) both = new_sequence<T>(whole, size, output);
  visit_all<F>(calls, [&](const auto& weights, int64_t index) {
    const bool backwards = index == 1;
    auto call =
        prepare(weights.shape(whole.batch_size, whole.seq_len), x, backwards, results[index]);
    read_state_of(call, calls, index);
    call.slots = slots.slots();
    const int64_t offset = backwards ? size - call.shape.output_size() : 0;
    call.output = part_of(both, whole.seq_len, offset, backwards);
    tasks.push_back({&weights, call});
  });
  run(tasks, false);
  if (!calls.return_sequences) {
    output = beside(slots.silenced<T>(results[0].h, false), slots.silenced<T>(results[1].h, true));
  }
  return py::make_tuple(std::move(output), pairs_of(results));
}

template <class Visitor>
py::object for_first(const WeightsOfAll& all, const Visitor& visitor) {
  return or_none([&] {
    if (all.empty()) refuse("weights", "at least one");
    return all.front()->visit([&](const auto& first) -> py::object { return visitor(first); });
  });
}

}  // namespace

void add_plain_forward(py::module_& module) {
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
      "lstm_plain_layers",
      [](const WeightsOfAll& weights, const py::array& x, const py::object& states,
         bool go_backwards, bool return_sequences, const py::object& lengths,
         const py::object& mask, const py::object& reset, bool zero_output) {
        return for_first(weights, [&](const auto& first) {
          return forward_layers(
              first, {weights, x, states, return_sequences, lengths, mask, reset, zero_output},
              go_backwards);
        });
      },
      "Returns the output of the last layer and the pairs (h, c) of all, or None if an array does "
      "not fit.",
      py::arg("weights"), py::arg("x"), py::arg("states"), py::arg("go_backwards"),
      py::arg("return_sequences"), py::arg("lengths"), py::arg("mask"), py::arg("reset"),
      py::arg("zero_output"));

  module.def(
      "lstm_plain_directions",
      [](const WeightsOfAll& weights, const py::array& x, const py::object& states,
         bool return_sequences, const py::object& lengths, const py::object& mask,
         const py::object& reset, bool zero_output) {
        return for_first(weights, [&](const auto& first) {
          return forward_directions(
              first, {weights, x, states, return_sequences, lengths, mask, reset, zero_output});
        });
      },
      "Returns the outputs of two directions side by side and the pair (h, c) of each, or None if "
      "an array does not fit.",
      py::arg("weights"), py::arg("x"), py::arg("states"), py::arg("return_sequences"),
      py::arg("lengths"), py::arg("mask"), py::arg("reset"), py::arg("zero_output"));
}

}  // namespace bindings
}  // namespace lstm_ext
