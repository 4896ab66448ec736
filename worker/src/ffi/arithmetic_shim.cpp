// What this machine's arithmetic depends on: the kernels that libtorch chose, and its OpenMP runtime's threads.

#include "openmp.h"

#include <ATen/Version.h>
#include <torch/version.h>

#include <cstring>
#include <string>

// Writes libtorch's version and the instruction set its kernels are chosen for; at most `size` bytes, zero-ended.
extern "C" void polya_arithmetic_words(char* text, size_t size) {
  std::string words = std::string("libtorch ") + TORCH_VERSION + ", kernels for " + at::get_cpu_capability();
  std::strncpy(text, words.c_str(), size - 1);
  text[size - 1] = 0;
}

// Threads of a real parallel region of the OpenMP runtime that libtorch itself uses; 0 where there is none.
extern "C" int polya_threads_in_parallel() {
  struct Count {
    OpenMp runtime;
    int found;
  };
  Count count{OpenMp(), 0};
  if (!count.runtime.found()) return 0;
  count.runtime.region(
      [](void* data) {
        auto* count = static_cast<Count*>(data);
        // Each thread writes the same number.
        __atomic_store_n(&count->found, count->runtime.threads(), __ATOMIC_RELAXED);
      },
      &count, 0, 0);
  return count.found;
}
