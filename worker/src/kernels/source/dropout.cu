// The dropout mask [rows, width] of one projection's input, from the tokens' keys alone. Twin: adapters/dropout.rs.

__device__ inline u64 mix(u64 z) {
  z += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

__device__ inline u32 scramble(u32 h) {
  h ^= h >> 16;
  h *= 0x85ebca6bu;
  h ^= h >> 13;
  h *= 0xc2b2ae35u;
  return h ^ (h >> 16);
}

// 0 where an input is dropped, `kept` elsewhere; `place` names projection and adapter.
extern "C" __global__ void dropout_mask_f16(const u64* keys, i64 rows, i64 width, u64 place, u32 threshold, float kept,
                                            u16* mask) {
  const i64 stride = static_cast<i64>(gridDim.x) * blockDim.x;
  const u16 kept_half = half_of(kept);
  for (i64 index = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; index < rows * width; index += stride) {
    const u32 key = static_cast<u32>(mix(keys[index / width] ^ place));
    const u32 column = static_cast<u32>(index % width);
    mask[index] = scramble(key ^ (column * 0x9e3779b1u)) >= threshold ? kept_half : static_cast<u16>(0);
  }
}
