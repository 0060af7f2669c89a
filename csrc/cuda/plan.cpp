#include "cuda/plan.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "lstm.hpp"

namespace lstm_ext {
namespace cuda {
namespace {

// The table of the chooser: the first line whose limits a call keeps, and that fits the chip, is
// taken. `max_rows` bounds the rows of a group: beyond, a step's arithmetic takes so long that a
// launch a step, whose tiles use each weight more often, is no slower. The limits follow from
// counting; none has been measured (docs/cuda.md).
struct Rule {
  Algorithm algorithm;
  Precision precision;
  int max_hidden, max_rows;
};
constexpr Rule kRules[] = {
    {Algorithm::kCluster, Precision::kFloat32, 512, 16},
    {Algorithm::kCluster, Precision::kBFloat16, 512, 64},
    {Algorithm::kGrid, Precision::kFloat32, 1408, 8},
    {Algorithm::kGrid, Precision::kBFloat16, 2112, 32},
};

constexpr int kClusterSizes[] = {1, 2, 4, 8, 16};

struct Problem {
  Precision precision;
  Direction direction;
  int64_t batch_size;
  int hidden_size;
  const Device& device;
};

// A division among `blocks` with `rows` a group, if it fits; whether it does is returned.
bool divide(const Problem& p, Algorithm algorithm, int blocks, int rows, Plan* plan) {
  const bool small = p.precision == Precision::kBFloat16;
  int units = ceil_div(p.hidden_size, blocks);
  if (small) units += units % 2;  // two share a word
  const int all = units * blocks, own = kNumGates * units;
  const bool forward = p.direction == Direction::kForward;
  for (const bool deep : {false, true}) {
    const int k = forward ? all : own, n = forward ? own : all;
    const Geometry g =
        small ? bfloat16_geometry(k, n, rows, deep) : float_geometry(k, n, rows, deep);
    if (g.threads > kMaxThreads) continue;
    const bool cluster = algorithm == Algorithm::kCluster;
    const int in_buffers = forward && cluster ? 2 : 1;
    const int received = forward ? 0 : (cluster ? 2 : 1) * g.rows * all;
    const SharedLayout layout = shared_layout(g, units, in_buffers, received);
    if (4 * static_cast<int64_t>(layout.words) > p.device.shared_bytes) continue;
    plan->algorithm = algorithm;
    plan->blocks = blocks, plan->units = units, plan->rows = rows;
    plan->geometry = g;
    plan->shared_bytes = 4 * static_cast<size_t>(layout.words);
    return true;
  }
  return false;
}

// Rows so that all groups run at once if they can; fewer if shared memory asks for it.
bool divide(const Problem& p, Algorithm algorithm, int blocks, const Request& request, int max_rows,
            Plan* plan) {
  const int at_once = p.device.processors / blocks;
  if (at_once == 0) return false;
  const auto batch = std::max<int64_t>(p.batch_size, 1);
  const int64_t wanted = request.rows ? request.rows : (batch + at_once - 1) / at_once;
  if (wanted > max_rows && !request.rows) return false;
  bool fits = false;
  for (int rows = static_cast<int>(wanted); rows >= 1 && !fits; rows = rows > 1 ? rows / 2 : 0) {
    fits = divide(p, algorithm, blocks, rows, plan);
  }
  if (!fits) return false;
  const int64_t groups = (batch + plan->rows - 1) / plan->rows;
  plan->groups = static_cast<int>(
      algorithm == Algorithm::kCluster ? groups : std::min<int64_t>(groups, at_once));
  plan->launches = static_cast<int>((groups + plan->groups - 1) / plan->groups);
  if (algorithm == Algorithm::kGrid) {
    // Two slots of words with their flags: one for each value that a block receives in a step.
    const int all = plan->units * plan->blocks;
    const bool pairs = p.precision == Precision::kBFloat16 && p.direction == Direction::kForward;
    const size_t words = static_cast<size_t>(pairs ? all / 2 : all) *
                         (p.direction == Direction::kForward ? 1 : plan->blocks);
    plan->scratch_bytes = 2 * sizeof(uint64_t) * words * plan->rows * plan->groups;
  }
  return true;
}

bool try_cluster(const Problem& p, const Request& request, int max_rows, Plan* plan) {
  for (const int blocks : kClusterSizes) {
    if (blocks > p.device.largest_cluster || (request.blocks && blocks != request.blocks)) continue;
    if (divide(p, Algorithm::kCluster, blocks, request, max_rows, plan)) return true;
  }
  return false;
}

// The fewest units a block that the chip has processors for: the shortest steps. With rows for
// several groups, twice the units and so on, as long as a group then has fewer rows.
bool try_grid(const Problem& p, const Request& request, int max_rows, Plan* plan) {
  if (request.blocks) return divide(p, Algorithm::kGrid, request.blocks, request, max_rows, plan);
  const int least = std::max(2, ceil_div(p.hidden_size, p.device.processors));
  bool found = false;
  for (int units = least + least % 2; units <= p.hidden_size + 1; units *= 2) {
    Plan next{};
    const int blocks = ceil_div(p.hidden_size, units);
    if (!divide(p, Algorithm::kGrid, blocks, request, max_rows, &next)) continue;
    if (found && next.rows * next.launches >= plan->rows * plan->launches) break;
    *plan = next;
    found = true;
  }
  return found;
}

bool try_persistent(const Problem& p, Algorithm algorithm, const Request& request, int max_rows,
                    Plan* plan) {
  return algorithm == Algorithm::kCluster ? try_cluster(p, request, max_rows, plan)
                                          : try_grid(p, request, max_rows, plan);
}

}  // namespace

Plan make_plan(Precision precision, Direction direction, int64_t batch_size, int64_t hidden_size,
               const Device& device, const Request& request) {
  Plan steps{};
  steps.algorithm = Algorithm::kSteps;
  if (request.algorithm == Algorithm::kSteps) return steps;
  const bool forced = request.algorithm != Algorithm::kAuto;
  const std::string name = request.algorithm == Algorithm::kCluster ? "cluster" : "grid";
  if (precision == Precision::kFloat64) {
    if (forced)
      throw std::invalid_argument("algorithm: got " + name + ", expected steps for float64");
    return steps;
  }
  constexpr int64_t kLargest = 1 << 14;  // what is larger fits no chip
  Plan plan{};
  if (hidden_size <= kLargest) {
    const Problem p{precision, direction, batch_size, static_cast<int>(hidden_size), device};
    if (forced) {
      if (try_persistent(p, request.algorithm, request, 1 << 20, &plan)) return plan;
    }
    for (const Rule& rule : kRules) {
      if (forced || rule.precision != precision || hidden_size > rule.max_hidden) continue;
      if (try_persistent(p, rule.algorithm, request, rule.max_rows, &plan)) return plan;
    }
  }
  if (forced) {
    throw std::invalid_argument("algorithm: got " + name + " with " + std::to_string(hidden_size) +
                                " units, whose weights do not fit on this chip; expected steps");
  }
  return steps;
}

}  // namespace cuda
}  // namespace lstm_ext
