//! Holdout by problem: the same problem, however it is typed, never lands on both sides.

mod key;
mod latex;

pub use key::{normalise, problem_key};

/// Whether a problem belongs to the holdout: a function of the normalised question and the seed alone, so that a file's
/// order, its other rows and the number of files do not matter. `fraction` of all problems do, on average.
pub fn is_holdout(question: &str, seed: u64, fraction: f64) -> bool {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"holdout");
    hasher.update(&seed.to_le_bytes());
    hasher.update(normalise(question).as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    // 53 bits, exact in a double: below 1.0 always, so that fraction 1 takes all and 0 none.
    ((u64::from_le_bytes(first) >> 11) as f64) < fraction * (1u64 << 53) as f64
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
