#include "cpu/scalar_functions.hpp"

#include <cmath>

namespace lstm_ext {
namespace cpu {
namespace {

constexpr double kRootHalf = 0.70710678118654752440;
constexpr double kRootTwoPi = 2.50662827463100050242;

double normal_distribution(double z) { return 0.5 * std::erfc(-z * kRootHalf); }

}  // namespace

double scalar_softplus(double z) {
  if (std::isnan(z)) return z;
  return (z > 0 ? z : 0) + std::log1p(std::exp(-std::fabs(z)));
}

double scalar_gelu(double z) { return z * normal_distribution(z); }

double scalar_gelu_slope(double z) {
  return normal_distribution(z) + z * std::exp(-0.5 * z * z) / kRootTwoPi;
}

}  // namespace cpu
}  // namespace lstm_ext
