#include "cuda/plan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "lstm.hpp"

namespace lstm_ext {
namespace cuda {
namespace {

// The table of the chooser: from these it counts about how many cycles a step takes by each
// division that fits the chip, and the least wins. Fitted to what an H100 took (docs/cuda.md).
struct Costs {
  double turn;     // what a step and round take at least: gates, barriers
  double product;  // float32: a warp's weights times four rows; bfloat16: a fragment times eight
  double spare;    // a warp's weights in shared memory, each time that they pass by
  double word;     // received
  double item;     // a gate of a unit and row beyond a thread's first; backward, a unit and row
  double part;     // added to an output
  double send;     // a thread's word
  double warp;     // of a block
  double trip;     // from a block to its peers, if nothing else is done meanwhile
};
// By direction, for clusters and for grids.
constexpr Costs kFloatCosts[2][2] = {
    {{2362, 145, 57, 0, 1133, 0, 50, 16, 0}, {3316, 100, 53, 0.7, 1845, 0, 0, 0, 816}},
    {{2082, 193, 5.8, 0, 1203, 73, 0, 44, 0}, {2348, 168, 0, 0.5, 1165, 23, 183, 12.8, 1127}},
};
constexpr Costs kBFloat16Costs[2][2] = {
    {{3038, 10.3, 33, 0.6, 1630, 0, 0, 50, 0}, {3742, 9, 31, 0.5, 1919, 16.5, 0, 22, 1220}},
    {{3258, 12.4, 10.7, 0.6, 1712, 94, 0, 55, 0}, {3792, 12, 0, 1, 1549, 123, 15.5, 25, 846}},
};

// One launch a step, likewise: for few rows, in narrow tiles, for four rows and each weight of a
// gate; beyond, for each k and tile of a processor. By precision and direction.
constexpr int kLaunch = 6500;
struct StepCosts {
  int narrow_rows;
  double narrow;
  int units, rows;  // of a wide tile
  double wide;
};
constexpr StepCosts kStepCosts[2][2] = {
    {{16, 0.0105, 16, 64, 120}, {8, 0.025, 16, 32, 78}},
    {{32, 0.0105, 16, 64, 73}, {64, 0.028, 32, 64, 230}},
};

constexpr int kClusterSizes[] = {1, 2, 4, 8, 16};

constexpr int kMostRows = 64;  // at once
constexpr int kMostRounds = 16;
constexpr int64_t kLargestBatch = 1 << 20;

struct Problem {
  Precision precision;
  Direction direction;
  int64_t batch_size;
  int hidden_size;
  bool has_steps_only;
  const Device& device;
};

// A division among `blocks` with `rows` at once, if it fits; whether it does is returned.
bool divide(const Problem& p, Algorithm algorithm, int blocks, int rows, int rounds, Plan* plan) {
  const bool small = p.precision == Precision::kBFloat16;
  int units = ceil_div(p.hidden_size, blocks);
  const bool cluster = algorithm == Algorithm::kCluster;
  if (small) units += units % 2;  // two share a word
  // Words travel by two in a grid.
  while (!cluster && units * blocks % (small ? 4 : 2) != 0) units += small ? 2 : 1;
  const int all = units * blocks, own = kNumGates * units;
  const bool forward = p.direction == Direction::kForward;
  for (const bool deep : {false, true}) {
    const int k = forward ? all : own, n = forward ? own : all;
    const Geometry g =
        small ? bfloat16_geometry(k, n, rows, deep) : float_geometry(k, n, rows, deep);
    if (g.threads > kMaxThreads) continue;
    const int in_buffers = forward && cluster ? 2 : 1;
    const int received = forward ? 0 : (cluster ? 2 : 1) * rows * all;
    const SharedLayout layout = shared_layout(g, units, rounds, in_buffers, received);
    if (4 * static_cast<int64_t>(layout.words) > p.device.shared_bytes) continue;
    plan->algorithm = algorithm;
    plan->blocks = blocks, plan->units = units, plan->rows = rows, plan->rounds = rounds;
    plan->geometry = g, plan->layout = layout;
    plan->shared_bytes = 4 * static_cast<size_t>(layout.words);
    return true;
  }
  return false;
}

const Costs& costs_of(const Problem& p, Algorithm algorithm) {
  const int direction = p.direction == Direction::kForward ? 0 : 1;
  const int way = algorithm == Algorithm::kCluster ? 0 : 1;
  return p.precision == Precision::kBFloat16 ? kBFloat16Costs[direction][way]
                                             : kFloatCosts[direction][way];
}

double cycles_of_step(const Problem& p, const Plan& plan) {
  const Costs& c = costs_of(p, plan.algorithm);
  const Geometry& g = plan.geometry;
  const bool small = p.precision == Precision::kBFloat16;
  const bool forward = p.direction == Direction::kForward;
  const int rows = static_cast<int>(std::min<int64_t>(plan.rows, p.batch_size));
  const int warps = g.threads / 32, all = plan.blocks * plan.units;
  const double passes = small ? ceil_div(rows, kFragmentRows) : rows / 4 + 0.4 * (rows % 4);
  const double products = passes * std::max(warps, 4) *
                          (small    ? g.k_tiles * g.out_tiles
                           : g.deep ? 2
                                    : 1);
  const int lanes = forward ? kNumGates : 8;  // that work on a unit of a row
  const int items = ceil_div(lanes * rows * plan.units, g.threads);
  const int words = ceil_div(rows * all, small && forward ? 2 : 1);
  const int copies = plan.algorithm == Algorithm::kCluster ? plan.blocks : 1;
  const int sends = ceil_div(forward ? rows * plan.units * copies : rows * all, g.threads);
  const int parts = g.parts * (forward ? items : sends);
  double turn = c.turn + c.product * products + c.item * (items - 1) + c.part * parts;
  turn += c.warp * warps;
  turn += c.send * sends + (g.deep ? c.spare * passes * warps : 0);
  if (plan.blocks == 1) return plan.rounds * turn;
  turn += c.word * words;
  return std::max(plan.rounds * turn, turn + c.trip);
}

// A plan and what it costs.
struct Candidate {
  Plan plan{};
  double cycles = std::numeric_limits<double>::infinity();
  bool exists() const { return plan.blocks > 0; }
};

void keep_cheaper(Candidate* best, const Candidate& other) {
  if (other.exists() && other.cycles < best->cycles) *best = other;
}

// Of a group and round, in words of 64 bits: two slots of words with their flags, one for each
// value that a block receives in a step. Forward all blocks of a group receive the same.
int64_t mail_words(const Problem& p, const Plan& plan) {
  const bool forward = p.direction == Direction::kForward;
  const int64_t all = int64_t{plan.units} * plan.blocks;
  const bool pairs = forward && p.precision == Precision::kBFloat16;
  const int64_t words = (pairs ? all / 2 : all) * plan.rows;
  return 2 * words * (forward ? 1 : plan.blocks);
}

// The blocks of a cluster share a GPC, which has about 18 processors, and a processor holds one
// block of a cluster, but several small ones that are none.
int clusters_at_once(const Device& device, const Plan& plan) {
  constexpr int kGpc = 18, kRegisters = 1 << 16, kThreadRegisters = 128;
  if (plan.blocks > 2) return std::max(1, device.processors / kGpc * (kGpc / plan.blocks));
  if (plan.blocks == 2) return device.processors / 2;
  const int by_registers = kRegisters / (kThreadRegisters * plan.geometry.threads);
  const auto by_memory = device.shared_bytes / (static_cast<int>(plan.shared_bytes) + 1024);
  return device.processors * std::max(1, std::min(by_registers, by_memory));
}

// With `rows` at once: in a grid as many groups as run at once and as many rounds as it then takes,
// if their cells fit.
Candidate share_out(const Problem& p, Algorithm algorithm, int blocks, int rows) {
  Candidate result;
  const int at_once = p.device.processors / blocks;
  if (at_once == 0) return result;
  const bool is_grid = algorithm == Algorithm::kGrid;
  const int64_t batch = std::max<int64_t>(p.batch_size, 1), parts = (batch + rows - 1) / rows;
  int64_t rounds = is_grid ? std::min<int64_t>((parts + at_once - 1) / at_once, kMostRounds) : 1;
  Plan plan{};
  while (!divide(p, algorithm, blocks, rows, static_cast<int>(rounds), &plan)) {
    if (rounds == 1) return result;
    rounds = (rounds + 1) / 2;
  }
  const int64_t groups = (parts + rounds - 1) / rounds;
  plan.groups = static_cast<int>(is_grid ? std::min<int64_t>(groups, at_once) : groups);
  plan.launches = static_cast<int>((groups + plan.groups - 1) / plan.groups);
  if (is_grid) {
    plan.mail_words = mail_words(p, plan);
    plan.scratch_bytes = sizeof(uint64_t) * plan.mail_words * plan.rounds * plan.groups;
  }
  result.plan = plan;
  const int64_t together = is_grid ? at_once : clusters_at_once(p.device, plan);
  result.cycles = (groups + together - 1) / together * cycles_of_step(p, plan);
  return result;
}

// The best number of rows at once.
Candidate share_out(const Problem& p, Algorithm algorithm, int blocks, const Request& request) {
  if (request.rows) return share_out(p, algorithm, blocks, request.rows);
  Candidate best;
  for (int rows = 1; rows <= kMostRows; rows *= 2) {
    keep_cheaper(&best, share_out(p, algorithm, blocks, rows));
    if (rows >= p.batch_size) break;
  }
  return best;
}

Candidate best_cluster(const Problem& p, const Request& request) {
  Candidate best;
  for (const int blocks : kClusterSizes) {
    if (blocks > p.device.largest_cluster || (request.blocks && blocks != request.blocks)) continue;
    keep_cheaper(&best, share_out(p, Algorithm::kCluster, blocks, request));
  }
  return best;
}

// From the fewest units a block that the chip has processors for, doubling.
Candidate best_grid(const Problem& p, const Request& request) {
  if (request.blocks) return share_out(p, Algorithm::kGrid, request.blocks, request);
  Candidate best;
  const int least = std::max(2, ceil_div(p.hidden_size, p.device.processors));
  for (int units = least + least % 2; units < p.hidden_size; units *= 2) {
    const int blocks = ceil_div(p.hidden_size, units);
    keep_cheaper(&best, share_out(p, Algorithm::kGrid, blocks, request));
  }
  return best;
}

// What steps.cu does with its tiles: up to some rows all weights pass by for each four, beyond it
// is the depth of the product that counts.
Candidate in_steps(const Problem& p) {
  Candidate result;
  result.plan.algorithm = Algorithm::kSteps;
  const bool small = p.precision == Precision::kBFloat16;
  const bool forward = p.direction == Direction::kForward;
  const double hidden = p.hidden_size, rows = std::max<double>(p.batch_size, 1);
  const StepCosts& c = kStepCosts[small ? 1 : 0][forward ? 0 : 1];
  if (rows <= c.narrow_rows) {
    result.cycles = kLaunch + c.narrow * hidden * hidden * std::ceil(rows / 4);
  } else {
    const double blocks = std::ceil(hidden / c.units) * std::ceil(rows / c.rows);
    result.cycles = kLaunch + c.wide * hidden * std::ceil(blocks / p.device.processors);
  }
  return result;
}

Candidate best_of(const Problem& p, Algorithm algorithm, const Request& request) {
  if (algorithm == Algorithm::kSteps || p.has_steps_only) return in_steps(p);
  return algorithm == Algorithm::kCluster ? best_cluster(p, request) : best_grid(p, request);
}

}  // namespace

Plan make_plan(const Question& q, const Device& device, const Request& request) {
  constexpr int64_t kLargest = 1 << 14;  // what is larger fits no chip
  const bool huge = q.hidden_size > kLargest || q.batch_size > kLargestBatch;
  const bool is_wide = q.precision == Precision::kFloat64;
  const Problem p{q.precision,
                  q.direction,
                  q.batch_size,
                  static_cast<int>(std::min(q.hidden_size, kLargest)),
                  is_wide || q.has_variant,
                  device};
  if (request.algorithm == Algorithm::kAuto) {
    Candidate best = in_steps(p);
    if (huge) return best.plan;
    for (const Algorithm algorithm : {Algorithm::kCluster, Algorithm::kGrid}) {
      keep_cheaper(&best, best_of(p, algorithm, request));
    }
    return best.plan;
  }
  const std::string name = request.algorithm == Algorithm::kCluster ? "cluster" : "grid";
  const bool in_one_launch = request.algorithm != Algorithm::kSteps;
  if (in_one_launch && p.has_steps_only) {
    throw std::invalid_argument("algorithm: got " + name + ", expected steps for " +
                                (is_wide ? "float64" : "a variant of the cell"));
  }
  const Candidate found =
      in_one_launch && huge ? Candidate{} : best_of(p, request.algorithm, request);
  if (in_one_launch && !found.exists()) {
    throw std::invalid_argument("algorithm: got " + name + " with " +
                                std::to_string(q.hidden_size) + " units and a batch of " +
                                std::to_string(q.batch_size) +
                                ", which do not fit on this chip; expected steps");
  }
  return found.plan;
}

}  // namespace cuda
}  // namespace lstm_ext
