//! The exact sum: gradients as fixed-point integers, so that their sum has no order, with linear digests.
//!
//! `q = round(g * 2^e)`, int32, |q| <= 2^bits, one exponent a tensor; `d = sum of r_i q_i mod 2^64`. Source:
//! docs/architecture.md, "The exact sum".

use std::ops::Range;

use polya_proto::{EXPONENT_UNKNOWN, GRADIENT_NOT_FINITE, GRADIENT_ZERO};

use crate::adapters::dropout::mix;
use crate::ffi::instructions::vectorised;

/// A quantised gradient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantised {
    /// One a trainable number.
    pub words: Vec<i32>,
    /// Linear digest of the words.
    pub digest: u64,
}

/// Takes one tensor of a gradient that was multiplied by `2^loss_scale_log2`: writes the quantised words of the unscaled
/// one and gives its magnitude. Powers of two, so nothing is rounded but once.
pub fn take(values: &[f32], loss_scale_log2: i32, exponent: i32, bits: u32, words: &mut [i32]) -> i32 {
    let exponent = if exponent == EXPONENT_UNKNOWN { exponent } else { exponent - loss_scale_log2 };
    quantise(values, exponent, bits, words);
    unscaled(magnitude(values), loss_scale_log2)
}

/// The magnitude of a gradient whose multiple by `2^loss_scale_log2` has this one. Flags stay flags.
pub fn unscaled(magnitude: i32, loss_scale_log2: i32) -> i32 {
    match magnitude {
        flag @ (GRADIENT_ZERO | GRADIENT_NOT_FINITE) => flag,
        scaled => scaled - loss_scale_log2,
    }
}

/// The smallest m with |g| < 2^m for all g, or a flag.
pub fn magnitude(values: &[f32]) -> i32 {
    magnitude_of_bits(largest_bits(values))
}

/// The same from the largest bit pattern without sign: patterns of fp32 are ordered like their sizes, NaN last.
pub fn magnitude_of_bits(largest: u32) -> i32 {
    match largest {
        0 => GRADIENT_ZERO,
        bits if bits >= 0x7f80_0000 => GRADIENT_NOT_FINITE,
        bits if bits >> 23 == 0 => -149 + (32 - bits.leading_zeros()) as i32,
        bits => (bits >> 23) as i32 - 126,
    }
}

/// Quantises one tensor into `words`; values beyond ±2^bits are clamped (the magnitude says so), an unknown exponent
/// adds nothing.
pub fn quantise(values: &[f32], exponent: i32, bits: u32, words: &mut [i32]) {
    if exponent == EXPONENT_UNKNOWN {
        return words.fill(0);
    }
    round(values, 2f64.powi(exponent), 2f64.powi(bits as i32), words);
}

/// What the r_i of a run's digests are made from, beside their index.
pub fn digest_key(seed: u64) -> u64 {
    mix(seed ^ 0x6469_6765)
}

/// `sum of r_i q_i mod 2^64`, r_i from seed and index.
pub fn digest(seed: u64, words: &[i32]) -> u64 {
    linear(digest_key(seed), words)
}

/// The fp32 gradient that a sum stands for.
pub fn dequantise(sum: &[i32], exponents: &[i32], ranges: &[Range<usize>]) -> Vec<f32> {
    let mut gradient = vec![0f32; sum.len()];
    for (range, exponent) in ranges.iter().zip(exponents) {
        if *exponent == EXPONENT_UNKNOWN {
            continue;
        }
        scaled(&sum[range.clone()], 2f64.powi(-exponent), &mut gradient[range.clone()]);
    }
    gradient
}

// Nothing here is rounded but where it is written so: the vectors of any processor give the same words.
vectorised! {
    /// Adds words into a sum. K words of |q| <= 2^bits fit by the choice of bits.
    pub fn add(sum: &mut [i32], words: &[i32]) {
        for (sum, word) in sum.iter_mut().zip(words) {
            *sum = sum.wrapping_add(*word);
        }
    }

    fn largest_bits(values: &[f32]) -> u32 {
        values.iter().fold(0, |largest, value| largest.max(value.to_bits() & 0x7fff_ffff))
    }

    fn round(values: &[f32], scale: f64, limit: f64, words: &mut [i32]) {
        for (word, value) in words.iter_mut().zip(values) {
            *word = (f64::from(*value) * scale).round_ties_even().clamp(-limit, limit) as i32;
        }
    }

    fn linear(key: u64, words: &[i32]) -> u64 {
        let term = |(index, word): (u64, &i32)| {
            // One multiplication less than `mix`; odd, so that no single change of a word is lost.
            let r = (key ^ index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let r = (r ^ (r >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93) | 1;
            r.wrapping_mul(i64::from(*word) as u64)
        };
        (0u64..).zip(words).map(term).fold(0, u64::wrapping_add)
    }

    fn scaled(words: &[i32], scale: f64, values: &mut [f32]) {
        for (value, word) in values.iter_mut().zip(words) {
            *value = (f64::from(*word) * scale) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u64, count: u64) -> Vec<f32> {
        (0..count).map(|i| ((mix(seed ^ i) >> 40) as f32 / 8_388_608.0 - 1.0) * 0.01).collect()
    }

    #[test]
    fn the_sum_does_not_depend_on_order_or_split_and_its_digest_is_the_sum_of_digests() {
        let parts: Vec<Vec<i32>> = (0..8)
            .map(|k| {
                let mut words = vec![0; 1000];
                quantise(&numbers(k, 1000), 30, 27, &mut words);
                words
            })
            .collect();
        let total = |order: &[usize]| {
            let mut sum = vec![0; 1000];
            order.iter().for_each(|k| add(&mut sum, &parts[*k]));
            sum
        };
        let sum = total(&[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(sum, total(&[5, 3, 7, 0, 1, 6, 2, 4]));
        let digests = parts.iter().fold(0u64, |all, words| all.wrapping_add(digest(9, words)));
        assert_eq!(digests, digest(9, &sum));
        let mut changed = sum.clone();
        changed[123] += 1;
        assert_ne!(digest(9, &changed), digest(9, &sum));
    }

    #[test]
    fn a_scaled_gradient_gives_the_words_and_the_magnitude_of_the_unscaled_one() {
        let values = numbers(4, 3000);
        let scaled: Vec<f32> = values.iter().map(|value| value * 4096.0).collect();
        let (mut plain, mut taken) = (vec![0; 3000], vec![1; 3000]);
        let exponent = 27 - 3 - magnitude(&values);
        assert_eq!(take(&values, 0, exponent, 27, &mut plain), take(&scaled, 12, exponent, 27, &mut taken));
        assert_eq!(plain, taken);
        assert_eq!(take(&[0.0; 3], 12, exponent, 27, &mut [1; 3]), GRADIENT_ZERO);
        assert_eq!(take(&[0.0, f32::INFINITY], 12, exponent, 27, &mut [1; 2]), GRADIENT_NOT_FINITE);
        let mut unknown = [1; 1];
        assert_eq!(take(&[4096.0], 12, EXPONENT_UNKNOWN, 27, &mut unknown), 1);
        assert_eq!(unknown, [0]);
    }

    #[test]
    fn a_magnitude_is_the_smallest_power_of_two_above() {
        for (value, expected) in [(1.0f32, 1), (0.99, 0), (0.5, 0), (2.0, 2), (-3.9, 2), (1e-40, -132), (f32::MAX, 128)]
        {
            let m = magnitude(&[0.0, value]);
            assert_eq!(m, expected, "{value}");
            let size = f64::from(value.abs());
            assert!(size < 2f64.powi(m) && size >= 2f64.powi(m - 1), "{value}");
        }
        assert_eq!(magnitude(&[0.0, -0.0]), GRADIENT_ZERO);
        assert_eq!(magnitude(&[1.0, f32::NAN]), GRADIENT_NOT_FINITE);
        assert_eq!(magnitude(&[f32::NEG_INFINITY]), GRADIENT_NOT_FINITE);
    }

    #[test]
    fn the_error_is_at_most_half_a_unit_a_microbatch() {
        let values = numbers(3, 5000);
        let mut words = vec![0; 5000];
        let exponent = 27 - 3 - magnitude(&values);
        quantise(&values, exponent, 27, &mut words);
        let ranges = [0..2500, 2500..5000];
        for (value, back) in values.iter().zip(dequantise(&words, &[exponent; 2], &ranges)) {
            assert!((value - back).abs() <= 2f32.powi(-exponent), "{value} {back}");
        }
    }
}
