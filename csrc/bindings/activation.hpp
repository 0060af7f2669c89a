// Activations by their names in the kernels.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <utility>

#include "lstm.hpp"

namespace lstm_ext {
namespace bindings {

constexpr std::pair<const char*, ActivationKind> kActivations[] = {
    {"sigmoid", ActivationKind::kSigmoid},
    {"scaled_tanh", ActivationKind::kTanh},
    {"affine", ActivationKind::kAffine},
    {"hard_sigmoid", ActivationKind::kHardSigmoid},
    {"relu", ActivationKind::kRelu},
    {"leaky_relu", ActivationKind::kLeakyRelu},
    {"thresholded_relu", ActivationKind::kThresholdedRelu},
    {"scaled_elu", ActivationKind::kElu},
    {"softsign", ActivationKind::kSoftsign},
    {"exponential", ActivationKind::kExponential},
    {"silu", ActivationKind::kSilu},
    {"softplus", ActivationKind::kSoftplus},
    {"gelu", ActivationKind::kGelu},
};

// From (name, alpha, beta).
inline ActivationOptions activation_of(const pybind11::tuple& text) {
  const auto name = pybind11::cast<std::string>(text[0]);
  for (const auto& [known, kind] : kActivations) {
    if (name == known) {
      return {kind, pybind11::cast<double>(text[1]), pybind11::cast<double>(text[2])};
    }
  }
  throw pybind11::value_error("activation: expected the name of one that the kernels have, not " +
                              name);
}

}  // namespace bindings
}  // namespace lstm_ext
