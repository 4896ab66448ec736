//! What a file of trajectories looks like: rows by source, and how long their stages are.

mod picture;

use std::collections::BTreeMap;

pub use picture::draw;
use serde::Serialize;

use crate::trajectory::{Stage, Trajectory};

/// Bins of a histogram, all of one width.
pub const BINS: usize = 24;

/// What is measured of a trajectory: its four stages, the question, and the whole.
pub const PARTS: [&str; 6] = ["question", "understand", "plan", "execute", "verify", "total"];

/// Lengths of the parts of one trajectory, in the order of [`PARTS`], in one unit.
pub type Lengths = [u32; PARTS.len()];

/// Lengths in bytes of UTF-8.
pub fn bytes(trajectory: &Trajectory) -> Lengths {
    let canonical = trajectory.canonical();
    let stages = Stage::ALL.map(|stage| canonical.stages[stage.index()].len() as u32);
    [trajectory.question.len() as u32, stages[0], stages[1], stages[2], stages[3], canonical.text.len() as u32]
}

/// Collects trajectories one by one; four bytes a part and row are kept.
#[derive(Debug, Default)]
pub struct Collector {
    sources: BTreeMap<String, Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    rows: u64,
    corrective: u64,
    exact: u64,
    languages: BTreeMap<String, u64>,
    splits: BTreeMap<String, u64>,
    planted: BTreeMap<String, u64>,
    lengths: [Vec<u32>; PARTS.len()],
}

impl Collector {
    /// Adds a trajectory.
    pub fn add(&mut self, trajectory: &Trajectory, lengths: Lengths) {
        let of = self.sources.entry(trajectory.source.clone()).or_default();
        of.rows += 1;
        of.corrective += u64::from(trajectory.corrective);
        let meta: serde_json::Value = serde_json::from_str(&trajectory.meta).unwrap_or_default();
        of.exact += u64::from(meta.get("exact") == Some(&serde_json::Value::Bool(true)));
        *of.languages.entry(trajectory.language.clone()).or_default() += 1;
        *of.splits.entry(trajectory.split.clone()).or_default() += 1;
        if let Some(planted) = &trajectory.planted {
            *of.planted.entry(planted.kind.clone()).or_default() += 1;
        }
        for (list, length) in of.lengths.iter_mut().zip(lengths) {
            list.push(length);
        }
    }

    /// The figures.
    pub fn finish(self, unit: &'static str) -> Statistics {
        let of = |gathered: Gathered| SourceStatistics {
            rows: gathered.rows,
            corrective: gathered.corrective,
            exact: gathered.exact,
            languages: gathered.languages,
            splits: gathered.splits,
            planted: gathered.planted,
            lengths: PARTS.into_iter().zip(gathered.lengths.map(distribution)).collect(),
        };
        Statistics { unit, sources: self.sources.into_iter().map(|(name, gathered)| (name, of(gathered))).collect() }
    }
}

/// The report.
#[derive(Debug, Serialize)]
pub struct Statistics {
    /// What lengths count: `bytes` or `tokens`.
    pub unit: &'static str,
    /// By source.
    pub sources: BTreeMap<String, SourceStatistics>,
}

/// One source's rows.
#[derive(Debug, Serialize)]
pub struct SourceStatistics {
    /// How many.
    pub rows: u64,
    /// Of them with an error that VERIFY corrects.
    pub corrective: u64,
    /// Of them marked as exact by the parser.
    pub exact: u64,
    /// Rows by language.
    pub languages: BTreeMap<String, u64>,
    /// Rows by the source's split.
    pub splits: BTreeMap<String, u64>,
    /// Rows by kind of planted error.
    pub planted: BTreeMap<String, u64>,
    /// By part: `question`, the four stages with their tags, `total`.
    pub lengths: BTreeMap<&'static str, Distribution>,
}

/// How long one part is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Distribution {
    /// Shortest.
    pub min: u32,
    /// A twentieth is not longer.
    pub p05: u32,
    /// Half are not longer.
    pub median: u32,
    /// All but a twentieth are not longer.
    pub p95: u32,
    /// Longest.
    pub max: u32,
    /// Mean.
    pub mean: f64,
    /// Width of a bin.
    pub bin_width: u32,
    /// Rows in each bin, from 0 on; the last one also holds all that is longer.
    pub bins: Vec<u64>,
}

fn distribution(mut lengths: Vec<u32>) -> Distribution {
    lengths.sort_unstable();
    let at = |share: f64| lengths.get(((lengths.len() as f64 * share) as usize).min(lengths.len().saturating_sub(1)));
    let quantile = |share: f64| at(share).copied().unwrap_or_default();
    // Up to the 99th percentile, so that one long row does not flatten the rest.
    let bin_width = (quantile(0.99) / (BINS as u32 - 1)).max(1);
    let mut bins = vec![0; BINS];
    for length in &lengths {
        bins[((length / bin_width) as usize).min(BINS - 1)] += 1;
    }
    let sum: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
    Distribution {
        min: quantile(0.0),
        p05: quantile(0.05),
        median: quantile(0.5),
        p95: quantile(0.95),
        max: lengths.last().copied().unwrap_or_default(),
        mean: if lengths.is_empty() { 0.0 } else { sum as f64 / lengths.len() as f64 },
        bin_width,
        bins,
    }
}

/// The report as text: a table a source, with each histogram as a row of bars.
pub fn table(statistics: &Statistics) -> String {
    let mut text = String::new();
    for (name, source) in &statistics.sources {
        let list = |counts: &BTreeMap<String, u64>| {
            counts.iter().map(|(name, rows)| format!("{name} {rows}")).collect::<Vec<_>>().join(", ")
        };
        text += &format!(
            "{name}: {} rows, {} exact, {} corrective; language {}; split {}\n",
            source.rows,
            source.exact,
            source.corrective,
            list(&source.languages),
            list(&source.splits)
        );
        if !source.planted.is_empty() {
            text += &format!("  planted: {}\n", list(&source.planted));
        }
        text += &format!(
            "  {:<11} {:>6} {:>6} {:>6} {:>6} {:>6} {:>8}   0 to 99th percentile\n",
            statistics.unit, "min", "5 %", "median", "95 %", "max", "mean"
        );
        for part in PARTS {
            let Some(d) = source.lengths.get(part) else { continue };
            text += &format!(
                "  {part:<11} {:>6} {:>6} {:>6} {:>6} {:>6} {:>8.1}   {}\n",
                d.min,
                d.p05,
                d.median,
                d.p95,
                d.max,
                d.mean,
                bars(&d.bins)
            );
        }
        text.push('\n');
    }
    text
}

fn bars(bins: &[u64]) -> String {
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = bins.iter().copied().max().unwrap_or(1).max(1);
    bins.iter().map(|rows| LEVELS[(rows * 8).div_ceil(most).min(8) as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_a_bin_and_quantiles_are_lengths_that_occur() {
        let d = distribution((1..=1_000).chain([50_000]).collect());
        assert_eq!(d.bins.iter().sum::<u64>(), 1_001);
        assert_eq!((d.min, d.median, d.max), (1, 501, 50_000));
        assert_eq!(d.bin_width, 991 / 23);
        assert_eq!(distribution(vec![]).bins.iter().sum::<u64>(), 0);
    }

    #[test]
    fn bars_show_the_smallest_bin_that_is_not_empty() {
        assert_eq!(bars(&[0, 1, 500, 1_000]), " ▁▄█");
    }
}
