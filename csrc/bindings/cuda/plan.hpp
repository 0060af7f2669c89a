// A plan with what it was made for, as Python holds it.
#pragma once

#include <string>

#include "cuda/plan.hpp"

namespace lstm_ext {
namespace bindings {

struct BoundPlan {
  cuda::Question question;
  cuda::Plan plan;
};

// Of a dtype's name. Throws std::invalid_argument.
cuda::Precision precision_of(const std::string& name);

}  // namespace bindings
}  // namespace lstm_ext
