// libtorch's own threads for loops of ours, so that one number of threads rules all of a process.

#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <algorithm>

namespace {

// The OpenMP runtime that libtorch uses, by its own entries: a region compiled here would bring a second runtime, and
// without one at::parallel_for is an ordinary loop.
struct Runtime {
  void (*region)(void (*)(void*), void*, unsigned, unsigned);
  int (*threads)();
  int (*number)();

  Runtime()
      : region(reinterpret_cast<decltype(region)>(dlsym(RTLD_DEFAULT, "GOMP_parallel"))),
        threads(reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_num_threads"))),
        number(reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_thread_num"))) {}

  bool found() const { return region != nullptr && threads != nullptr && number != nullptr; }
};

struct Loop {
  const Runtime& runtime;
  int64_t count;
  void (*task)(void*, int64_t);
  void* context;

  // An equal part of the indices, one after the other.
  void part(int64_t number, int64_t threads) const {
    for (int64_t index = count * number / threads; index < count * (number + 1) / threads; ++index) task(context, index);
  }
};

}  // namespace

// Calls task(context, index) for every index below count. The task must not throw.
extern "C" void polya_parallel(int64_t count, void (*task)(void*, int64_t), void* context) {
  static const Runtime runtime;
  Loop loop{runtime, count, task, context};
  auto threads = std::min<int64_t>(count, at::get_num_threads());
  if (threads <= 1 || at::in_parallel_region() || !runtime.found()) return loop.part(0, 1);
  runtime.region(
      [](void* data) {
        auto loop = static_cast<const Loop*>(data);
        loop->part(loop->runtime.number(), loop->runtime.threads());
      },
      &loop, static_cast<unsigned>(threads), 0);
}
