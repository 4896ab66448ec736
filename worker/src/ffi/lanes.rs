//! Sixteen numbers side by side: the inner loops of decoding on CPUs.
//!
//! Every lane adds in the order of k, so a result depends neither on what is computed beside it nor on the width of the
//! vectors, as long as they have fused multiply-add.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::instructions::Class;

/// Sixteen numbers, one cache line.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub(crate) [f32; 16]);

impl Lanes {
    pub(crate) const ZERO: Lanes = Lanes([0.0; 16]);
}

/// The numbers one after the other.
pub(crate) fn numbers(lanes: &mut [Lanes]) -> &mut [f32] {
    // SAFETY: `Lanes` is sixteen fp32 without padding, and the result borrows what is borrowed.
    unsafe { std::slice::from_raw_parts_mut(lanes.as_mut_ptr().cast(), 16 * lanes.len()) }
}

/// Rows whose sums fit the sixteen registers of AVX2, with the weights and one input.
const ROWS_MAX: usize = 6;

/// `y[m] += sum over k of x[k / 16 * stride + m][k % 16] · w[k]` for every m: w has a multiple of sixteen k.
pub(crate) fn multiply_add(x: &[Lanes], stride: usize, w: &[Lanes], y: &mut [Lanes]) {
    assert!(w.len().is_multiple_of(16), "whole vectors of inputs");
    let (mut at, mut left) = (0, y.len());
    while left > 0 {
        let rows = left.min(ROWS_MAX);
        let (x, y) = (&x[at.min(x.len())..], &mut y[at..at + rows]);
        match rows {
            1 => few::<1>(x, stride, w, y),
            2 => few::<2>(x, stride, w, y),
            3 => few::<3>(x, stride, w, y),
            4 => few::<4>(x, stride, w, y),
            5 => few::<5>(x, stride, w, y),
            _ => few::<6>(x, stride, w, y),
        }
        (at, left) = (at + rows, left - rows);
    }
}

/// M rows, with the instructions of this processor.
fn few<const M: usize>(x: &[Lanes], stride: usize, w: &[Lanes], y: &mut [Lanes]) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
    fn avx512<const M: usize>(x: &[Lanes], stride: usize, w: &[Lanes], y: &mut [Lanes]) {
        plain::<M>(x, stride, w, y, f32::mul_add);
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2<const M: usize>(x: &[Lanes], stride: usize, w: &[Lanes], y: &mut [Lanes]) {
        plain::<M>(x, stride, w, y, f32::mul_add);
    }
    match Class::here() {
        // SAFETY: this processor has the instructions.
        #[cfg(target_arch = "x86_64")]
        Class::Avx512 => unsafe { avx512::<M>(x, stride, w, y) },
        // SAFETY: this processor has the instructions.
        #[cfg(target_arch = "x86_64")]
        Class::Avx2 => unsafe { avx2::<M>(x, stride, w, y) },
        _ => plain::<M>(x, stride, w, y, |x, w, sum| x * w + sum),
    }
}

#[inline(always)]
fn plain<const M: usize>(x: &[Lanes], stride: usize, w: &[Lanes], y: &mut [Lanes], add: impl Fn(f32, f32, f32) -> f32) {
    let mut sums: [[f32; 16]; M] = std::array::from_fn(|m| y[m].0);
    let (blocks, _) = w.as_chunks::<16>();
    for (block, w) in blocks.iter().enumerate() {
        let x: &[Lanes; M] = x[block * stride..].first_chunk().expect("x covers every block of w");
        for (k, w) in w.iter().enumerate() {
            for (x, sums) in x.iter().zip(&mut sums) {
                for (w, sum) in w.0.iter().zip(sums) {
                    *sum = add(x.0[k], *w, *sum);
                }
            }
        }
    }
    for (y, sums) in y.iter_mut().zip(sums) {
        y.0 = sums;
    }
}

/// Sixteen NF4 weights a k from their codes: `codes` has eight bytes a k, the first lane in the high nibble; `scales`
/// one vector a `block` of k. Gives `code[q] * scale`, as dequantising does.
pub(crate) fn expand_nf4(codes: &[u8], scales: &[Lanes], block: usize, code: &[f32; 16], out: &mut [Lanes]) {
    assert!(codes.len() == 8 * out.len() && scales.len() * block >= out.len(), "one scale a block, eight bytes a k");
    for ((codes, scale), out) in codes.chunks(8 * block).zip(scales).zip(out.chunks_mut(block)) {
        #[cfg(target_arch = "x86_64")]
        if Class::here() != Class::Portable {
            // SAFETY: the processor has AVX2; there are eight bytes of codes a vector of `out`.
            unsafe { expand_avx2(codes, scale, code, out) };
            continue;
        }
        for (codes, out) in codes.chunks_exact(8).zip(out) {
            for (lane, out) in out.0.iter_mut().enumerate() {
                let q = codes[lane / 2] >> (4 * (1 - lane % 2)) & 15;
                *out = code[usize::from(q)] * scale.0[lane];
            }
        }
    }
}

/// The table is two registers and is looked up by permuting them, which no compiler makes of a plain loop.
///
/// # Safety
/// The processor has AVX2; `codes` holds eight bytes a vector of `out`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn expand_avx2(codes: &[u8], scale: &Lanes, code: &[f32; 16], out: &mut [Lanes]) {
    use std::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_loadl_epi64, _mm_set1_epi8, _mm_srli_epi16, _mm_srli_si128, _mm_unpacklo_epi8,
        _mm256_blendv_ps, _mm256_castsi256_ps, _mm256_cvtepu8_epi32, _mm256_load_ps, _mm256_loadu_ps, _mm256_mul_ps,
        _mm256_permutevar8x32_ps, _mm256_slli_epi32, _mm256_store_ps,
    };
    // SAFETY: every pointer stays inside its slice, by the promise of the caller.
    unsafe {
        let (low, high) = (_mm256_loadu_ps(code.as_ptr()), _mm256_loadu_ps(code.as_ptr().add(8)));
        let scale = [_mm256_load_ps(scale.0.as_ptr()), _mm256_load_ps(scale.0.as_ptr().add(8))];
        let nibble = _mm_set1_epi8(15);
        for (index, out) in out.iter_mut().enumerate() {
            let bytes = _mm_loadl_epi64(codes.as_ptr().add(8 * index).cast::<__m128i>());
            let first = _mm_and_si128(_mm_srli_epi16::<4>(bytes), nibble);
            let lanes = _mm_unpacklo_epi8(first, _mm_and_si128(bytes, nibble));
            let halves = [lanes, _mm_srli_si128::<8>(lanes)];
            for half in 0..2 {
                let q = _mm256_cvtepu8_epi32(halves[half]);
                let value = _mm256_blendv_ps(
                    _mm256_permutevar8x32_ps(low, q),
                    _mm256_permutevar8x32_ps(high, q),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<28>(q)),
                );
                _mm256_store_ps(out.0.as_mut_ptr().add(8 * half), _mm256_mul_ps(value, scale[half]));
            }
        }
    }
}

/// fp32 of IEEE half-precision bits, eight at a time: decoding reads every weight of a model so, pass after pass.
pub(crate) fn expand_half(half: &[f16], out: &mut [f32]) {
    assert_eq!(half.len(), out.len(), "a number for each");
    #[cfg(target_arch = "x86_64")]
    if Class::here() != Class::Portable && is_x86_feature_detected!("f16c") {
        // SAFETY: the processor has AVX2 and F16C; both slices have the same length.
        return unsafe { expand_f16c(half, out) };
    }
    half.convert_to_f32_slice(out);
}

/// # Safety
/// The processor has AVX2 and F16C; `half` is as long as `out`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
unsafe fn expand_f16c(half: &[f16], out: &mut [f32]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
    let whole = out.len() - out.len() % 8;
    for index in (0..whole).step_by(8) {
        // SAFETY: eight numbers from `index` on are inside both slices, by the promise of the caller.
        unsafe {
            let eight = _mm_loadu_si128(half.as_ptr().add(index).cast::<__m128i>());
            _mm256_storeu_ps(out.as_mut_ptr().add(index), _mm256_cvtph_ps(eight));
        }
    }
    half[whole..].convert_to_f32_slice(&mut out[whole..]);
}
