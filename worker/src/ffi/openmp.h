// The OpenMP runtime that libtorch uses, by its own entries: a region compiled here would bring a second runtime.
#pragma once

#include <dlfcn.h>

struct OpenMp {
  void (*region)(void (*)(void*), void*, unsigned, unsigned);
  int (*threads)();
  int (*number)();

  OpenMp()
      : region(reinterpret_cast<decltype(region)>(dlsym(RTLD_DEFAULT, "GOMP_parallel"))),
        threads(reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_num_threads"))),
        number(reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_thread_num"))) {}

  bool found() const { return region != nullptr && threads != nullptr && number != nullptr; }
};
