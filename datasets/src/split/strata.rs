//! The holdout's share of every source, from whole clusters.
//!
//! Invariants: a cluster is on one side; no source has more than its quota, `fraction` of its problems to the nearest
//! whole number; a source that shares no cluster with another lacks less than the smallest cluster that it kept.

use std::ops::Range;

/// Problems that go to the same side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cluster {
    /// Position in the seed's order, then what decides between equals.
    pub(super) rank: (u64, u64),
    /// Where its counts stand.
    pub(super) counts: Range<usize>,
}

/// Whether each cluster goes to the holdout. Clusters are taken in the order of their ranks, each that fits into the
/// quotas of all its sources. `counts` are problems by source, each source once in a cluster; a problem that several
/// sources have counts in each.
pub(super) fn choose(clusters: &[Cluster], counts: &[(u32, u32)], fraction: f64) -> Vec<bool> {
    let sources = counts.iter().map(|(source, _)| *source as usize + 1).max().unwrap_or(0);
    let mut room = vec![0u64; sources];
    counts.iter().for_each(|(source, problems)| room[*source as usize] += u64::from(*problems));
    for room in &mut room {
        *room = (fraction * *room as f64).round() as u64;
    }
    let mut order: Vec<usize> = (0..clusters.len()).collect();
    order.sort_unstable_by_key(|index| clusters[*index].rank);
    let mut chosen = vec![false; clusters.len()];
    for index in order {
        let counts = &counts[clusters[index].counts.clone()];
        if counts.iter().all(|(source, problems)| u64::from(*problems) <= room[*source as usize]) {
            counts.iter().for_each(|(source, problems)| room[*source as usize] -= u64::from(*problems));
            chosen[index] = true;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Clusters from lists of (source, problems).
    fn clusters(lists: &[Vec<(u32, u32)>]) -> (Vec<Cluster>, Vec<(u32, u32)>) {
        let mut counts = Vec::new();
        let mut cluster = |(rank, list): (u64, &Vec<(u32, u32)>)| {
            let start = counts.len();
            counts.extend(list);
            Cluster { rank: (crate::words::mix(rank), 0), counts: start..counts.len() }
        };
        ((0..).zip(lists).map(&mut cluster).collect(), counts)
    }

    fn held(chosen: &[bool], lists: &[Vec<(u32, u32)>], source: u32) -> u64 {
        let counts = lists.iter().zip(chosen).filter(|(_, chosen)| **chosen).flat_map(|(list, _)| list);
        counts.filter(|count| count.0 == source).map(|count| u64::from(count.1)).sum()
    }

    #[test]
    fn a_cluster_that_is_larger_than_the_quota_stays() {
        let lists = [vec![(0, 50)], vec![(0, 1)], vec![(0, 1)], vec![(0, 48)]];
        let (all, counts) = clusters(&lists);
        let chosen = choose(&all, &counts, 0.02);
        assert_eq!(chosen, [false, true, true, false]);
        assert_eq!(choose(&all, &counts, 1.0), [true; 4]);
        assert_eq!(choose(&all, &counts, 0.0), [false; 4]);
        assert!(choose(&[], &[], 0.5).is_empty());
    }

    proptest! {
        #[test]
        fn every_source_has_its_share_to_within_a_cluster(
            sizes in prop::collection::vec((0u32..4, 1u32..9), 1..200),
            fraction in 0.0f64..=1.0,
        ) {
            let lists: Vec<_> = sizes.iter().map(|count| vec![*count]).collect();
            let (all, counts) = clusters(&lists);
            let chosen = choose(&all, &counts, fraction);
            for source in 0..4 {
                let total: u64 = sizes.iter().filter(|count| count.0 == source).map(|count| u64::from(count.1)).sum();
                let quota = (fraction * total as f64).round() as u64;
                let held = held(&chosen, &lists, source);
                let kept = sizes.iter().zip(&chosen).filter(|(count, chosen)| count.0 == source && !**chosen);
                let smallest = kept.map(|(count, _)| u64::from(count.1)).min().unwrap_or(1);
                prop_assert!(held <= quota && quota - held < smallest, "{held} of {quota}");
            }
        }

        #[test]
        fn no_source_exceeds_its_quota_when_clusters_mix_them(
            lists in prop::collection::vec((1u32..5, 0u32..5, 0u32..5), 1..200),
            fraction in 0.0f64..=1.0,
        ) {
            let lists: Vec<_> = lists.iter().map(|(a, b, c)| vec![(0, *a), (1, *b), (2, *c)]).collect();
            let (all, counts) = clusters(&lists);
            let chosen = choose(&all, &counts, fraction);
            for source in 0..3 {
                let total: u64 = lists.iter().map(|list| u64::from(list[source as usize].1)).sum();
                prop_assert!(held(&chosen, &lists, source) <= (fraction * total as f64).round() as u64);
            }
        }
    }
}
