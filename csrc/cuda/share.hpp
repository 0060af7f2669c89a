// What a persistent kernel is told besides its call: how groups of rows and blocks of units are
// cut.
#pragma once

#include "cuda/exchange.hpp"
#include "cuda/geometry.hpp"

namespace lstm_ext {
namespace cuda {

struct Share {
  Geometry geometry;
  int blocks, units, rows;  // of a group, a block, a group
  int64_t first_row;        // of the batch, of the launch's first group
  uint64_t* mail;           // device memory of all groups, or null in a cluster
  int64_t mail_words;       // of a group
  Bound bound;
};

// One block's part.
struct Position {
  int group, rank;
  int64_t first_row;  // of the batch
  int rows;           // of it, in this group
  int first_unit;     // of this block; units past the last count as zeros
};

LSTM_EXT_DEVICE Position position_of(const Share& share, int64_t batch_size) {
  Position p;
  p.group = block_index() / share.blocks;
  p.rank = block_index() % share.blocks;
  p.first_row = share.first_row + static_cast<int64_t>(p.group) * share.rows;
  const int64_t rest = batch_size - p.first_row;
  p.rows = static_cast<int>(rest < share.rows ? rest : share.rows);
  p.first_unit = p.rank * share.units;
  return p;
}

LSTM_EXT_DEVICE float not_a_number() { return float_of(0x7fffffffu); }

}  // namespace cuda
}  // namespace lstm_ext
