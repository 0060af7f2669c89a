#include "cpu/buffer.hpp"

#include <mutex>
#include <new>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace lstm_ext {
namespace cpu {
namespace {

constexpr std::size_t kHugePage = 2 << 20;
constexpr std::size_t kKept = std::size_t{64} << 20;  // of the whole process

struct Block {
  void* memory;
  std::size_t bytes;
};

struct KeptBlocks {
  std::mutex mutex;
  std::vector<Block> blocks;  // the oldest first
  std::size_t bytes = 0;
};

// Never destroyed: buffers may outlive every static object of the process.
KeptBlocks& kept_blocks() {
  static KeptBlocks* const kept = new KeptBlocks;
  return *kept;
}

std::size_t whole_pages(std::size_t bytes) {
  return (bytes + kHugePage - 1) / kHugePage * kHugePage;
}

// A kept block of that size, or null.
void* take_kept(std::size_t bytes) {
  KeptBlocks& kept = kept_blocks();
  const std::lock_guard<std::mutex> lock(kept.mutex);
  for (auto block = kept.blocks.rbegin(); block != kept.blocks.rend(); ++block) {
    if (block->bytes != bytes) continue;
    void* const memory = block->memory;
    kept.blocks.erase(std::next(block).base());
    kept.bytes -= bytes;
    return memory;
  }
  return nullptr;
}

}  // namespace

void* allocate(std::size_t bytes) {
  if (bytes < kHugePage) return ::operator new(bytes, std::align_val_t(kCacheLine));
  bytes = whole_pages(bytes);
  if (void* const kept = take_kept(bytes)) return kept;
  void* const memory = ::operator new(bytes, std::align_val_t(kHugePage));
#ifdef MADV_HUGEPAGE
  madvise(memory, bytes, MADV_HUGEPAGE);  // a hint: without it there are only more page faults
#endif
  return memory;
}

void release(void* memory, std::size_t bytes) {
  if (bytes < kHugePage) return ::operator delete(memory, std::align_val_t(kCacheLine));
  bytes = whole_pages(bytes);
  std::vector<Block> given_back;
  if (bytes <= kKept) {
    KeptBlocks& kept = kept_blocks();
    const std::lock_guard<std::mutex> lock(kept.mutex);
    kept.blocks.push_back({memory, bytes});
    kept.bytes += bytes;
    while (kept.bytes > kKept) {
      given_back.push_back(kept.blocks.front());
      kept.bytes -= kept.blocks.front().bytes;
      kept.blocks.erase(kept.blocks.begin());
    }
  } else {
    given_back.push_back({memory, bytes});
  }
  for (const Block& block : given_back) {
    ::operator delete(block.memory, std::align_val_t(kHugePage));
  }
}

}  // namespace cpu
}  // namespace lstm_ext
