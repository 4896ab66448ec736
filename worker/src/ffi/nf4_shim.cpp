// The product with a packed NF4 matrix as an autograd function: tch has no custom functions. Forward and backward each
// dequantise into a matrix that lives only as long as its product; only the packed tensors are saved.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>
#include <string>

extern "C" void polya_nf4_dequantise(const uint8_t* packed, const uint8_t* scale_codes, const float* nested, float offset,
                                     int64_t count, float* out);

// The same on a GPU: queues the kernel that fills `out`. 0, or another number and a message of at most `size` bytes.
extern "C" int polya_nf4_dequantise_gpu(const at::Tensor* packed, const at::Tensor* scale_codes, const at::Tensor* nested,
                                        float offset, const at::Tensor* out, char* message, size_t size);

namespace {

struct Packed {
  at::Tensor packed, scale_codes, nested;
  double offset;
  int64_t out, in;
};

// The dense matrix in fp32, rounded once to what the product is computed in.
at::Tensor dequantise(const Packed& weight, at::ScalarType type) {
  if (weight.packed.is_cuda()) {
    // The caching allocator gives every product the same memory again: one buffer for all of them.
    auto dense = at::empty({weight.out, weight.in}, weight.packed.options().dtype(type));
    char message[512];
    TORCH_CHECK(polya_nf4_dequantise_gpu(&weight.packed, &weight.scale_codes, &weight.nested,
                                         static_cast<float>(weight.offset), &dense, message, sizeof message) == 0,
                message);
    return dense;
  }
  auto dense = at::empty({weight.out, weight.in}, at::kFloat);
  polya_nf4_dequantise(weight.packed.const_data_ptr<uint8_t>(), weight.scale_codes.const_data_ptr<uint8_t>(),
                       weight.nested.const_data_ptr<float>(), static_cast<float>(weight.offset),
                       weight.out * weight.in, dense.mutable_data_ptr<float>());
  return dense.to(type);
}

struct Nf4Linear : torch::autograd::Function<Nf4Linear> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& packed,
                            const at::Tensor& scale_codes, const at::Tensor& nested, double offset, int64_t out,
                            int64_t in) {
    context->save_for_backward({packed, scale_codes, nested});
    context->saved_data["offset"] = offset;
    context->saved_data["out"] = out;
    context->saved_data["in"] = in;
    return at::matmul(x, dequantise({packed, scale_codes, nested, offset, out, in}, x.scalar_type()).t());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    auto saved = context->get_saved_variables();
    Packed weight{saved[0], saved[1], saved[2], context->saved_data["offset"].toDouble(),
                  context->saved_data["out"].toInt(), context->saved_data["in"].toInt()};
    at::Tensor none;
    return {at::matmul(gradients[0], dequantise(weight, gradients[0].scalar_type())), none, none, none, none, none, none};
  }
};

}  // namespace

// Gives a new tensor, or null and a message of at most `size` bytes.
extern "C" at::Tensor* polya_nf4_linear(const at::Tensor* x, const at::Tensor* packed, const at::Tensor* scale_codes,
                                        const at::Tensor* nested, float offset, int64_t out, int64_t in, char* message,
                                        size_t size) {
  try {
    return new at::Tensor(Nf4Linear::apply(*x, *packed, *scale_codes, *nested, static_cast<double>(offset), out, in));
  } catch (const std::exception& error) {
    std::strncpy(message, error.what(), size - 1);
    message[size - 1] = 0;
    return nullptr;
  }
}
