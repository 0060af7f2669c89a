// A variant of the cell as Python holds it, checked when a call takes it.
#pragma once

#include <pybind11/pybind11.h>

#include "lstm.hpp"

namespace lstm_ext {
namespace bindings {

struct BoundVariant {
  CellOptions options;
  pybind11::object peephole, zoneout, cell_zoneout;  // or None
};

}  // namespace bindings
}  // namespace lstm_ext
