// The chooser: which kernels compute a call, and how it is divided among blocks. Plain C++, so that
// it can be asked without a GPU.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/geometry.hpp"

namespace lstm_ext {
namespace cuda {

// kCluster  the blocks of a cluster hold the recurrent weights of all units and exchange h through
//           their shared memory; a cluster takes a group of rows through all steps
// kGrid     the same by blocks of a cooperative grid, which exchange h through the L2 cache
// kSteps    one launch a step: for every shape and chip
enum class Algorithm { kAuto, kCluster, kGrid, kSteps };
enum class Precision { kFloat32, kFloat64, kBFloat16 };
enum class Direction { kForward, kBackward };

struct Device {
  int capability;       // 90: 9.0
  int processors;       // streaming multiprocessors
  int shared_bytes;     // that a block may have
  int largest_cluster;  // 1: none, 8, or 16 where the chip grants it
};

// What a caller may force; zeros leave the choice.
struct Request {
  Algorithm algorithm;
  int blocks;  // of a cluster or of a group of a grid
  int rows;    // of a round
};

struct Plan {
  Algorithm algorithm;
  int blocks;    // that share the units, and so make a group
  int units;     // of a block
  int rows;      // of the batch that a group computes at once
  int rounds;    // of so many rows that a group takes in turn
  int groups;    // in one launch
  int launches;  // until all rows are done
  Geometry geometry;
  SharedLayout layout;
  size_t shared_bytes;   // of a block
  size_t scratch_bytes;  // of device memory, zero when a launch begins
  int64_t mail_words;    // of it, of 64 bits, for a group and round
};

// What is to be computed. Only kSteps has float64, variants of the cell and projections.
struct Question {
  Precision precision;
  Direction direction;
  int64_t batch_size, hidden_size;
  bool has_variant;  // or a projection
};

// Throws std::invalid_argument if a forced algorithm cannot do the call, and says why.
Plan make_plan(const Question& question, const Device& device, const Request& request);

}  // namespace cuda
}  // namespace lstm_ext
