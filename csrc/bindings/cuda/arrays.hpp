// Arrays in device memory as raw pointers, by the CUDA array interface (version 3), which CuPy,
// torch and Numba offer. Checked here: element type, shape, layout, alignment, and that the memory
// belongs to the current device. What a user did wrong is said earlier, in lstm_ext.cuda; these
// errors guard the raw pointers.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/recurrence.hpp"

namespace lstm_ext {
namespace bindings {

namespace py = pybind11;

[[noreturn]] inline void refuse(const char* name, const std::string& expected) {
  throw py::value_error(std::string(name) + ": expected " + expected);
}

// NumPy has no bfloat16: its bits travel as integers of 16.
template <class S>
struct TypeCode;
template <>
struct TypeCode<float> {
  static bool fits(const std::string& code) { return code == "<f4"; }
  static const char* name() { return "float32"; }
};
template <>
struct TypeCode<double> {
  static bool fits(const std::string& code) { return code == "<f8"; }
  static const char* name() { return "float64"; }
};
template <>
struct TypeCode<cuda::BFloat16> {
  static bool fits(const std::string& code) {
    return code == "<u2" || code == "<i2" || code == "<V2" || code == "|V2";
  }
  static const char* name() { return "bfloat16, as 16 bits,"; }
};

template <>
struct TypeCode<int64_t> {
  static bool fits(const std::string& code) { return code == "<i8"; }
  static const char* name() { return "int64"; }
};
template <>
struct TypeCode<uint8_t> {
  static bool fits(const std::string& code) { return code == "|u1"; }
  static const char* name() { return "uint8"; }
};

struct DeviceArray {
  std::uintptr_t data;
  bool read_only;
  std::string code;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  // in bytes; empty: contiguous
};

// The same facts from the attributes of CuPy's arrays, which costs a fraction of the interface.
inline bool read_attributes(const py::object& object, DeviceArray* array) {
  const py::object memory = py::getattr(object, "data", py::none());
  const py::object pointer = py::getattr(memory, "ptr", py::none());
  if (pointer.is_none()) return false;
  array->data = py::cast<std::uintptr_t>(pointer);
  array->read_only = false;
  array->code = py::cast<std::string>(object.attr("dtype").attr("str"));
  array->shape = py::cast<std::vector<int64_t>>(object.attr("shape"));
  array->strides = py::cast<std::vector<int64_t>>(object.attr("strides"));
  return true;
}

inline DeviceArray device_array(const py::object& object, const char* name) {
  DeviceArray found{};
  if (read_attributes(object, &found)) return found;
  if (!py::hasattr(object, "__cuda_array_interface__")) {
    refuse(name, "an array in device memory, with __cuda_array_interface__");
  }
  const auto interface = py::cast<py::dict>(object.attr("__cuda_array_interface__"));
  const auto data = py::cast<py::tuple>(interface["data"]);
  DeviceArray array{py::cast<std::uintptr_t>(data[0]),
                    py::cast<bool>(data[1]),
                    py::cast<std::string>(interface["typestr"]),
                    py::cast<std::vector<int64_t>>(interface["shape"]),
                    {}};
  if (interface.contains("strides") && !interface["strides"].is_none()) {
    array.strides = py::cast<std::vector<int64_t>>(interface["strides"]);
    if (array.strides.size() != array.shape.size()) refuse(name, "as many strides as axes");
  }
  return array;
}

// Every stride must be that of a contiguous array, but for axes of one element; those of the first
// `free_axes` may be any whole number of elements.
template <class S>
void check_layout(const DeviceArray& array, const char* name, std::size_t free_axes) {
  int64_t contiguous = sizeof(S);
  for (std::size_t axis = array.strides.size(); axis-- > 0;) {
    const int64_t stride = array.strides[axis];
    const bool free = axis < free_axes;
    if (array.shape[axis] > 1 && stride != contiguous &&
        !(free && stride % static_cast<int64_t>(sizeof(S)) == 0)) {
      refuse(name, "a contiguous array");
    }
    contiguous *= array.shape[axis];
  }
}

template <class S>
DeviceArray check_array(const py::object& object, const char* name,
                        const std::vector<int64_t>& shape, std::size_t free_axes = 0) {
  DeviceArray array = device_array(object, name);
  if (!TypeCode<S>::fits(array.code)) {
    refuse(name, std::string("elements of ") + TypeCode<S>::name());
  }
  if (array.shape.size() != shape.size()) {
    refuse(name, std::to_string(shape.size()) + " dimensions");
  }
  int64_t size = 1;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (array.shape[axis] != shape[axis]) {
      refuse(name, "axis " + std::to_string(axis) + " of size " + std::to_string(shape[axis]));
    }
    size *= shape[axis];
  }
  if (size == 0) return array;
  check_layout<S>(array, name, free_axes);
  if (array.data == 0 || array.data % alignof(S) != 0) refuse(name, "aligned elements");
  if (cuda::device_of(reinterpret_cast<const void*>(array.data)) != cuda::current_device()) {
    refuse(name, "memory of the current device");
  }
  return array;
}

template <class S>
const S* read(const py::object& object, const char* name, const std::vector<int64_t>& shape) {
  return reinterpret_cast<const S*>(check_array<S>(object, name, shape).data);
}

template <class S>
S* write(const py::object& object, const char* name, const std::vector<int64_t>& shape) {
  const DeviceArray array = check_array<S>(object, name, shape);
  if (array.read_only) refuse(name, "an array that can be written");
  return reinterpret_cast<S*>(array.data);
}

// The same for arguments that may be None, which is null.
template <class S>
const S* read_optional(const py::object& object, const char* name,
                       const std::vector<int64_t>& shape) {
  return object.is_none() ? nullptr : read<S>(object, name, shape);
}
template <class S>
S* write_optional(const py::object& object, const char* name, const std::vector<int64_t>& shape) {
  return object.is_none() ? nullptr : write<S>(object, name, shape);
}

}  // namespace bindings
}  // namespace lstm_ext
