// Runs the kernels on a CPU: the names of device.cuh for a C++ compiler. A block's threads are threads of the system that
// meet at barriers; blocks run one after the other, so shared memory can be a static variable. Tests only.
#include <pthread.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

#define __global__
#define __device__
#define __shared__ static

struct Index {
  unsigned x, y, z;
};
struct alignas(16) uint4 {
  u32 x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// Where all threads of a group wait for each other; a thread that has returned no longer counts.
class Barrier {
 public:
  explicit Barrier(unsigned threads) : members_(threads) {}
  void wait() {
    pthread_mutex_lock(&mutex_);
    const unsigned round = round_;
    if (++waiting_ == members_) {
      open();
    }
    while (round == round_) {
      pthread_cond_wait(&opened_, &mutex_);
    }
    pthread_mutex_unlock(&mutex_);
  }
  void leave() {
    pthread_mutex_lock(&mutex_);
    --members_;
    if (members_ > 0 && waiting_ == members_) {
      open();
    }
    pthread_mutex_unlock(&mutex_);
  }

 private:
  void open() {
    waiting_ = 0;
    ++round_;
    pthread_cond_broadcast(&opened_);
  }
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t opened_ = PTHREAD_COND_INITIALIZER;
  unsigned members_, waiting_ = 0, round_ = 0;
};

struct Warp {
  Barrier barrier;
  float values[32] = {};
  explicit Warp(unsigned lanes) : barrier(lanes) {}
};

inline thread_local Index threadIdx, blockIdx, blockDim, gridDim;
inline thread_local Barrier* block_barrier;
inline thread_local Warp* warp;

inline void __syncthreads() { block_barrier->wait(); }

inline float __shfl_xor_sync(u32, float value, int distance) {
  const unsigned lane = threadIdx.x % 32;
  warp->values[lane] = value;
  warp->barrier.wait();
  const float other = warp->values[lane ^ static_cast<unsigned>(distance)];
  warp->barrier.wait();
  return other;
}

inline u32 __float_as_uint(float x) {
  u32 bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float float_of_bits(u32 bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

using std::fmaf;

inline float float_of(u16 half) {
  const u32 sign = static_cast<u32>(half & 0x8000u) << 16;
  const u32 exponent = (half >> 10) & 31u, fraction = half & 1023u;
  if (exponent == 31) {
    return float_of_bits(sign | 0x7f800000u | fraction << 13);
  }
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                   : std::ldexp(static_cast<float>(fraction + 1024u), static_cast<int>(exponent) - 25);
  return sign != 0 ? -size : size;
}

// Nearest, ties to even: a half has a spacing of 2^(e - 10) between 2^e and 2^(e + 1), 2^-24 below 2^-14.
inline u16 half_of(float x) {
  const u16 sign = static_cast<u16>(__float_as_uint(x) >> 16 & 0x8000u);
  const float size = std::fabs(x);
  if (!(size <= 3.402823466e38f)) {
    return static_cast<u16>(sign | (std::isnan(x) ? 0x7fffu : 0x7c00u));
  }
  int exponent = -14;
  if (size >= 0x1p-14f) {
    std::frexp(size, &exponent);
    --exponent;
  }
  if (exponent > 15) {
    return static_cast<u16>(sign | 0x7c00u);
  }
  const float steps = std::nearbyint(std::ldexp(size, 10 - exponent));
  if (steps >= 2048.0f) {
    return steps == 2048.0f && exponent < 15 ? static_cast<u16>(sign | static_cast<u32>(exponent + 16) << 10)
                                             : static_cast<u16>(sign | 0x7c00u);
  }
  const u32 bits = static_cast<u32>(steps);
  if (bits < 1024) {
    return static_cast<u16>(sign | bits);
  }
  return static_cast<u16>(sign | (static_cast<u32>(exponent + 15) << 10) | (bits - 1024));
}

template <typename Kernel>
void run_blocks(Index grid, unsigned threads, const Kernel& kernel) {
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      Barrier barrier(threads);
      std::vector<std::unique_ptr<Warp>> warps;
      for (unsigned first = 0; first < threads; first += 32) {
        warps.push_back(std::make_unique<Warp>(threads - first < 32 ? threads - first : 32));
      }
      std::vector<std::thread> running;
      for (unsigned index = 0; index < threads; ++index) {
        running.emplace_back([&, index] {
          threadIdx = {index, 0, 0};
          blockIdx = {x, y, 0};
          blockDim = {threads, 1, 1};
          gridDim = grid;
          block_barrier = &barrier;
          warp = warps[index / 32].get();
          kernel();
          warp->barrier.leave();
          barrier.leave();
        });
      }
      for (auto& thread : running) {
        thread.join();
      }
    }
  }
}

// Arguments as cuLaunchKernel takes them: a pointer to each.
template <typename... Arguments, size_t... Places>
void call(void (*kernel)(Arguments...), void** arguments, std::index_sequence<Places...>) {
  kernel(*static_cast<Arguments*>(arguments[Places])...);
}

template <typename... Arguments>
void launch(void (*kernel)(Arguments...), Index grid, unsigned threads, void** arguments) {
  run_blocks(grid, threads, [&] { call(kernel, arguments, std::index_sequence_for<Arguments...>{}); });
}
