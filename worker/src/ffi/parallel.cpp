// libtorch's own threads for loops of ours, so that one number of threads rules all of a process.

#include <ATen/Parallel.h>

// Calls task(context, index) for every index below count. The task must not throw.
extern "C" void polya_parallel(int64_t count, void (*task)(void*, int64_t), void* context) {
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) task(context, index);
  });
}
