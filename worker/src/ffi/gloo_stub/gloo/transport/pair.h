// One connection between two ranks: pointers only.
#pragma once

#include <exception>
#include <string>

namespace gloo::transport {

class Pair {
 public:
  Pair() = delete;
  virtual ~Pair();
};

namespace tcp {

// The only transport that this project uses. Its first base is transport::Pair, at offset 0.
class Pair {
 public:
  Pair() = delete;
  // Fails every operation that waits on this connection, then closes it.
  std::exception_ptr signalExceptionExternal(const std::string& message);
};

} // namespace tcp
} // namespace gloo::transport
