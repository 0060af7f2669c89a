// Everything that belongs to the chip: PTX, intrinsics and launches, each behind a small function.
// Kernels use nothing else of CUDA, so that tests/native/cuda_emulation/, which has a header of
// this name, can run the same sources on the CPU.
//
// Grids are one- or two-dimensional, blocks one-dimensional, and all shared memory is dynamic.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "cuda/runtime.hpp"

#define LSTM_EXT_KERNEL(threads) __global__ void __launch_bounds__(threads, 1)
#define LSTM_EXT_DEVICE __device__ __forceinline__
#define LSTM_EXT_APART __device__ __noinline__
#define LSTM_EXT_SHARED_MEMORY(name) extern __shared__ __align__(16) unsigned char name[]

namespace lstm_ext {
namespace cuda {

constexpr int kWarp = 32;

LSTM_EXT_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
LSTM_EXT_DEVICE int thread_count() { return static_cast<int>(blockDim.x); }
LSTM_EXT_DEVICE int block_index() { return static_cast<int>(blockIdx.x); }
LSTM_EXT_DEVICE int block_index_y() { return static_cast<int>(blockIdx.y); }

LSTM_EXT_DEVICE void sync_block() { __syncthreads(); }
// Whether any thread of the block says so.
LSTM_EXT_DEVICE bool sync_block_or(bool value) { return __syncthreads_or(value) != 0; }
LSTM_EXT_DEVICE void sync_warp() { __syncwarp(); }
// All 32 lanes of a warp take part.
template <class T>
LSTM_EXT_DEVICE T shuffle(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
template <class T>
LSTM_EXT_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

LSTM_EXT_DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
LSTM_EXT_DEVICE double fused(double a, double b, double c) { return __fma_rn(a, b, c); }
LSTM_EXT_DEVICE double exponential(double x) { return exp(x); }
LSTM_EXT_DEVICE double hyperbolic_tangent(double x) { return tanh(x); }
LSTM_EXT_DEVICE double logarithm_of_one_plus(double x) { return log1p(x); }
LSTM_EXT_DEVICE double complementary_error(double x) { return erfc(x); }
// An instruction each, right to the last bit or two; 2^x of a large x is infinite, and 1 / it zero.
LSTM_EXT_DEVICE float exponential2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
LSTM_EXT_DEVICE float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
LSTM_EXT_DEVICE uint32_t multiply_high(uint32_t a, uint32_t b) { return __umulhi(a, b); }
LSTM_EXT_DEVICE float float_of(uint32_t bits) { return __uint_as_float(bits); }
LSTM_EXT_DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
LSTM_EXT_DEVICE uint16_t bfloat16_of(float x) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

// d += a·b of a warp: a 16 x 16, b 16 x 8, bfloat16, d 16 x 8 float32; the fragments of
// mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type").
LSTM_EXT_DEVICE void multiply_fragments(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                        uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A word that carries its own flag: 64 bits are written and seen as a whole.
LSTM_EXT_DEVICE void store_flagged(uint64_t* p, uint64_t value) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(p), "l"(value) : "memory");
}
LSTM_EXT_DEVICE uint64_t load_flagged(const uint64_t* p) {
  uint64_t value;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(p) : "memory");
  return value;
}

// Two neighbours at an address of 16 bytes, each seen as a whole.
LSTM_EXT_DEVICE void load_flagged_pair(const uint64_t* p, uint64_t (&values)[2]) {
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(values[0]), "=l"(values[1])
               : "l"(p)
               : "memory");
}

LSTM_EXT_DEVICE uint64_t clock_ns() {
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}
// Tells the host, through memory that both see.
LSTM_EXT_DEVICE void report(int* status, int value) {
  *static_cast<volatile int*>(status) = value;
  __threadfence_system();
}

// Thread-block clusters, for compute capability 9.0 and up; the blocks of a cluster are neighbours
// in x. An older chip has no such launch, and these are never reached there.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
LSTM_EXT_DEVICE void sync_cluster() { __trap(); }
LSTM_EXT_DEVICE void arrival_init(uint64_t*) { __trap(); }
LSTM_EXT_DEVICE void arrival_expect(uint64_t*, uint32_t) { __trap(); }
LSTM_EXT_DEVICE bool arrival_complete(uint64_t*, uint32_t) { return true; }
LSTM_EXT_DEVICE void store_to_peer(void*, uint32_t, uint64_t*, int) { __trap(); }
#else
LSTM_EXT_DEVICE uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
LSTM_EXT_DEVICE void sync_cluster() {
  __syncwarp();  // "aligned" means that the lanes of a warp come together
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// An arrival counts bytes that peers send. Each phase ends once all that were expected are there.
LSTM_EXT_DEVICE void arrival_init(uint64_t* arrival) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(arrival)) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
LSTM_EXT_DEVICE void arrival_expect(uint64_t* arrival, uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(arrival)),
      "r"(bytes)
      : "memory");
}
LSTM_EXT_DEVICE bool arrival_complete(uint64_t* arrival, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(done)
      : "r"(shared_address(arrival)), "r"(parity)
      : "memory");
  return done != 0;
}
// Writes where `word` lies, but in the shared memory of a peer, and counts at the peer's arrival.
LSTM_EXT_DEVICE void store_to_peer(void* word, uint32_t value, uint64_t* arrival, int peer) {
  uint32_t to, at;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(shared_address(word)), "r"(peer));
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"(shared_address(arrival)), "r"(peer));
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(to),
      "r"(value), "r"(at)
      : "memory");
}
#endif

// ---- the host's side ----

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next call would find it again
  throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

struct Launch {
  int blocks, blocks_y, threads;
  size_t shared_bytes;
  int cluster;       // blocks in one; 1: none
  bool cooperative;  // all blocks run at once, or the launch is refused
  Stream stream;
};

class LaunchConfig {
 public:
  explicit LaunchConfig(const Launch& launch) {
    config_.gridDim = dim3(launch.blocks, launch.blocks_y);
    config_.blockDim = dim3(launch.threads);
    config_.dynamicSmemBytes = launch.shared_bytes;
    config_.stream = static_cast<cudaStream_t>(launch.stream);
    config_.attrs = attributes_;
    if (launch.cluster > 1) {
      cudaLaunchAttribute& a = attributes_[config_.numAttrs++];
      a.id = cudaLaunchAttributeClusterDimension;
      a.val.clusterDim.x = launch.cluster;
      a.val.clusterDim.y = a.val.clusterDim.z = 1;
    }
    if (launch.cooperative) {
      cudaLaunchAttribute& a = attributes_[config_.numAttrs++];
      a.id = cudaLaunchAttributeCooperative;
      a.val.cooperative = 1;
    }
  }
  const cudaLaunchConfig_t* get() const { return &config_; }

 private:
  cudaLaunchConfig_t config_{};
  cudaLaunchAttribute attributes_[2]{};
};

template <class... P>
void allow(void (*kernel)(P...), const Launch& launch) {
  if (launch.shared_bytes > 48 * 1024) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(launch.shared_bytes)),
          "shared memory");
  }
  if (launch.cluster > 8) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
          "clusters of 16");
  }
}

template <class... P, class... A>
void launch(const Launch& launch, void (*kernel)(P...), A&&... arguments) {
  allow(kernel, launch);
  check(cudaLaunchKernelEx(LaunchConfig(launch).get(), kernel, std::forward<A>(arguments)...),
        "launch");
}

// How many clusters of this launch the chip holds at once; 0 if it can hold none.
template <class... P>
int resident_clusters(const Launch& launch, void (*kernel)(P...)) {
  allow(kernel, launch);
  int count = 0;
  if (cudaOccupancyMaxActiveClusters(&count, kernel, LaunchConfig(launch).get()) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

// The architecture that the code of a kernel was made for, as 90: 9.0; what runs may be newer.
template <class... P>
int compiled_for(void (*kernel)(P...)) {
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, kernel), "kernel");
  return attributes.ptxVersion;
}

inline void zero(void* p, size_t bytes, Stream stream) {
  check(cudaMemsetAsync(p, 0, bytes, static_cast<cudaStream_t>(stream)), "memset");
}
inline void copy(void* to, const void* from, size_t bytes, Stream stream) {
  check(
      cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(stream)),
      "copy");
}

}  // namespace cuda
}  // namespace lstm_ext
