// A variant of the cell as Python holds it, checked when a call takes it.
#pragma once

#include "lstm.hpp"

namespace lstm_ext {
namespace bindings {

struct BoundVariant {
  CellOptions options;
};

}  // namespace bindings
}  // namespace lstm_ext
