// What tch does not reach: libtorch's settings for reproducible GPU arithmetic, its current stream, its memory counters.
// Everything here is in libtorch_cpu; it does something once libtorch_cuda has been opened.

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstring>
#include <string>

namespace {

// Runs `body`; an exception becomes a message and a number that is not 0.
template <typename Body>
int guarded(char* message, size_t size, Body body) {
  try {
    body();
    return 0;
  } catch (const c10::Error& error) {
    std::strncpy(message, error.what_without_backtrace(), size - 1);
  } catch (const std::exception& error) {
    std::strncpy(message, error.what(), size - 1);
  }
  message[size - 1] = 0;
  return 1;
}

}  // namespace

extern "C" int polya_cuda_stream(int device, void** handle, char* message, size_t size) {
  return guarded(message, size, [&] {
    const auto* gpu = c10::impl::getDeviceGuardImpl(c10::DeviceType::CUDA);
    const c10::Device where(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device));
    *handle = gpu->getStreamNativeHandle(gpu->getStream(where));
  });
}

// One result for one input: deterministic kernels only, products that add in fp32, attention by the one kernel that Turing
// has. Filling fresh memory would cost time and change nothing, since nothing reads it before writing.
extern "C" int polya_reproducible(char* message, size_t size) {
  return guarded(message, size, [] {
    auto& context = at::globalContext();
    context.setDeterministicAlgorithms(true, /*warn_only=*/false);
    context.setDeterministicFillUninitializedMemory(false);
    context.setDeterministicCuDNN(true);
    context.setBenchmarkCuDNN(false);
    context.setAllowTF32CuBLAS(false);
    context.setAllowTF32CuDNN(false);
    context.setAllowFP16ReductionCuBLAS(false);
    context.setAllowBF16ReductionCuBLAS(false);
    context.setSDPUseFlash(false);
    context.setSDPUseCuDNN(false);
    context.setSDPUseMath(false);
    context.setSDPUseMemEfficient(true);
  });
}

// Bits, in the order of the calls above: what is set, read back.
extern "C" unsigned polya_reproducible_state() {
  auto& context = at::globalContext();
  const auto exact = at::CuBLASReductionOption::DisallowReducedPrecisionAllowSplitK;
  const bool state[] = {context.deterministicAlgorithms(), !context.deterministicAlgorithmsWarnOnly(),
                        !context.deterministicFillUninitializedMemory(), context.deterministicCuDNN(),
                        !context.benchmarkCuDNN(), !context.allowTF32CuBLAS(), !context.allowTF32CuDNN(),
                        context.allowFP16ReductionCuBLAS() == exact, context.allowBF16ReductionCuBLAS() == exact,
                        !context.userEnabledFlashSDP(), !context.userEnabledCuDNNSDP(), !context.userEnabledMathSDP(),
                        context.userEnabledMemEfficientSDP()};
  unsigned bits = 0;
  for (size_t index = 0; index < sizeof state; ++index) {
    bits |= static_cast<unsigned>(state[index]) << index;
  }
  return bits;
}

// The most bytes that tensors have taken on a device at once.
extern "C" int polya_cuda_peak(int device, size_t* bytes, char* message, size_t size) {
  return guarded(message, size, [&] {
    const auto stats = c10::getDeviceAllocator(c10::DeviceType::CUDA)->getDeviceStats(
        static_cast<c10::DeviceIndex>(device));
    // The first kind counts all pools together.
    *bytes = static_cast<size_t>(stats.allocated_bytes[0].peak);
  });
}
