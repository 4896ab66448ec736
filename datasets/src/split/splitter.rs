//! A file's rows to two sides, from their questions' signatures alone.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::clusters::clusters;
use super::shingles::Shingles;
use super::strata::{Cluster, choose};
use super::{first_bytes, normalise, rank};

/// Rows are numbered in 32 bits.
#[derive(Debug, thiserror::Error)]
#[error("more than {} rows; split the file into several first", u32::MAX)]
pub struct TooManyRows;

/// Collects questions, then divides them. A row costs 8 bytes, a problem about 50 and 4 for each of its words.
#[derive(Debug)]
pub struct Splitter {
    seed: u64,
    near_duplicates: Option<f64>,
    /// Problem of each normalised question's hash. Only looked up: its order reaches nothing.
    problems: HashMap<u64, u32>,
    /// By problem: the hash, and the position in the seed's order.
    keys: Vec<u64>,
    ranks: Vec<u64>,
    shingles: Shingles,
    /// By row: problem and source.
    rows: Vec<(u32, u32)>,
    sources: Vec<String>,
    source_numbers: BTreeMap<String, u32>,
    tokens: Vec<u64>,
}

/// What came of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    /// By row: whether it is in the holdout.
    pub holdout: Vec<bool>,
    /// Different problems.
    pub problems: u64,
    /// Clusters of them, those of a single problem included.
    pub clusters: u64,
    /// Problems in the largest cluster.
    pub largest: u64,
    /// By source.
    pub sources: BTreeMap<String, SourceCounts>,
}

/// How many problems of a source went where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SourceCounts {
    /// Different problems.
    pub problems: u64,
    /// Those in the holdout.
    pub holdout: u64,
}

impl Splitter {
    /// An empty one. `near_duplicates` is the similarity from which two problems stay together, above 0 and at most 1;
    /// without it only equal ones do.
    pub fn new(seed: u64, near_duplicates: Option<f64>) -> Self {
        Splitter {
            seed,
            near_duplicates,
            problems: HashMap::new(),
            keys: Vec::new(),
            ranks: Vec::new(),
            shingles: Shingles::default(),
            rows: Vec::new(),
            sources: Vec::new(),
            source_numbers: BTreeMap::new(),
            tokens: Vec::new(),
        }
    }

    /// The next row.
    pub fn push(&mut self, question: &str, source: &str) -> Result<(), TooManyRows> {
        u32::try_from(self.rows.len() + 1).map_err(|_| TooManyRows)?;
        let normalised = normalise(question);
        let key = first_bytes(&blake3::hash(normalised.as_bytes()));
        let next = self.keys.len() as u32;
        let problem = *self.problems.entry(key).or_insert(next);
        if problem == next {
            self.keys.push(key);
            self.ranks.push(rank(&normalised, self.seed));
            if self.near_duplicates.is_some() {
                self.shingles.push(&normalised, &mut self.tokens);
            }
        }
        let source = match self.source_numbers.get(source) {
            Some(number) => *number,
            None => {
                let number = self.sources.len() as u32;
                self.sources.push(source.to_owned());
                self.source_numbers.insert(source.to_owned(), number);
                number
            }
        };
        self.rows.push((problem, source));
        Ok(())
    }

    /// Divides the rows; `fraction` of each source's problems go to the holdout. `tick` is called
    /// [`BANDS`](super::BANDS) times where near-duplicates are looked for.
    pub fn split(self, fraction: f64, tick: &mut dyn FnMut()) -> Sides {
        let Splitter { near_duplicates, problems, keys, ranks, shingles, rows, sources, .. } = self;
        drop(problems);
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_unstable_by_key(|problem| keys[*problem as usize]);
        let cluster_of = match near_duplicates {
            Some(threshold) => clusters(&shingles, &order, threshold, tick),
            None => (0..keys.len() as u32).collect(),
        };
        drop((shingles, order));
        // Each problem of each source once, by cluster.
        let mut members: Vec<(u32, u32, u32)> =
            rows.iter().map(|(problem, source)| (cluster_of[*problem as usize], *source, *problem)).collect();
        members.sort_unstable();
        members.dedup();
        let (mut all, mut counts) = (Vec::new(), Vec::new());
        for cluster in members.chunk_by(|one, other| one.0 == other.0) {
            let start = counts.len();
            let of_source = |source: &[(u32, u32, u32)]| (source[0].1, source.len() as u32);
            counts.extend(cluster.chunk_by(|one, other| one.1 == other.1).map(of_source));
            // The problem that names the cluster is the one with the smallest hash, whatever the seed: the order of
            // clusters is fair to large ones, and a cluster of one problem stands where the problem does.
            let first = cluster[0].0 as usize;
            all.push(Cluster { rank: (ranks[first], keys[first]), counts: start..counts.len() });
        }
        let chosen = choose(&all, &counts, fraction);
        let mut by_source = vec![SourceCounts::default(); sources.len()];
        let mut is_held = vec![false; keys.len()];
        for ((cluster, members), chosen) in all.iter().zip(members.chunk_by(|one, other| one.0 == other.0)).zip(chosen)
        {
            for (source, problems) in &counts[cluster.counts.clone()] {
                let counts = &mut by_source[*source as usize];
                counts.problems += u64::from(*problems);
                counts.holdout += if chosen { u64::from(*problems) } else { 0 };
            }
            members.iter().for_each(|member| is_held[member.2 as usize] = chosen);
        }
        let mut sizes = vec![0u64; keys.len()];
        cluster_of.iter().for_each(|cluster| sizes[*cluster as usize] += 1);
        Sides {
            holdout: rows.iter().map(|(problem, _)| is_held[*problem as usize]).collect(),
            problems: keys.len() as u64,
            clusters: all.len() as u64,
            largest: sizes.into_iter().max().unwrap_or(0),
            sources: sources.into_iter().zip(by_source).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::words::mix;

    /// Rows of near-duplicate families: 40 words of the family's own, then one that tells the members apart.
    fn rows(families: &[(u8, u8)]) -> Vec<(String, String)> {
        let row = |(at, (family, member)): (usize, &(u8, u8))| {
            let words: String =
                (0..40).map(|word| format!("w{} ", mix(u64::from(*family) * 100 + word) % 997)).collect();
            let typing = if at % 3 == 0 { words.to_uppercase() } else { words };
            (format!("{typing}  m{member}."), format!("source {}", (family ^ member) % 3))
        };
        families.iter().enumerate().map(row).collect()
    }

    fn split(rows: &[(String, String)], seed: u64, near: Option<f64>, fraction: f64) -> Sides {
        let mut splitter = Splitter::new(seed, near);
        rows.iter().for_each(|(question, source)| splitter.push(question, source).unwrap());
        splitter.split(fraction, &mut || {})
    }

    proptest! {
        #[test]
        fn a_family_is_on_one_side_whatever_the_order_of_rows(
            families in prop::collection::vec((0u8..60, 0u8..4), 1..150),
            order in any::<u64>(),
            seed in 0u64..1_000,
            fraction in 0.0f64..=1.0,
        ) {
            let all = rows(&families);
            let sides = split(&all, seed, Some(0.8), fraction);
            prop_assert_eq!(&split(&all, seed, Some(0.8), fraction), &sides);
            let mut side_of = BTreeMap::new();
            for ((family, _), held) in families.iter().zip(&sides.holdout) {
                prop_assert_eq!(side_of.entry(*family).or_insert(*held), held);
            }
            prop_assert_eq!(sides.clusters, side_of.len() as u64);
            let mut shuffled: Vec<usize> = (0..all.len()).collect();
            shuffled.sort_by_key(|row| mix(order ^ *row as u64));
            let other: Vec<_> = shuffled.iter().map(|row| all[*row].clone()).collect();
            let other = split(&other, seed, Some(0.8), fraction);
            prop_assert_eq!(&other.sources, &sides.sources);
            for (at, row) in shuffled.iter().enumerate() {
                prop_assert_eq!(other.holdout[at], sides.holdout[*row]);
            }
        }

        #[test]
        fn each_source_has_its_share_to_the_nearest_problem(
            sources in prop::collection::vec(0u8..4, 1..300),
            seed in any::<u64>(),
            fraction in 0.0f64..=1.0,
        ) {
            let all: Vec<_> = sources.iter().enumerate().map(|(row, s)| (format!("problem {row}"), s.to_string())).collect();
            let sides = split(&all, seed, Some(0.8), fraction);
            for counts in sides.sources.values() {
                prop_assert_eq!(counts.holdout, (fraction * counts.problems as f64).round() as u64);
            }
        }
    }

    #[test]
    fn without_near_duplicates_only_the_same_problem_stays_together() {
        let all = rows(&[(1, 0), (1, 1), (1, 2), (1, 0), (2, 0), (2, 1)]);
        let exact = split(&all, 3, None, 0.5);
        assert_eq!((exact.problems, exact.clusters, exact.largest), (5, 5, 1));
        assert_eq!(exact.holdout[0], exact.holdout[3]);
        let near = split(&all, 3, Some(0.8), 0.5);
        assert_eq!((near.problems, near.clusters, near.largest), (5, 2, 3));
        assert_eq!(split(&[], 3, Some(0.8), 0.5).holdout, [false; 0]);
    }

    #[test]
    fn the_seed_s_order_is_the_one_that_decides_about_a_problem_alone() {
        let all: Vec<_> = (0..2_000).map(|row| (format!("Problem {row}"), String::new())).collect();
        let sides = split(&all, 5, None, 0.1);
        let differ =
            all.iter().zip(&sides.holdout).filter(|(row, held)| super::super::is_holdout(&row.0, 5, 0.1) != **held);
        // Only what lies between the exact share and the share that the hashes happened to give.
        let alone = all.iter().filter(|row| super::super::is_holdout(&row.0, 5, 0.1)).count();
        assert_eq!(differ.count(), alone.abs_diff(200));
        assert_ne!(split(&all, 6, None, 0.1).holdout, sides.holdout);
    }
}
