// A GPU of one processor: the threads of blocks as fibers, scheduled in an order that a test
// chooses. A fiber runs until it has to wait, so that a read that a missing barrier should have
// kept back sees what was there before in at least one of the orders. Shared memory starts as NaN.
// What is written to other blocks (peers' shared memory, flagged words) arrives late and out of
// order.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace emulation {

enum class Order { kForward, kReverse, kRandom };

struct Chip {
  int capability = 90, processors = 132, shared_bytes = 232448, largest_cluster = 16;
  int devices = 1;
};

struct Settings {
  Order order = Order::kForward;
  unsigned seed = 0;
  Chip chip;
  int drop_store = -1;                 // this one of the stores to other blocks never arrives
  std::vector<const void*> elsewhere;  // pointers that count as memory of another device
  int launches = 0;
};
Settings& settings();

struct Barrier {
  int arrived = 0;
  unsigned generation = 0;
};

struct Warp {
  Barrier barrier;
  uint32_t slots[2][32][8] = {};
  long held_until = 0;  // random order: none of its threads runs before this turn
};

struct Cluster;

struct Block {
  int x, y, rank;
  Cluster* cluster;
  Barrier barrier;
  bool any = false, result = false;
  int kind = 0;  // of the barrier that threads have begun to arrive at
  int live = 0;
  long held_until = 0;  // random order: no thread runs before this turn
  std::vector<unsigned char> memory;
  unsigned char* shared;
  std::vector<Warp> warps;
};

struct Cluster {
  std::vector<Block*> blocks;
  Barrier barrier;
};

struct Fiber {
  int index = 0;
  Block* block = nullptr;
  const unsigned* waits_for = nullptr;  // a generation that must change first
  unsigned generation = 0;
  bool done = false, begun = false;
  std::jmp_buf context;
};

struct Task {
  int blocks, blocks_y, threads, cluster;
  size_t shared_bytes;
  bool cooperative;
  std::function<void()> body;
};

// Runs all blocks. Throws std::runtime_error on a deadlock, on barriers that do not match, on a
// store to a block that has left, and on writes past the end of shared memory.
void run(const Task& task);

Fiber& current();
int threads_in_block();
void yield();  // lets others run, for a thread that polls
void wait_at(Barrier& barrier, int expected);
bool block_barrier(int kind, bool value);
Warp& warp();
// Exchanges words within a warp: returns the slots of all lanes.
const uint32_t (*exchange(const uint32_t* words, int count))[8];
uint64_t now_ns();

// Arrives later.
void store_later(void* address, const void* value, size_t bytes, Block* owner,
                 std::function<void()> then);
void fail(const std::string& message);

}  // namespace emulation
