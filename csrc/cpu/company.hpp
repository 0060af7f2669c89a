// With whom a thread of a forward pass works.
#pragma once

#include <cstdint>

#include "cpu/shares.hpp"
#include "cpu/threads.hpp"

namespace lstm_ext {
namespace cpu {

// Those who share the rows of a group. They meet after every step, in which they take pieces of the
// units: every other step from the last to the first.
struct RowGroup {
  RowGroup(int members, int64_t pieces)
      : barrier(members), shares{{pieces, members, false}, {pieces, members, true}} {}

  Barrier barrier;
  Shares shares[2];
};

// With whom a worker keeps step, and who helps it; null: nobody.
struct Company {
  RowGroup* row_group;
  const Progress* input;  // how many steps of x are there
  Progress* output;       // where it tells how many steps of the output are
  Team* helpers;          // who may take pieces of the only step
};

}  // namespace cpu
}  // namespace lstm_ext
