// NumPy arrays as the operator's views. Checked here: element type, shape, and that elements lie at
// whole-element strides. What a user did wrong is said earlier, in lstm_ext.functional; these
// errors guard the raw pointers.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <string>
#include <type_traits>

#include "lstm.hpp"

namespace lstm_ext {
namespace bindings {

namespace py = pybind11;

enum class Layout { kAny, kContiguous, kUnitLastStride };

[[noreturn]] inline void refuse(const char* name, const std::string& expected) {
  throw py::value_error(std::string(name) + ": expected " + expected);
}

template <class T>
const char* type_name() {
  if (sizeof(T) == 1) return "bytes";
  if (std::is_integral_v<T>) return "int64";
  return sizeof(T) == 4 ? "float32" : "float64";
}

template <class T>
void check(const py::array& array, const char* name, std::initializer_list<int64_t> shape,
           Layout layout) {
  if (!py::isinstance<py::array_t<T>>(array)) {
    refuse(name, std::string("elements of ") + type_name<T>());
  }
  if (array.ndim() != static_cast<py::ssize_t>(shape.size())) {
    refuse(name, std::to_string(shape.size()) + " dimensions");
  }
  const bool empty = array.size() == 0;
  const auto item = static_cast<py::ssize_t>(sizeof(T));
  py::ssize_t contiguous = item;
  for (auto axis = static_cast<py::ssize_t>(shape.size()) - 1; axis >= 0; --axis) {
    const int64_t size = shape.begin()[axis];
    if (array.shape(axis) != size) {
      refuse(name, "axis " + std::to_string(axis) + " of size " + std::to_string(size));
    }
    if (empty || size == 1) continue;
    const py::ssize_t stride = array.strides(axis);
    if (stride % item != 0) refuse(name, "strides of whole elements");
    const bool last = axis == static_cast<py::ssize_t>(shape.size()) - 1;
    if ((layout == Layout::kContiguous && stride != contiguous) ||
        (layout == Layout::kUnitLastStride && last && stride != item)) {
      refuse(name, "a contiguous array");
    }
    contiguous *= size;
  }
  if (reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) != 0) {
    refuse(name, "aligned elements");
  }
}

template <class T>
const T* read(const py::array& array, const char* name, std::initializer_list<int64_t> shape,
              Layout layout = Layout::kContiguous) {
  check<T>(array, name, shape, layout);
  return static_cast<const T*>(array.data());
}

template <class T>
T* write(py::array& array, const char* name, std::initializer_list<int64_t> shape,
         Layout layout = Layout::kContiguous) {
  check<T>(array, name, shape, layout);
  return static_cast<T*>(array.mutable_data());  // throws if the array is read-only
}

// The same for arguments that may be None, which is null.
template <class T>
const T* read_optional(const py::object& array, const char* name,
                       std::initializer_list<int64_t> shape) {
  return array.is_none() ? nullptr : read<T>(py::cast<py::array>(array), name, shape);
}

template <class T>
T* write_optional(const py::object& array, const char* name, std::initializer_list<int64_t> shape) {
  if (array.is_none()) return nullptr;
  auto values = py::cast<py::array>(array);
  return write<T>(values, name, shape);
}

// The stride of an axis in elements; 0 where no second element is ever reached.
template <class T>
int64_t element_stride(const py::array& array, py::ssize_t axis) {
  return array.shape(axis) > 1 ? array.strides(axis) / static_cast<py::ssize_t>(sizeof(T)) : 0;
}

template <class T>
Sequence<const T> read_sequence(const py::object& object, const char* name, const LstmShape& shape,
                                int64_t features, Layout layout) {
  if (object.is_none()) return {nullptr, 0, 0, 1};
  const auto array = py::cast<py::array>(object);
  const T* data = read<T>(array, name, {shape.batch_size, shape.seq_len, features}, layout);
  return {data, element_stride<T>(array, 0), element_stride<T>(array, 1),
          features > 1 ? element_stride<T>(array, 2) : 1};
}

template <class T>
Sequence<T> write_sequence(const py::object& object, const char* name, const LstmShape& shape,
                           int64_t features) {
  if (object.is_none()) return {nullptr, 0, 0, 1};
  auto array = py::cast<py::array>(object);
  T* data =
      write<T>(array, name, {shape.batch_size, shape.seq_len, features}, Layout::kUnitLastStride);
  return {data, element_stride<T>(array, 0), element_stride<T>(array, 1), 1};
}

}  // namespace bindings
}  // namespace lstm_ext
