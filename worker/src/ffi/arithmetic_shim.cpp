// What this machine's arithmetic depends on: the kernels that libtorch chose, and its OpenMP runtime's threads.

#include <ATen/Version.h>
#include <dlfcn.h>
#include <torch/version.h>

#include <cstring>
#include <string>

// Writes libtorch's version and the instruction set its kernels are chosen for; at most `size` bytes, zero-ended.
extern "C" void polya_arithmetic_words(char* text, size_t size) {
  std::string words = std::string("libtorch ") + TORCH_VERSION + ", kernels for " + at::get_cpu_capability();
  std::strncpy(text, words.c_str(), size - 1);
  text[size - 1] = 0;
}

// Threads of a real parallel region of the OpenMP runtime that libtorch itself uses; 0 where there is none. Through the
// runtime's own entry, since a region compiled here would bring a second runtime.
extern "C" int polya_threads_in_parallel() {
  using Region = void (*)(void (*)(void*), void*, unsigned, unsigned);
  struct Count {
    int (*threads)();
    int found;
  };
  auto region = reinterpret_cast<Region>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  Count count{reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_num_threads")), 0};
  if (region == nullptr || count.threads == nullptr) return 0;
  region(
      [](void* data) {
        auto* count = static_cast<Count*>(data);
        // Each thread writes the same number.
        __atomic_store_n(&count->found, count->threads(), __ATOMIC_RELAXED);
      },
      &count, 0, 0);
  return count.found;
}
