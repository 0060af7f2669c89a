#include "cuda/runtime.hpp"

#include "cuda/device.hpp"

namespace lstm_ext {
namespace cuda {

int device_count(std::string* reason) {
  int driver = 0, count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    *reason = "no CUDA driver is installed";
    return 0;
  }
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    *reason = "the CUDA driver finds no device";
  } else if (status != cudaSuccess) {
    *reason = std::string("the CUDA driver says: ") + cudaGetErrorString(status);
  }
  return status == cudaSuccess ? count : 0;
}

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "device");
  return device;
}

Chip chip_of(int device) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "device");
  return {properties.name, 10 * properties.major + properties.minor, properties.multiProcessorCount,
          static_cast<int>(properties.sharedMemPerBlockOptin)};
}

int device_of(const void* p) {
  cudaPointerAttributes attributes{};
  const cudaError_t status = cudaPointerGetAttributes(&attributes, p);
  cudaGetLastError();
  const bool is_device = status == cudaSuccess && (attributes.type == cudaMemoryTypeDevice ||
                                                   attributes.type == cudaMemoryTypeManaged);
  return is_device ? attributes.device : -1;
}

int* shared_word() {
  static int* const word = [] {
    void* memory = nullptr;
    check(cudaHostAlloc(&memory, sizeof(int), cudaHostAllocPortable | cudaHostAllocMapped),
          "host memory");
    *static_cast<int*>(memory) = 0;
    return static_cast<int*>(memory);
  }();
  return word;
}

}  // namespace cuda
}  // namespace lstm_ext
