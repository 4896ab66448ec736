// The part of gloo::Context that c10d's header names. Its objects are made inside libtorch_cpu and seen here through
// pointers only: this class has no layout of its own. Signatures are those of the gloo in libtorch 2.11.
#pragma once

#include <chrono>
#include <memory>

#include <gloo/transport/pair.h>

namespace gloo {

class Context {
 public:
  Context() = delete;
  void setTimeout(std::chrono::milliseconds timeout);
  std::unique_ptr<transport::Pair>& getPair(int rank);
};

} // namespace gloo
