//! The product with vectors of 512 bits: up to sixteen rows have their sums in registers while the weights go by once,
//! expanded in a register. Nothing is written but the sums, so that weights come at the memory's speed.

use std::arch::x86_64::{
    __m128i, __m256i, __m512, _MM_HINT_T0, _mm_loadl_epi64, _mm_prefetch, _mm256_load_si256, _mm512_castsi128_si512,
    _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_load_ps, _mm512_loadu_ps,
    _mm512_mul_ps, _mm512_permutexvar_epi32, _mm512_permutexvar_ps, _mm512_set_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_slli_epi32, _mm512_srlv_epi32, _mm512_store_ps,
};

use super::{Lanes, ROWS, Stored};

/// Bytes between the weights in use and those that are asked for: what the memory takes to answer, at its full rate.
const AHEAD: usize = 4096;

/// # Safety
/// The processor has AVX-512 F and DQ; `w` has whole blocks of sixteen k, and `x` all of them for each row of `y`.
#[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
pub(super) unsafe fn multiply_add(x: &[Lanes], w: Stored, y: &mut [Lanes]) {
    let product = Product { x, blocks: w.len() / 16 };
    // SAFETY: `load` is called for k below `w.len()` only.
    unsafe {
        match w {
            Stored::Full(w) => {
                let w = w.as_ptr();
                product.rows::<64>(w.cast(), y, |k| _mm512_load_ps(w.add(k).cast()));
            }
            Stored::Half(w) => {
                let w = w.as_ptr();
                product.rows::<32>(w.cast(), y, |k| _mm512_cvtph_ps(_mm256_load_si256(w.add(k).cast::<__m256i>())));
            }
            Stored::Brain(w) => {
                let w = w.as_ptr();
                product.rows::<32>(w.cast(), y, |k| {
                    let bits = _mm512_cvtepu16_epi32(_mm256_load_si256(w.add(k).cast::<__m256i>()));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
                });
            }
            Stored::Nf4 { codes, scales, block, code } => {
                assert!(scales.len() * block >= codes.len(), "one scale a block");
                let (codes, scales, code) = (codes.as_ptr(), scales.as_ptr(), _mm512_loadu_ps(code.as_ptr()));
                // Each lane takes the half of the eight bytes and then the nibble that is its own; the table is looked up
                // with the low four bits.
                let half = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
                let nibble = _mm512_set_epi32(24, 28, 16, 20, 8, 12, 0, 4, 24, 28, 16, 20, 8, 12, 0, 4);
                product.rows::<8>(codes.cast(), y, |k| {
                    let bytes = _mm_loadl_epi64(codes.add(k).cast::<__m128i>());
                    let halves = _mm512_permutexvar_epi32(half, _mm512_castsi128_si512(bytes));
                    let value = _mm512_permutexvar_ps(_mm512_srlv_epi32(halves, nibble), code);
                    _mm512_mul_ps(value, _mm512_load_ps(scales.add(k / block).cast()))
                });
            }
        }
    }
}

/// The left side, and how many blocks of sixteen k there are.
#[derive(Clone, Copy)]
struct Product<'a> {
    x: &'a [Lanes],
    blocks: usize,
}

impl Product<'_> {
    /// All rows. `stored`: where the weights lie, `BYTES` a k.
    ///
    /// # Safety
    /// As above; `load` gives the weights of k for every k of the blocks.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
    unsafe fn rows<const BYTES: usize>(
        self,
        stored: *const i8,
        y: &mut [Lanes],
        load: impl Fn(usize) -> __m512 + Copy,
    ) {
        for (x, y) in self.x.chunks(ROWS * self.blocks.max(1)).zip(y.chunks_mut(ROWS)) {
            macro_rules! tile {
                ($($rows:literal)*) => {
                    match y.len() {
                        // SAFETY: x is a group of these rows.
                        $($rows => unsafe { Product { x, ..self }.tile::<$rows, BYTES>(stored, y, load) },)*
                        rows => unreachable!("{rows} rows of sixteen"),
                    }
                };
            }
            tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
        }
    }

    /// # Safety
    /// As above; `x` and `y` have M rows.
    #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
    unsafe fn tile<const M: usize, const BYTES: usize>(
        self,
        stored: *const i8,
        y: &mut [Lanes],
        load: impl Fn(usize) -> __m512,
    ) {
        // SAFETY: row m of a block is x[block * M + m]; a prefetch may be of any address.
        unsafe {
            let mut sums = [_mm512_setzero_ps(); M];
            for (sum, y) in sums.iter_mut().zip(&*y) {
                *sum = _mm512_load_ps(y.0.as_ptr());
            }
            for block in 0..self.blocks {
                let x = self.x.as_ptr().add(block * M).cast::<f32>();
                for k in 0..16 {
                    if (k * BYTES).is_multiple_of(64) {
                        _mm_prefetch::<_MM_HINT_T0>(stored.wrapping_add((16 * block + k) * BYTES + AHEAD));
                    }
                    let w = load(16 * block + k);
                    for (m, sum) in sums.iter_mut().enumerate() {
                        *sum = _mm512_fmadd_ps(_mm512_set1_ps(*x.add(16 * m + k)), w, *sum);
                    }
                }
            }
            for (sum, y) in sums.iter().zip(y) {
                _mm512_store_ps(y.0.as_mut_ptr(), *sum);
            }
        }
    }
}
