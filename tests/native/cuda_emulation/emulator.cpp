#include "emulator.hpp"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <utility>

namespace emulation {
namespace {

constexpr size_t kStack = 64 * 1024;
constexpr size_t kGuard = 256;
constexpr unsigned char kPoison = 0xff;

struct Store {
  void* address;
  unsigned char value[8];
  size_t bytes;
  Block* owner;
  std::function<void()> then;
};

struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Store> stores;
  std::mt19937 random;
  Fiber* running = nullptr;
  int threads = 0, sent = 0;
  uint64_t clock = 0;
  std::string error;
  const std::function<void()>* body = nullptr;
  std::jmp_buf scheduler;
};
Machine machine;

// Stacks are kept from run to run.
unsigned char* stack_of(size_t index) {
  static std::vector<unsigned char*> stacks;
  while (stacks.size() <= index) {
    void* memory = mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    stacks.push_back(static_cast<unsigned char*>(memory));
  }
  return stacks[index];
}

void enter() {
  (*machine.body)();
  Fiber& self = *machine.running;
  self.done = true;
  --self.block->live;
  _longjmp(machine.scheduler, 1);
}

// The first entry takes a context of its own stack; jumps do all others, without a system call.
void resume(Fiber& fiber, size_t index) {
  machine.running = &fiber;
  if (_setjmp(machine.scheduler) != 0) return;
  if (fiber.begun) _longjmp(fiber.context, 1);
  fiber.begun = true;
  static ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = stack_of(index);
  context.uc_stack.ss_size = kStack;
  context.uc_link = nullptr;
  makecontext(&context, &enter, 0);
  setcontext(&context);
}

void deliver(size_t index) {
  Store store = std::move(machine.stores[index]);
  machine.stores.erase(machine.stores.begin() + static_cast<std::ptrdiff_t>(index));
  if (store.owner && store.owner->live == 0) return fail("a store to a block that has left");
  std::memcpy(store.address, store.value, store.bytes);
  if (store.then) store.then();
}

// In random order each store waits for a while; else all arrive after every thread has had a turn.
void deliver_some() {
  const bool random = settings().order == Order::kRandom;
  size_t count = machine.stores.size();
  if (random && count > 1) count = 1 + machine.random() % count;
  for (; count > 0 && machine.error.empty(); --count) {
    const size_t last = machine.stores.size() - 1;
    deliver(random                                ? machine.random() % (last + 1)
            : settings().order == Order::kReverse ? last
                                                  : 0);
  }
}

Warp& warp_of(const Fiber& fiber) {
  return fiber.block->warps[static_cast<size_t>(fiber.index) / 32];
}

// Holds blocks and warps back now and then, and half of the blocks at first. Returns whether it
// did.
bool hold_some(long turn) {
  if (settings().order != Order::kRandom || (turn > 1 && machine.random() % 8)) return false;
  for (const auto& fiber : machine.fibers) {
    const bool chosen = turn == 1 ? machine.random() % 2 : machine.random() % 16 == 0;
    if (fiber->index == 0 && chosen) {
      fiber->block->held_until = turn + static_cast<long>(machine.random() % 64);
    }
    if (fiber->index % 32 == 0 && machine.random() % 4 == 0) {
      warp_of(*fiber).held_until = turn + static_cast<long>(machine.random() % 16);
    }
  }
  return true;
}

void schedule() {
  std::vector<size_t> order(machine.fibers.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  if (settings().order == Order::kReverse) std::reverse(order.begin(), order.end());
  size_t left = order.size();
  long turn = 0;
  while (left > 0 && machine.error.empty()) {
    if (settings().order == Order::kRandom) {
      std::shuffle(order.begin(), order.end(), machine.random);
    }
    bool progress = hold_some(++turn);
    for (const size_t index : order) {
      Fiber& fiber = *machine.fibers[index];
      if (fiber.done || (fiber.waits_for && *fiber.waits_for == fiber.generation)) continue;
      if (fiber.block->held_until > turn || warp_of(fiber).held_until > turn) {
        progress = true;
        continue;
      }
      fiber.waits_for = nullptr;
      resume(fiber, index);
      progress = true;
      if (fiber.done) --left;
      if (!machine.error.empty()) return;
    }
    if (!progress && machine.stores.empty()) return fail("deadlock: every thread waits");
    deliver_some();
  }
  while (!machine.stores.empty() && machine.error.empty()) deliver(0);
}

void make_block(const Task& task, int index, Cluster& cluster, Block& block) {
  block.x = index % task.blocks, block.y = index / task.blocks;
  block.rank = static_cast<int>(cluster.blocks.size());
  block.cluster = &cluster;
  block.live = task.threads;
  block.memory.assign(task.shared_bytes + 2 * kGuard, kPoison);
  auto address = reinterpret_cast<uintptr_t>(block.memory.data()) + kGuard / 2;
  block.shared = reinterpret_cast<unsigned char*>((address + 63) / 64 * 64);
  block.warps.resize(static_cast<size_t>(task.threads) / 32);
  cluster.blocks.push_back(&block);
  for (int thread = 0; thread < task.threads; ++thread) {
    auto fiber = std::make_unique<Fiber>();
    fiber->index = thread;
    fiber->block = &block;
    machine.fibers.push_back(std::move(fiber));
  }
}

// Runs blocks together, in clusters.
void run_together(const Task& task, const std::vector<int>& indices) {
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<std::unique_ptr<Cluster>> clusters;
  machine.fibers.clear();
  machine.stores.clear();
  for (const int index : indices) {
    if (blocks.size() % static_cast<size_t>(task.cluster) == 0) {
      clusters.push_back(std::make_unique<Cluster>());
    }
    blocks.push_back(std::make_unique<Block>());
    make_block(task, index, *clusters.back(), *blocks.back());
  }
  schedule();
  if (!machine.error.empty()) throw std::runtime_error("emulation: " + machine.error);
  for (const auto& block : blocks) {
    const unsigned char* end = block->shared + task.shared_bytes;
    const unsigned char* stop = block->memory.data() + block->memory.size();
    const auto is_written = [](unsigned char c) { return c != kPoison; };
    if (std::any_of(block->memory.data(), static_cast<unsigned char*>(block->shared), is_written) ||
        std::any_of(end, stop, is_written)) {
      throw std::runtime_error("emulation: a write outside of shared memory");
    }
  }
}

}  // namespace

Settings& settings() {
  static Settings settings;
  return settings;
}

void fail(const std::string& message) {
  if (machine.error.empty()) machine.error = message;
}

void run(const Task& task) {
  if (task.threads < 1 || task.threads % 32 || task.threads > 1024) {
    throw std::runtime_error("emulation: a block of " + std::to_string(task.threads));
  }
  if (task.shared_bytes > static_cast<size_t>(settings().chip.shared_bytes)) {
    throw std::runtime_error("emulation: too much shared memory");
  }
  const int total = task.blocks * task.blocks_y;
  if (task.blocks % task.cluster || task.cluster > settings().chip.largest_cluster ||
      (task.cooperative && total > settings().chip.processors)) {
    throw std::runtime_error("emulation: no such launch");
  }
  ++settings().launches;
  machine.random.seed(settings().seed + static_cast<unsigned>(settings().launches));
  machine.body = &task.body;
  machine.threads = task.threads;
  machine.error.clear();
  machine.sent = 0;
  const int together = task.cooperative ? total : task.cluster;
  std::vector<int> firsts;
  for (int first = 0; first < total; first += together) firsts.push_back(first);
  if (settings().order == Order::kReverse) std::reverse(firsts.begin(), firsts.end());
  if (settings().order == Order::kRandom) {
    std::shuffle(firsts.begin(), firsts.end(), machine.random);
  }
  for (const int first : firsts) {
    std::vector<int> indices;
    for (int i = 0; i < together; ++i) indices.push_back(first + i);
    run_together(task, indices);
  }
}

Fiber& current() { return *machine.running; }
int threads_in_block() { return machine.threads; }

void yield() {
  Fiber& self = current();
  if (_setjmp(self.context) == 0) _longjmp(machine.scheduler, 1);
}

void wait_at(Barrier& barrier, int expected) {
  Fiber& self = current();
  if (++barrier.arrived == expected) {
    barrier.arrived = 0;
    ++barrier.generation;
    if (settings().order != Order::kRandom) return;
    return yield();  // let others be first after a barrier
  }
  self.waits_for = &barrier.generation;
  self.generation = barrier.generation;
  yield();
}

bool block_barrier(int kind, bool value) {
  Block& block = *current().block;
  if (block.barrier.arrived == 0) {
    block.kind = kind;
    block.any = false;
  }
  if (block.kind != kind) fail("threads of a block wait at different barriers");
  block.any |= value;
  if (block.barrier.arrived + 1 == machine.threads) block.result = block.any;
  wait_at(block.barrier, machine.threads);
  return block.result;
}

Warp& warp() { return current().block->warps[static_cast<size_t>(current().index) / 32]; }

const uint32_t (*exchange(const uint32_t* words, int count))[8] {
  Warp& own = warp();
  auto& slots = own.slots[own.barrier.generation % 2];
  std::copy(words, words + count, slots[current().index % 32]);
  wait_at(own.barrier, 32);
  return slots;
}

uint64_t now_ns() { return machine.clock += 1000; }

void store_later(void* address, const void* value, size_t bytes, Block* owner,
                 std::function<void()> then) {
  if (machine.sent++ == settings().drop_store) return;
  Store store{address, {}, bytes, owner, std::move(then)};
  std::memcpy(store.value, value, bytes);
  machine.stores.push_back(std::move(store));
}

}  // namespace emulation
