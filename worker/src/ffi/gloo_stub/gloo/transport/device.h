// A listening socket and its event loop: pointers only.
#pragma once

#include <memory>

namespace gloo::transport {

class UnboundBuffer {
 public:
  UnboundBuffer() = delete;
  virtual ~UnboundBuffer();
};

class Device;

} // namespace gloo::transport
