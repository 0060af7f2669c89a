// What a persistent kernel is told besides its call: how rows are cut into groups and rounds, and
// units into blocks. While the words of one round travel, the blocks compute another.
#pragma once

#include "cuda/exchange.hpp"
#include "cuda/geometry.hpp"

namespace lstm_ext {
namespace cuda {

// Division by a number that stays, for values up to 2^32 / divisor: a product with
// ceil(2^32 / divisor), of which the upper half is the quotient.
struct Divider {
  int divisor;
  uint32_t factor;  // zero: the divisor is 1

  LSTM_EXT_DEVICE int quotient(int n) const {
    return factor ? static_cast<int>(multiply_high(static_cast<uint32_t>(n), factor)) : n;
  }
  LSTM_EXT_DEVICE int rest(int n, int quotient) const { return n - quotient * divisor; }
};
inline Divider divider(int divisor) {
  return {divisor, divisor > 1 ? 0xffffffffu / static_cast<uint32_t>(divisor) + 1 : 0};
}

struct Share {
  Geometry geometry;
  SharedLayout layout;
  int blocks, units, rows;  // of a group, a block, a round
  int rounds;               // of rows that a group takes in turn at each step
  int first_row;            // of the batch, of the launch's first group
  int all;                  // units of a group, with padding
  int row_words;            // of h of all units
  Divider by_units, by_gates, by_all, by_row_words;
  Post post;
};

// One block's part. Units past the last count as zeros.
struct Position {
  int group, rank, first_unit;
  int first_row;  // of the batch, of the first round
  int rounds;     // that have rows

  LSTM_EXT_DEVICE Position(const Share& share, int batch_size)
      : group(block_index() / share.blocks),
        rank(block_index() % share.blocks),
        first_unit(rank * share.units),
        first_row(share.first_row + group * share.rounds * share.rows) {
    const int left = (batch_size - first_row + share.rows - 1) / share.rows;
    rounds = left < share.rounds ? left : share.rounds;
  }
};

// A step of one round.
struct Turn {
  int step, round;
  int first_row;  // of the batch
  int rows;

  LSTM_EXT_DEVICE Turn(const Share& share, const Position& at, int batch_size, int s, int r)
      : step(s), round(r), first_row(at.first_row + r * share.rows) {
    const int left = batch_size - first_row;
    rows = left < share.rows ? left : share.rows;
  }
};

LSTM_EXT_DEVICE float not_a_number() { return float_of(0x7fffffffu); }

}  // namespace cuda
}  // namespace lstm_ext
