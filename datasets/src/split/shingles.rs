//! The shingles of questions: what two wordings of one problem have in common.

use crate::words::{Signs, hash, mix, words};

/// Words in a shingle. With three, one changed word in a question of 45 leaves a similarity of 0.88, two leave 0.76.
pub const SHINGLE_WORDS: usize = 3;

/// Sets of 32-bit shingle hashes, one a problem, in one allocation: 4 bytes a word, and nothing else of the question.
#[derive(Debug, Default)]
pub(super) struct Shingles {
    flat: Vec<u32>,
    ends: Vec<usize>,
}

impl Shingles {
    /// Adds the set of a normalised question. Numbers count as words. One with fewer words than a shingle is a single
    /// shingle, so that it is like no other question.
    pub(super) fn push(&mut self, normalised: &str, tokens: &mut Vec<u64>) {
        tokens.clear();
        tokens.extend(words(normalised, Signs::Kept).map(hash));
        let start = self.flat.len();
        let shingle = |tokens: &[u64]| {
            let hash = tokens.iter().fold(tokens.len() as u64, |hash, token| mix(hash.rotate_left(21) ^ token));
            (hash >> 32) as u32
        };
        match tokens.len() {
            0 => {}
            1..SHINGLE_WORDS => self.flat.push(shingle(tokens)),
            _ => self.flat.extend(tokens.windows(SHINGLE_WORDS).map(shingle)),
        }
        self.flat[start..].sort_unstable();
        let mut kept = start;
        for at in start..self.flat.len() {
            if at == start || self.flat[at] != self.flat[kept - 1] {
                self.flat[kept] = self.flat[at];
                kept += 1;
            }
        }
        self.flat.truncate(kept);
        self.ends.push(kept);
    }

    /// A set, sorted.
    pub(super) fn get(&self, index: usize) -> &[u32] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.flat[start..self.ends[index]]
    }
}

/// Whether the sets' Jaccard similarity, shared members by all members, reaches the threshold. Both are sorted.
pub(super) fn are_similar(one: &[u32], other: &[u32], threshold: f64) -> bool {
    let (short, long) = if one.len() < other.len() { (one, other) } else { (other, one) };
    // shared / (a + b - shared) >= t, solved for shared.
    let wanted = (threshold * (short.len() + long.len()) as f64 / (1.0 + threshold)).ceil() as usize;
    if short.is_empty() || short.len() < wanted {
        return false;
    }
    let (mut a, mut b, mut shared) = (0, 0, 0);
    while a < short.len() && b < long.len() {
        // What is left cannot be enough.
        if shared + (short.len() - a).min(long.len() - b) < wanted {
            return false;
        }
        let (x, y) = (short[a], long[b]);
        shared += usize::from(x == y);
        a += usize::from(x <= y);
        b += usize::from(y <= x);
    }
    shared >= wanted
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn sets(texts: &[&str]) -> Shingles {
        let mut shingles = Shingles::default();
        texts.iter().for_each(|text| shingles.push(text, &mut Vec::new()));
        shingles
    }

    #[test]
    fn a_question_is_a_set_of_word_triples() {
        let shingles = sets(&["a b c d", "a b c a b c d", "a b", "", "x a b c d"]);
        let sizes: Vec<_> = (0..shingles.ends.len()).map(|index| shingles.get(index).len()).collect();
        assert_eq!(sizes, [2, 4, 1, 0, 3]);
        assert!(shingles.get(0).iter().all(|hash| shingles.get(1).contains(hash)));
        assert!(!are_similar(shingles.get(3), shingles.get(3), 0.1));
        assert!(
            are_similar(shingles.get(0), shingles.get(4), 0.66) && !are_similar(shingles.get(0), shingles.get(4), 0.67)
        );
    }

    proptest! {
        #[test]
        fn similarity_is_jaccard_s(one in prop::collection::btree_set(0u32..12, 1..9), other in prop::collection::btree_set(0u32..12, 1..9), threshold in 0.05f64..1.0) {
            let sorted = |set: &BTreeSet<u32>| set.iter().copied().collect::<Vec<_>>();
            let exact = one.intersection(&other).count() as f64 / one.union(&other).count() as f64;
            // A threshold that the figure equals to the last bit is a matter of rounding.
            prop_assume!((exact - threshold).abs() > 1e-9);
            prop_assert_eq!(are_similar(&sorted(&one), &sorted(&other), threshold), exact >= threshold);
        }
    }
}
