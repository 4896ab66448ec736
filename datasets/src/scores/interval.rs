//! A figure with its 95 % interval: Wilson for shares, a seeded bootstrap by problem for means and differences.

use serde::{Deserialize, Serialize};

use crate::synthesize::Random;

/// How often the bootstrap draws.
pub const RESAMPLES: usize = 2_000;
/// The normal quantile of a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;
const PURPOSE: u64 = 0x424f_4f54;

/// A score with its interval and what it rests on. Without anything to rest on all but `n` are absent.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Figure {
    /// The point value.
    pub value: Option<f64>,
    /// Lower end of the 95 % interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Number of samples (tokens, problems) behind it.
    pub n: u64,
}

impl std::fmt::Display for Figure {
    /// ` 82.7 % [ 78.0,  86.5] n=300`, or `-` without anything to rest on.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Figure { value: Some(value), low: Some(low), high: Some(high), n } = self else {
            return formatter.pad("-");
        };
        let text = format!("{:5.1} % [{:5.1}, {:5.1}] n={n}", 100.0 * value, 100.0 * low, 100.0 * high);
        formatter.pad(&text)
    }
}

/// The share `hits / n` with its Wilson interval (Wilson 1927). More hits than n count as n.
pub fn share(hits: u64, n: u64) -> Figure {
    if n == 0 {
        return Figure::default();
    }
    let count = n as f64;
    let p = hits.min(n) as f64 / count;
    let scale = 1.0 + Z * Z / count;
    let middle = (p + Z * Z / (2.0 * count)) / scale;
    let half = Z / scale * (p * (1.0 - p) / count + Z * Z / (4.0 * count * count)).sqrt();
    let (low, high) = ((middle - half).max(0.0), (middle + half).min(1.0));
    Figure { value: Some(p), low: Some(low.min(p)), high: Some(high.max(p)), n }
}

/// The share of `true`.
pub fn share_of(outcomes: impl IntoIterator<Item = bool>) -> Figure {
    let (mut hits, mut n) = (0, 0);
    for outcome in outcomes {
        hits += u64::from(outcome);
        n += 1;
    }
    share(hits, n)
}

/// The mean of one value a problem, with the percentile interval of the bootstrap.
pub fn mean(values: &[f64], seed: u64) -> Figure {
    let average = |values: &mut dyn Iterator<Item = f64>| {
        let (sum, n) = values.fold((0.0, 0u64), |(sum, n), value| (sum + value, n + 1));
        (n > 0).then(|| sum / n as f64)
    };
    bootstrap(values.len(), seed, |picked| average(&mut picked.iter().map(|index| values[*index])))
}

/// The mean of `after - before` over problems measured twice.
pub fn paired_difference(pairs: &[(f64, f64)], seed: u64) -> Figure {
    let differences: Vec<f64> = pairs.iter().map(|(before, after)| after - before).collect();
    mean(&differences, seed)
}

/// Any statistic of `n` problems; it gets the indices of the problems drawn, with repetition. The point value is that of
/// all problems once. Draws for which the statistic is undefined are left out.
pub fn bootstrap(n: usize, seed: u64, statistic: impl Fn(&[usize]) -> Option<f64>) -> Figure {
    let all: Vec<usize> = (0..n).collect();
    let Some(value) = statistic(&all).filter(|_| n > 0) else { return Figure::default() };
    let mut drawn: Vec<f64> = Vec::with_capacity(RESAMPLES);
    let mut picked = vec![0; n];
    for resample in 0..RESAMPLES {
        let mut random = Random::new([seed, resample as u64, PURPOSE]);
        picked.fill_with(|| random.range(0, n as i64 - 1) as usize);
        drawn.extend(statistic(&picked));
    }
    drawn.sort_by(f64::total_cmp);
    let at = |quantile: f64| drawn.get((quantile * (drawn.len().saturating_sub(1)) as f64).round() as usize).copied();
    Figure { value: Some(value), low: at(0.025), high: at(0.975), n: n as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(figure: Figure, value: f64, low: f64, high: f64) {
        let near = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() < 5e-4;
        assert!(near(figure.value, value) && near(figure.low, low) && near(figure.high, high), "{figure:?}");
    }

    #[test]
    fn wilson_is_that_of_the_tables() {
        close(share(81, 263), 0.3080, 0.2553, 0.3662); // Newcombe 1998, table I
        close(share(15, 148), 0.1014, 0.0624, 0.1605);
        close(share(0, 20), 0.0, 0.0, 0.1611);
        close(share(29, 29), 1.0, 0.8830, 1.0);
        assert_eq!(share(0, 0), Figure::default());
    }

    #[test]
    fn no_samples_are_null_in_json() {
        let json = serde_json::to_string(&share(0, 0)).unwrap();
        assert_eq!(json, r#"{"value":null,"low":null,"high":null,"n":0}"#);
    }

    #[test]
    fn the_bootstrap_is_a_function_of_its_seed_and_covers() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 10)).collect();
        let figure = mean(&values, 3);
        assert_eq!(figure, mean(&values, 3));
        assert!((figure.low.unwrap() - 4.22).abs() < 0.03 && (figure.high.unwrap() - 4.78).abs() < 0.03, "{figure:?}");
    }

    #[test]
    fn a_pair_that_never_changes_has_no_width() {
        let figure = paired_difference(&[(1.0, 1.0), (0.0, 0.0)], 1);
        assert_eq!((figure.value, figure.low, figure.high, figure.n), (Some(0.0), Some(0.0), Some(0.0), 2));
        assert_eq!(paired_difference(&[], 1).value, None);
    }
}
