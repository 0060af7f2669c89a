// What the host asks of CUDA, without its header: devices, pointers, and a word that both see.
#pragma once

#include <string>

namespace lstm_ext {
namespace cuda {

using Stream = void*;  // a cudaStream_t

struct Chip {
  std::string name;
  int capability;    // 90: 9.0
  int processors;    // streaming multiprocessors
  int shared_bytes;  // that a block may have
};

// The number of devices, or 0 and why.
int device_count(std::string* reason);
int current_device();
Chip chip_of(int device);

// The device whose memory `p` points to, -1: none.
int device_of(const void* p);

// One word that the host and all devices see, zero at first; it lives as long as the process.
int* shared_word();

// The largest cluster of blocks with all their shared memory that the current device runs; 1: none.
int largest_cluster(const Chip& chip);

}  // namespace cuda
}  // namespace lstm_ext
