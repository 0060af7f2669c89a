// Calls of layers that are given nothing but sequences, states and which slots are steps: one
// native call each, which allocates the results. Small ones take less time than checking all
// options of the operator would. What does not fit is left to lstm_ext.functional, which finds
// words for it.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <new>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/weights.hpp"

namespace lstm_ext {
namespace bindings {

template <class T>
using Array = py::array_t<T>;

template <class T>
Array<T> new_array(std::initializer_list<int64_t> shape) {
  return Array<T>(std::vector<py::ssize_t>(shape));
}

// Results of a forward pass, arrays of T. Not declared as such: an empty array takes as long to
// make as one with values.
template <class T>
struct Results {
  py::object output, h, c;
};

// Fills in what a call has but its output, its state and its slots.
template <class T>
LstmForward<T> prepare(const LstmShape& shape, Sequence<const T> x, bool go_backwards,
                       Results<T>& results) {
  LstmForward<T> call{};
  call.shape = shape;
  call.go_backwards = go_backwards;
  call.x = x;
  auto h = new_array<T>({shape.batch_size, shape.output_size()});
  auto c = new_array<T>({shape.batch_size, shape.hidden_size});
  call.h = h.mutable_data();
  call.c = c.mutable_data();
  results.h = std::move(h);
  results.c = std::move(c);
  return call;
}

template <class T>
void read_state(LstmForward<T>& call, const py::object& h0, const py::object& c0) {
  call.h0 = read_optional<T>(h0, "h0", {call.shape.batch_size, call.shape.output_size()});
  call.c0 = read_optional<T>(c0, "c0", {call.shape.batch_size, call.shape.hidden_size});
}

// Makes an array (B, T, size) and returns its view.
template <class T>
Sequence<T> new_sequence(const LstmShape& s, int64_t size, py::object& array) {
  auto sequence = new_array<T>({s.batch_size, s.seq_len, size});
  T* const data = sequence.mutable_data();
  array = std::move(sequence);
  return {data, s.seq_len * size, size, 1};
}

// What a direction has of (B, T, ...) in the order of time: its features, from `offset` on, in the
// order of its slots.
template <class T>
Sequence<T> part_of(Sequence<T> both, int64_t seq_len, int64_t offset, bool backwards) {
  if (!both) return both;
  both.data += offset;
  if (backwards && seq_len > 0) {
    both.data += (seq_len - 1) * both.time_stride;
    both.time_stride = -both.time_stride;
  }
  return both;
}

// (B, P) and (B, P') side by side.
template <class T>
Array<T> beside(const Array<T>& first, const Array<T>& second) {
  const int64_t rows = first.shape(0), left = first.shape(1), right = second.shape(1);
  auto joined = new_array<T>({rows, left + right});
  T* to = joined.mutable_data();
  for (int64_t row = 0; row < rows; ++row) {
    to = std::copy_n(first.data() + row * left, left, to);
    to = std::copy_n(second.data() + row * right, right, to);
  }
  return joined;
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

}  // namespace bindings
}  // namespace lstm_ext
