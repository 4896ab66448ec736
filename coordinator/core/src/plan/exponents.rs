//! Exponents of the exact sum: `q = round(g * 2^e)`, one e a tensor, planned from committed magnitudes.
//!
//! Source: docs/architecture.md, "The exact sum".

use crate::statistics::{NOT_FINITE, ZERO};

/// A tensor without a known magnitude: it adds nothing.
pub const UNKNOWN: i32 = i32::MIN;
/// Bits kept free above the largest gradient seen.
pub const SPARE_BITS: i32 = 3;

/// B: |q| is at most 2^B, so that K of them fit into 31 bits. `B = 30 - ceil(log2 K)`.
pub fn bits(microbatches: u32) -> u32 {
    30 - microbatches.max(1).next_power_of_two().trailing_zeros()
}

/// The exponent that leaves [`SPARE_BITS`] above magnitude m (|g| < 2^m).
pub fn exponent(magnitude: i32, bits: u32) -> i32 {
    if magnitude == ZERO || magnitude == NOT_FINITE { UNKNOWN } else { bits as i32 - SPARE_BITS - magnitude }
}

/// Whether a tensor of this magnitude would be clamped.
pub fn saturates(magnitude: i32, exponent: i32, bits: u32) -> bool {
    magnitude != ZERO && exponent != UNKNOWN && magnitude.saturating_add(exponent) > bits as i32
}

/// What the magnitudes of an attempt mean for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The sum is exact.
    Fits,
    /// A tensor was clamped or unknown: the same step again with these magnitudes.
    Again(String),
    /// A gradient is not finite.
    NotFinite,
}

/// Judges an attempt once all its microbatches are done; `magnitudes` are the largest over them.
pub fn judge(magnitudes: &[i32], exponents: &[i32], bits: u32) -> Verdict {
    if magnitudes.contains(&NOT_FINITE) {
        return Verdict::NotFinite;
    }
    let exponent_of = |tensor: usize| exponents.get(tensor).copied().unwrap_or(UNKNOWN);
    let unknown = (0..magnitudes.len()).filter(|&t| exponent_of(t) == UNKNOWN && magnitudes[t] != ZERO).count();
    let clamped = (0..magnitudes.len()).filter(|&t| saturates(magnitudes[t], exponent_of(t), bits)).count();
    match (unknown, clamped) {
        (0, 0) => Verdict::Fits,
        _ => Verdict::Again(format!("{unknown} tensors of unknown magnitude, {clamped} clamped")),
    }
}

/// Replaces the known magnitudes by newer ones; a tensor that is all zero now keeps what was known.
pub fn remember(known: &mut Vec<i32>, newer: &[i32]) {
    known.resize(newer.len(), ZERO);
    for (old, new) in known.iter_mut().zip(newer) {
        if *new != ZERO && *new != NOT_FINITE {
            *old = *new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_all_microbatches_fits_into_an_int32() {
        for k in 1..=2_000u32 {
            assert!(i64::from(k) * (1i64 << bits(k)) <= 1 << 30, "K = {k}");
        }
        assert_eq!((bits(1), bits(2), bits(8), bits(9)), (30, 29, 27, 26));
    }

    #[test]
    fn one_retry_suffices_for_any_finite_magnitudes() {
        for magnitude in -140..=128 {
            let planned = exponent(magnitude, 27);
            assert_eq!(judge(&[magnitude], &[planned], 27), Verdict::Fits);
            assert_eq!(judge(&[magnitude + SPARE_BITS], &[planned], 27), Verdict::Fits);
            assert!(matches!(judge(&[magnitude + SPARE_BITS + 1], &[planned], 27), Verdict::Again(_)));
        }
    }

    #[test]
    fn an_unknown_tensor_stays_unknown_only_while_its_gradient_is_zero() {
        assert_eq!(judge(&[ZERO], &[], 27), Verdict::Fits);
        assert!(matches!(judge(&[-3], &[], 27), Verdict::Again(_)));
        assert_eq!(judge(&[-3, NOT_FINITE], &[], 27), Verdict::NotFinite);
    }

    #[test]
    fn a_tensor_that_is_zero_for_a_step_keeps_its_magnitude() {
        let mut known = vec![];
        remember(&mut known, &[ZERO, -2]);
        remember(&mut known, &[5, ZERO]);
        assert_eq!(known, [5, -2]);
    }
}
