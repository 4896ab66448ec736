//! Stored weights in fp32, for processors whose vectors are too few to expand them on the way.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::{Class, Lanes, Short};

/// `code[q] * scale`; [`super::Stored::Nf4`] says how codes and scales lie.
pub(super) fn nf4(codes: &[[u8; 8]], scales: &[Lanes], block: usize, code: &[f32; 16], out: &mut [Lanes]) {
    assert!(codes.len() == out.len() && scales.len() * block >= out.len(), "one scale a block, eight bytes a k");
    for ((codes, scale), out) in codes.chunks(block).zip(scales).zip(out.chunks_mut(block)) {
        #[cfg(target_arch = "x86_64")]
        if Class::here() != Class::Portable {
            // SAFETY: the processor has AVX2; there are as many codes as vectors of `out`.
            unsafe { nf4_avx2(codes, scale, code, out) };
            continue;
        }
        for (codes, out) in codes.iter().zip(out) {
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
/// The processor has AVX2; `codes` is as long as `out`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn nf4_avx2(codes: &[[u8; 8]], scale: &Lanes, code: &[f32; 16], out: &mut [Lanes]) {
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
            let bytes = _mm_loadl_epi64(codes.as_ptr().add(index).cast::<__m128i>());
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

/// Eight at a time: decoding reads every weight of a model so, pass after pass.
pub(super) fn half(half: &[Short<f16>], out: &mut [Lanes]) {
    assert_eq!(half.len(), out.len(), "a vector for each");
    #[cfg(target_arch = "x86_64")]
    if Class::here() != Class::Portable && is_x86_feature_detected!("f16c") {
        // SAFETY: the processor has AVX2 and F16C; both slices have the same length.
        return unsafe { half_f16c(half, out) };
    }
    for (half, out) in half.iter().zip(out) {
        half.0.convert_to_f32_slice(&mut out.0);
    }
}

/// # Safety
/// The processor has AVX2 and F16C; `half` is as long as `out`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
unsafe fn half_f16c(half: &[Short<f16>], out: &mut [Lanes]) {
    use std::arch::x86_64::{__m128i, _mm_load_si128, _mm256_cvtph_ps, _mm256_store_ps};
    for (half, out) in half.iter().zip(out) {
        for part in [0, 8] {
            // SAFETY: eight numbers from `part` on are inside both arrays, which are aligned to them.
            unsafe {
                let eight = _mm_load_si128(half.0.as_ptr().add(part).cast::<__m128i>());
                _mm256_store_ps(out.0.as_mut_ptr().add(part), _mm256_cvtph_ps(eight));
            }
        }
    }
}

/// bf16 is the upper half of fp32.
pub(super) fn brain(brain: &[Short<bf16>], out: &mut [Lanes]) {
    for (brain, out) in brain.iter().zip(out) {
        out.0 = brain.0.map(|value| f32::from_bits(u32::from(value.to_bits()) << 16));
    }
}
