// libtorch's own threads for loops of ours, so that one number of threads rules all of a process.

#include "openmp.h"

#include <ATen/Parallel.h>

#include <algorithm>

namespace {

struct Loop {
  const OpenMp& runtime;
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
  // Without it at::parallel_for would be an ordinary loop as well: these shims are compiled without OpenMP.
  static const OpenMp runtime;
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
