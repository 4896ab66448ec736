// See gloo_shim.h. The wheel has c10d's headers but not gloo's: gloo_stub/ declares the few types they name.
#define USE_C10D_GLOO

#include "gloo_shim.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/ops/from_blob.h>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace {

constexpr auto kUnreachable = "the rendezvous of this group supports set, get, add and wait only";

char* copy_message(const char* text) {
  const size_t size = std::strlen(text) + 1;
  auto* copy = static_cast<char*>(std::malloc(size));
  if (copy != nullptr) {
    std::memcpy(copy, text, size);
  }
  return copy;
}

// Runs `body`; an exception becomes a message.
template <typename Body>
char* guarded(Body body) {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return copy_message(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return copy_message(error.what());
  } catch (...) {
    return copy_message("an exception that is not a std::exception");
  }
}

void take_text(void* sink, const uint8_t* data, size_t size) {
  static_cast<std::string*>(sink)->assign(reinterpret_cast<const char*>(data), size);
}

void take_bytes(void* sink, const uint8_t* data, size_t size) {
  // Both sinks of `get` are strings, so that one function serves value and error.
  take_text(sink, data, size);
}

// A c10d::Store whose answers come from the caller of polya_gloo_connect.
class CallbackStore final : public c10d::Store {
 public:
  CallbackStore(const polya_gloo_store& callbacks, std::chrono::milliseconds timeout)
      : c10d::Store(timeout), callbacks_(callbacks) {}

  c10::intrusive_ptr<c10d::Store> clone() override {
    return c10::make_intrusive<CallbackStore>(callbacks_, timeout_);
  }

  void set(const std::string& key, const std::vector<uint8_t>& value) override {
    std::string error;
    if (callbacks_.set(callbacks_.context, key.data(), key.size(), value.data(), value.size(), take_text, &error) != 0) {
      throw std::runtime_error("rendezvous: set " + key + ": " + error);
    }
  }

  std::vector<uint8_t> get(const std::string& key) override {
    return fetch(key, timeout_);
  }

  int64_t add(const std::string& key, int64_t amount) override {
    std::string error;
    int64_t sum = 0;
    if (callbacks_.add(callbacks_.context, key.data(), key.size(), amount, &sum, take_text, &error) != 0) {
      throw std::runtime_error("rendezvous: add " + key + ": " + error);
    }
    return sum;
  }

  void wait(const std::vector<std::string>& keys) override {
    wait(keys, timeout_);
  }

  // c10d asks for minutes here; the group's own time limit is the longest that makes sense.
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) override {
    for (const auto& key : keys) {
      fetch(key, std::min(timeout, timeout_));
    }
  }

  bool check(const std::vector<std::string>&) override {
    throw std::runtime_error(kUnreachable);
  }
  bool deleteKey(const std::string&) override {
    throw std::runtime_error(kUnreachable);
  }
  int64_t getNumKeys() override {
    throw std::runtime_error(kUnreachable);
  }

 private:
  std::vector<uint8_t> fetch(const std::string& key, std::chrono::milliseconds timeout) {
    std::string value;
    std::string error;
    const auto wait_ms = static_cast<uint64_t>(timeout.count());
    if (callbacks_.get(callbacks_.context, key.data(), key.size(), wait_ms, take_bytes, &value, &error) != 0) {
      throw std::runtime_error("rendezvous: get " + key + ": " + error);
    }
    return std::vector<uint8_t>(value.begin(), value.end());
  }

  polya_gloo_store callbacks_;
};

// Reaches the connections, which c10d keeps to itself.
class AbortableGloo final : public c10d::ProcessGroupGloo {
 public:
  using c10d::ProcessGroupGloo::ProcessGroupGloo;

  void close_connections() {
    for (auto& context : contexts_) {
      for (int rank = 0; rank < getSize(); ++rank) {
        if (rank == getRank()) {
          continue;
        }
        if (auto& pair = context->getPair(rank)) {
          reinterpret_cast<gloo::transport::tcp::Pair*>(pair.get())->signalExceptionExternal("the group was aborted");
        }
      }
    }
  }
};

} // namespace

struct polya_gloo_group {
  c10::intrusive_ptr<AbortableGloo> backend;
};

namespace {

// c10d's flight recorder writes each collective of the process into one map, without a lock (libtorch 2.11, record): two
// groups that began at the same moment broke it.
std::mutex beginning;

c10::intrusive_ptr<c10d::Work> begin_all_reduce(polya_gloo_group* group, std::vector<at::Tensor>& tensors) {
  const std::lock_guard<std::mutex> one_at_a_time(beginning);
  return group->backend->allreduce(tensors); // SUM is the default operation
}

char* all_reduce(polya_gloo_group* group, void* numbers, size_t count, at::ScalarType type) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{at::from_blob(numbers, {static_cast<int64_t>(count)}, type)};
    // No time limit on the wait itself: gloo's own ends it, and only then are the numbers free again.
    begin_all_reduce(group, tensors)->wait();
  });
}

} // namespace

char* polya_gloo_connect(const polya_gloo_store* store, int32_t rank, int32_t world_size, const char* host,
                         uint64_t timeout_ms, polya_gloo_group** group) {
  return guarded([&] {
    const auto timeout = std::chrono::milliseconds(timeout_ms);
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(host, /*lazyInit=*/false));
    options->threads = 1;
    auto backend = c10::make_intrusive<AbortableGloo>(
        c10::make_intrusive<CallbackStore>(*store, timeout), rank, world_size, std::move(options));
    *group = new polya_gloo_group{std::move(backend)};
  });
}

char* polya_gloo_all_reduce_i32(polya_gloo_group* group, int32_t* words, size_t count) {
  return all_reduce(group, words, count, at::kInt);
}

char* polya_gloo_all_reduce_f32(polya_gloo_group* group, float* values, size_t count) {
  return all_reduce(group, values, count, at::kFloat);
}

char* polya_gloo_abort(polya_gloo_group* group) {
  return guarded([&] { group->backend->close_connections(); });
}

void polya_gloo_destroy(polya_gloo_group* group) {
  // Nobody is left to tell.
  std::free(guarded([&] { delete group; }));
}

void polya_gloo_free(char* message) {
  std::free(message);
}
