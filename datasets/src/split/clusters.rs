//! Clusters of near-duplicates: MinHash with banding proposes pairs, their exact Jaccard similarity decides, union-find
//! joins them.
//!
//! Invariants: problems of a pair that is found are in one cluster; no pair below the threshold is joined, except through
//! others (single linkage); the result is a function of the sets in their given order, whatever the number of threads.
//! Sources: Broder 1997, "On the resemblance and containment of documents" (MinHash); Leskovec, Rajaraman and Ullman,
//! "Mining of Massive Datasets", section 3.4 (banding); Dietzfelbinger et al. 1997 (multiply-add-shift hashing).

use super::shingles::{Shingles, are_similar};
use crate::words::mix;

/// Bands of the signature.
pub const BANDS: u32 = 32;
/// A pair as similar as the threshold is missed at most this often.
const MISSED_MAX: f64 = 1e-3;
/// Hashes in a band.
const ROWS_MAX: u32 = 8;
/// A problem is compared with this many before it in its bucket. Buckets are larger only where one template makes
/// thousands of problems; the limit keeps the time linear there.
const COMPARED_MAX: usize = 64;

/// How many hashes a band has: as many as possible, for few false proposals, while a pair at the threshold is missed no
/// more often than one in a thousand, `(1 - t^r)^32 <= 0.001`.
pub fn rows(threshold: f64) -> u32 {
    let missed = |rows: u32| (1.0 - threshold.powf(f64::from(rows))).powf(f64::from(BANDS));
    (1..=ROWS_MAX).rev().find(|rows| missed(*rows) <= MISSED_MAX).unwrap_or(1)
}

/// The cluster of each set, named by its first member. `order` lists the sets in the order that the result depends on;
/// `tick` is called after each of [`BANDS`] bands.
pub(super) fn clusters(shingles: &Shingles, order: &[u32], threshold: f64, tick: &mut dyn FnMut()) -> Vec<u32> {
    let mut joined = UnionFind::new(order.len());
    let mut entries = vec![(0u32, 0u32); order.len()];
    for band in 0..BANDS {
        hash_band(shingles, order, &Band::new(band, rows(threshold)), &mut entries);
        entries.sort_unstable();
        for bucket in entries.chunk_by(|one, other| one.0 == other.0) {
            for (at, (_, later)) in bucket.iter().enumerate() {
                for (_, earlier) in &bucket[at.saturating_sub(COMPARED_MAX)..at] {
                    let set = |position: u32| shingles.get(order[position as usize] as usize);
                    if joined.root(*later) != joined.root(*earlier)
                        && are_similar(set(*later), set(*earlier), threshold)
                    {
                        joined.join(*later, *earlier);
                    }
                }
            }
        }
        tick();
    }
    let mut named = vec![0; order.len()];
    for (position, index) in (0u32..).zip(order) {
        named[*index as usize] = order[joined.root(position) as usize];
    }
    named
}

/// The hash functions of a band: multiply, add, take the upper half.
struct Band(Vec<(u64, u64)>);

impl Band {
    fn new(band: u32, rows: u32) -> Self {
        let random = |index: u32| mix(0x706f_6c79_6100_0000 + u64::from((band * ROWS_MAX * 2) + index));
        Band((0..rows).map(|row| (random(2 * row) | 1, random(2 * row + 1))).collect())
    }

    /// A hash of the smallest hash of each function; none without shingles.
    fn hash(&self, set: &[u32]) -> Option<u32> {
        if set.is_empty() {
            return None;
        }
        let smallest = |(factor, summand): &(u64, u64)| {
            let hashes = set.iter().map(|member| u64::from(*member).wrapping_mul(*factor).wrapping_add(*summand));
            hashes.map(|hash| (hash >> 32) as u32).min().unwrap_or(0)
        };
        let hash = self.0.iter().fold(0, |hash, function| mix(hash ^ u64::from(smallest(function))));
        Some((hash >> 32) as u32)
    }
}

/// Hash and position of every set, in pieces on all cores.
fn hash_band(shingles: &Shingles, order: &[u32], band: &Band, entries: &mut [(u32, u32)]) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
    let piece = order.len().div_ceil(threads).max(1024);
    std::thread::scope(|scope| {
        for (start, entries) in (0..).step_by(piece).zip(entries.chunks_mut(piece)) {
            scope.spawn(move || {
                for (position, entry) in (start..).zip(entries) {
                    // An empty set meets only others of its kind, and is similar to none.
                    let hash = band.hash(shingles.get(order[position] as usize)).unwrap_or(0);
                    *entry = (hash, position as u32);
                }
            });
        }
    });
}

/// Sets that are joined, each named by its smallest member.
struct UnionFind(Vec<u32>);

impl UnionFind {
    fn new(count: usize) -> Self {
        UnionFind((0..count as u32).collect())
    }

    fn root(&mut self, member: u32) -> u32 {
        let mut member = member;
        while self.0[member as usize] != member {
            let above = self.0[self.0[member as usize] as usize];
            self.0[member as usize] = above;
            member = above;
        }
        member
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        self.0[one.max(other) as usize] = one.min(other);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn named(texts: &[String], threshold: f64) -> Vec<u32> {
        let mut shingles = Shingles::default();
        texts.iter().for_each(|text| shingles.push(text, &mut Vec::new()));
        let order: Vec<u32> = (0..texts.len() as u32).collect();
        clusters(&shingles, &order, threshold, &mut || {})
    }

    #[test]
    fn a_pair_at_the_threshold_is_missed_once_in_a_thousand_at_most() {
        let missed = |threshold: f64| (1.0 - threshold.powf(f64::from(rows(threshold)))).powi(BANDS as i32);
        for threshold in 20..=100 {
            assert!(missed(f64::from(threshold) / 100.0) <= MISSED_MAX, "{threshold} %");
        }
        assert_eq!([0.2, 0.5, 0.8, 0.9, 1.0].map(rows), [1, 2, 7, 8, 8]);
    }

    #[test]
    fn one_template_a_thousand_times_is_not_compared_with_itself_forever() {
        let text = |index: u32| format!("there are {index} apples in a box and nobody eats one of them today");
        let all = named(&(0..3_000).map(text).collect::<Vec<_>>(), 0.3);
        assert!(all.iter().all(|name| *name == 0));
    }

    proptest! {
        #[test]
        fn clusters_are_what_similarity_joins(
            texts in prop::collection::vec(prop::collection::vec(0u8..3, 3..40), 2..40),
            threshold in 0.3f64..0.9,
        ) {
            // Short alphabets make similar texts.
            let texts: Vec<String> =
                texts.iter().map(|text| text.iter().map(|word| format!("w{word} ")).collect()).collect();
            let mut shingles = Shingles::default();
            texts.iter().for_each(|text| shingles.push(text, &mut Vec::new()));
            let names = named(&texts, threshold);
            let similar = |a: usize, b: usize, threshold| are_similar(shingles.get(a), shingles.get(b), threshold);
            let mut by_name = BTreeMap::<u32, Vec<usize>>::new();
            names.iter().enumerate().for_each(|(index, name)| by_name.entry(*name).or_default().push(index));
            for (name, members) in &by_name {
                prop_assert_eq!(*name as usize, members[0]);
                let has_partner = |member: &usize| members.iter().any(|o| o != member && similar(*member, *o, threshold));
                prop_assert!(members.len() == 1 || members.iter().all(has_partner));
            }
            for a in 0..texts.len() {
                for b in 0..a {
                    // Well above the threshold no pair is missed in the age of the universe.
                    let above = threshold + 0.75 * (1.0 - threshold);
                    prop_assert!(names[a] == names[b] || !similar(a, b, above), "{a} {b} {threshold}");
                }
            }
        }
    }
}
