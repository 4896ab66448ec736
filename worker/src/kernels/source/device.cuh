// What the kernels need of a GPU, without CUDA's headers: NVRTC has none where only a driver is installed.
// emulation/host.h has the same names for a C++ compiler, so that tests run the kernels on a CPU.
//
// Invariants of all kernels: no atomics, sums in a fixed order, every rounding written down (compiled without contraction).

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

__device__ inline u16 half_of(float x) {
  u16 half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return half;
}

__device__ inline float float_of(u16 half) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
  return x;
}
