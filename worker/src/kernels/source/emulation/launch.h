// Stands behind the kernels' text: launches one by name, 0 when there is none.
#define POLYA_KERNEL(kernel)                                 \
  if (std::strcmp(name, #kernel) == 0) {                     \
    launch(kernel, Index{grid_x, grid_y, 1}, threads, arguments); \
    return 1;                                                \
  }

extern "C" int polya_emulate(const char* name, unsigned grid_x, unsigned grid_y, unsigned threads, void** arguments) {
  POLYA_KERNEL(nf4_dequantise_f16)
  POLYA_KERNEL(nf4_dequantise_f32)
  POLYA_KERNEL(nf4_multiply_f16)
  POLYA_KERNEL(dropout_mask_f16)
  return 0;
}
