// NF4 with double quantisation: blocks of 64 weights, 16 values, two a byte with the first one in the high half; scales
// are 8-bit codes in blocks of 256. Twins: ../reference.rs.
//
// NF4_CODE and SCALE_CODE stand before this text: they are written from the tables of quantization/.

// Weights that one thread expands: four bytes, always of one block.
constexpr int RUN = 8;
// Rows of x that share one pass over the weights.
constexpr int ROWS = 4;
constexpr int WARP = 32;

__device__ inline float block_scale(const u8* scale_codes, const float* nested, float offset, i64 block) {
  return SCALE_CODE[scale_codes[block]] * nested[block / 256] + offset;
}

__device__ inline int code_at(u32 bytes, int index) {
  const u32 byte = bytes >> (8 * (index / 2));
  return (index % 2 == 0 ? byte >> 4 : byte) & 15;
}

// A divergent index into constant memory is served lane by lane; sixteen words of shared memory have no conflict.
__device__ inline void load_codes(float* codes) {
  for (int index = threadIdx.x; index < 16; index += blockDim.x) {
    codes[index] = NF4_CODE[index];
  }
  __syncthreads();
}

__device__ inline void store_run(const float* values, u16* out) {
  u32 words[4];
  for (int pair = 0; pair < 4; ++pair) {
    words[pair] = half_of(values[2 * pair]) | static_cast<u32>(half_of(values[2 * pair + 1])) << 16;
  }
  *reinterpret_cast<uint4*>(out) = make_uint4(words[0], words[1], words[2], words[3]);
}

__device__ inline void store_run(const float* values, float* out) {
  reinterpret_cast<float4*>(out)[0] = make_float4(values[0], values[1], values[2], values[3]);
  reinterpret_cast<float4*>(out)[1] = make_float4(values[4], values[5], values[6], values[7]);
}

__device__ inline void store_one(float value, u16* out) {
  *out = half_of(value);
}

__device__ inline void store_one(float value, float* out) {
  *out = value;
}

template <typename Out>
__device__ inline void dequantise(const u8* packed, const u8* scale_codes, const float* nested, float offset, i64 count,
                                  Out* out) {
  __shared__ float codes[16];
  load_codes(codes);
  const i64 stride = static_cast<i64>(gridDim.x) * blockDim.x * RUN;
  for (i64 first = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) * RUN; first < count; first += stride) {
    const float scale = block_scale(scale_codes, nested, offset, first / 64);
    if (first + RUN <= count) {
      const u32 bytes = *reinterpret_cast<const u32*>(packed + first / 2);
      float values[RUN];
      for (int index = 0; index < RUN; ++index) {
        values[index] = codes[code_at(bytes, index)] * scale;
      }
      store_run(values, out + first);
    } else {
      for (i64 index = first; index < count; ++index) {
        const u32 byte = packed[index / 2];
        store_one(codes[index % 2 == 0 ? byte >> 4 : byte & 15] * scale, out + index);
      }
    }
  }
}

extern "C" __global__ void nf4_dequantise_f16(const u8* packed, const u8* scale_codes, const float* nested, float offset,
                                              i64 count, u16* out) {
  dequantise(packed, scale_codes, nested, offset, count, out);
}

extern "C" __global__ void nf4_dequantise_f32(const u8* packed, const u8* scale_codes, const float* nested, float offset,
                                              i64 count, float* out) {
  dequantise(packed, scale_codes, nested, offset, count, out);
}

// y = x W^T for few rows (decoding): the packed weights are read once for ROWS rows, a dense matrix never exists.
// x [rows, input] fp16, y [rows, output] fp16; input is a multiple of RUN. A warp makes one column of y: lane l adds runs
// l, l + 32, ... in fp32, then the lanes are added as a tree of halves.
extern "C" __global__ void nf4_multiply_f16(const u16* x, const u8* packed, const u8* scale_codes, const float* nested,
                                            float offset, i64 input, i64 output, i32 rows, u16* y) {
  __shared__ float codes[16];
  load_codes(codes);
  const int lane = threadIdx.x % WARP;
  const i64 column = static_cast<i64>(blockIdx.x) * (blockDim.x / WARP) + threadIdx.x / WARP;
  const i32 first_row = static_cast<i32>(blockIdx.y) * ROWS;
  if (column >= output) {
    return;  // a whole warp
  }
  float sums[ROWS] = {};
  for (i64 place = lane * RUN; place < input; place += WARP * RUN) {
    const i64 element = column * input + place;
    const float scale = block_scale(scale_codes, nested, offset, element / 64);
    const u32 bytes = *reinterpret_cast<const u32*>(packed + element / 2);
    for (int row = 0; row < ROWS; ++row) {
      if (first_row + row < rows) {
        const uint4 run = *reinterpret_cast<const uint4*>(x + static_cast<i64>(first_row + row) * input + place);
        const u32 pairs[RUN / 2] = {run.x, run.y, run.z, run.w};
        for (int index = 0; index < RUN; ++index) {
          const u32 pair = pairs[index / 2];
          const float value = float_of(static_cast<u16>(index % 2 == 0 ? pair : pair >> 16));
          sums[row] = fmaf(codes[code_at(bytes, index)] * scale, value, sums[row]);
        }
      }
    }
  }
  for (int row = 0; row < ROWS; ++row) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
      sums[row] += __shfl_xor_sync(0xffffffffu, sums[row], distance);
    }
    if (lane == 0 && first_row + row < rows) {
      y[static_cast<i64>(first_row + row) * output + column] = half_of(sums[row]);
    }
  }
}
