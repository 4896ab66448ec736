//! Holdout by problem: the same problem, however it is typed, never lands on both sides, and neither does a
//! near-duplicate.
//!
//! [`Splitter`] divides a file: near-duplicates stay together and each source has its share. [`is_holdout`] decides
//! about one problem alone and knows no neighbours; a run that splits its own training data uses it.
//!
//! Invariants: all rows of a cluster are on one side; the result depends on the questions, their sources, the seed and
//! the options, never on the order of rows.

mod clusters;
mod key;
mod latex;
mod shingles;
mod splitter;
mod strata;

pub use clusters::{BANDS, rows as rows_of_band};
pub use key::{normalise, problem_key};
pub use shingles::SHINGLE_WORDS;
pub use splitter::{Sides, SourceCounts, Splitter, TooManyRows};

/// Whether a problem belongs to the holdout: a function of the normalised question and the seed alone, so that a file's
/// order, its other rows and the number of files do not matter. `fraction` of all problems do, on average.
pub fn is_holdout(question: &str, seed: u64, fraction: f64) -> bool {
    // 53 bits, exact in a double: below 1.0 always, so that fraction 1 takes all and 0 none.
    (rank(&normalise(question), seed) as f64) < fraction * (1u64 << 53) as f64
}

/// Where a problem stands in the order that the seed gives, below 2^53.
fn rank(normalised: &str, seed: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"holdout");
    hasher.update(&seed.to_le_bytes());
    hasher.update(normalised.as_bytes());
    first_bytes(&hasher.finalize()) >> 11
}

fn first_bytes(hash: &blake3::Hash) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_keeps_its_side_however_it_is_typed() {
        let same = [
            "Tom has 22.5 kg.  How many?",
            " tom has 22.5\u{a0}kg. How\nmany? ",
            "Tom has 22.5 kg. How\u{200b} many?.",
        ];
        for seed in 0..50 {
            let sides: Vec<bool> = same.iter().map(|question| is_holdout(question, seed, 0.5)).collect();
            assert!(sides.iter().all(|side| *side == sides[0]), "seed {seed}");
        }
        assert_ne!(normalise("225 kg"), normalise("22.5 kg"));
        assert_ne!(normalise("z^4 + z^2"), normalise("z^4 - z^2"));
        assert_eq!(normalise("cafe\u{301}"), normalise("café"));
    }

    #[test]
    fn the_share_is_the_fraction_and_the_seed_matters() {
        let count = |seed, fraction| (0..4_000).filter(|i| is_holdout(&format!("Problem {i}"), seed, fraction)).count();
        assert!((320..480).contains(&count(1, 0.1)), "{}", count(1, 0.1));
        assert_eq!((count(1, 0.0), count(1, 1.0)), (0, 4_000));
        let differs = |i: &u32| {
            let question = format!("Problem {i}");
            is_holdout(&question, 1, 0.5) != is_holdout(&question, 2, 0.5)
        };
        assert!((0..1_000).filter(differs).count() > 300);
    }
}
