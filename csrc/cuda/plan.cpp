#include "cuda/plan.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "lstm.hpp"

namespace lstm_ext {
namespace cuda {
namespace {

// The table of the chooser: from these it counts about how many cycles a step takes by each
// division that fits the chip, and the least wins. They come from data sheets and from counting;
// none has been measured (docs/cuda.md).
constexpr int kClusterTrip = 700;          // a word to a peer's shared memory, and its arrival seen
constexpr int kGridTrip = 2000;            // a word through the L2 cache
constexpr int kLaunch = 4500;              // from one step's launch to the next
constexpr int kClusterBytesPerCycle = 32;  // that a block receives
constexpr int kGridBytesPerCycle = 64;
constexpr int kSharedBytesPerCycle = 128;
constexpr int kL2BytesPerCycle = 2500;  // of the whole chip
constexpr int kTurn = 900;              // of a turn: gates, barriers
constexpr int kLanes = 128;             // fused multiply-adds a cycle
constexpr int kFragmentCycles = 2;      // of one mma, when many are on their way
constexpr int kFragmentChain = 17;      // of one in a warp, which has two chains of them
constexpr int kNarrowLatency = 40;      // kSteps, up to 16 rows: of a slice's next value of k
constexpr int kWideCycles = 3;          // kSteps, beyond: of a k for each unit of a block
constexpr int kMatrixCycles = 1;        // the same in bfloat16

// 16 only where 8 do not fit: few such clusters find room.
constexpr int kClusterSizes[] = {1, 2, 4, 8, 16};

constexpr int kMostRows = 64;  // at once
constexpr int kMostRounds = 16;
constexpr int64_t kLargestBatch = 1 << 20;

struct Problem {
  Precision precision;
  Direction direction;
  int64_t batch_size;
  int hidden_size;
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

// Of a block, for one round.
int64_t cycles_of_product(const Problem& p, const Plan& plan) {
  const Geometry& g = plan.geometry;
  const int64_t warps = g.threads / 32;
  if (p.precision == Precision::kBFloat16) {
    const int64_t passes = ceil_div(plan.rows, kFragmentRows), fragments = g.out_tiles * g.k_tiles;
    const int64_t products =
        std::max(fragments * warps * kFragmentCycles, fragments * kFragmentChain);
    return passes * (products + 4 * weight_words(g) / kSharedBytesPerCycle);
  }
  const int64_t passes = plan.rows / 4 + plan.rows % 4;
  const int64_t products = 4 * kHeldWords * 32 * warps / kLanes * (g.deep ? 2 : 1);
  return passes * (products + 4 * weight_words(g) / kSharedBytesPerCycle);
}

int64_t cycles_of_step(const Problem& p, const Plan& plan) {
  const bool pairs = p.precision == Precision::kBFloat16 && p.direction == Direction::kForward;
  const int64_t words = int64_t{plan.rows} * plan.blocks * plan.units / (pairs ? 2 : 1);
  const bool cluster = plan.algorithm == Algorithm::kCluster;
  int64_t turn = kTurn + cycles_of_product(p, plan);
  if (plan.blocks > 1) {
    turn += cluster ? 4 * words / kClusterBytesPerCycle : 8 * words / kGridBytesPerCycle;
  }
  const int trip = plan.blocks == 1 ? 0 : cluster ? kClusterTrip : kGridTrip;
  return std::max(plan.rounds * turn, turn + trip);
}

// A plan and what it costs.
struct Candidate {
  Plan plan{};
  int64_t cycles = std::numeric_limits<int64_t>::max();
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
  result.cycles = (groups + at_once - 1) / at_once * cycles_of_step(p, plan);
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
    if (blocks > 8 && best.exists()) break;
    keep_cheaper(&best, share_out(p, Algorithm::kCluster, blocks, request));
  }
  return best;
}

// From the fewest units a block that the chip has processors for, doubling.
Candidate best_grid(const Problem& p, const Request& request) {
  if (request.blocks) return share_out(p, Algorithm::kGrid, request.blocks, request);
  Candidate best;
  const int least = std::max(2, ceil_div(p.hidden_size, p.device.processors));
  for (int units = least + least % 2; units <= 2 * p.hidden_size; units *= 2) {
    const int blocks = ceil_div(p.hidden_size, units);
    keep_cheaper(&best, share_out(p, Algorithm::kGrid, blocks, request));
  }
  return best;
}

// What steps.cu does with its tiles.
Candidate in_steps(const Problem& p) {
  Candidate result;
  result.plan.algorithm = Algorithm::kSteps;
  const bool small = p.precision == Precision::kBFloat16;
  const bool forward = p.direction == Direction::kForward;
  const int64_t hidden = p.hidden_size, depth = forward ? hidden : kNumGates * hidden;
  const int item = small ? 2 : p.precision == Precision::kFloat64 ? 8 : 4;
  int64_t cycles = kNumGates * hidden * hidden * item / kL2BytesPerCycle;
  if (p.batch_size <= 16) {
    cycles += depth / 16 * kNarrowLatency;
  } else {
    const int units = forward ? 16 : 32, columns = forward ? 64 : 32;
    const int64_t blocks = ((hidden + units - 1) / units) * ((p.batch_size + 63) / 64);
    const int64_t waves = (blocks + p.device.processors - 1) / p.device.processors;
    cycles += waves * depth * columns / 4 * (small ? kMatrixCycles : kWideCycles);
  }
  result.cycles = kLaunch + cycles;
  return result;
}

Candidate best_of(const Problem& p, Algorithm algorithm, const Request& request) {
  if (algorithm == Algorithm::kSteps || p.precision == Precision::kFloat64) return in_steps(p);
  return algorithm == Algorithm::kCluster ? best_cluster(p, request) : best_grid(p, request);
}

}  // namespace

Plan make_plan(Precision precision, Direction direction, int64_t batch_size, int64_t hidden_size,
               const Device& device, const Request& request) {
  constexpr int64_t kLargest = 1 << 14;  // what is larger fits no chip
  const bool huge = hidden_size > kLargest || batch_size > kLargestBatch;
  const Problem p{precision, direction, batch_size,
                  static_cast<int>(std::min(hidden_size, kLargest)), device};
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
  if (in_one_launch && precision == Precision::kFloat64) {
    throw std::invalid_argument("algorithm: got " + name + ", expected steps for float64");
  }
  const Candidate found =
      in_one_launch && huge ? Candidate{} : best_of(p, request.algorithm, request);
  if (in_one_launch && !found.exists()) {
    throw std::invalid_argument("algorithm: got " + name + " with " + std::to_string(hidden_size) +
                                " units and a batch of " + std::to_string(batch_size) +
                                ", which do not fit on this chip; expected steps");
  }
  return found.plan;
}

}  // namespace cuda
}  // namespace lstm_ext
