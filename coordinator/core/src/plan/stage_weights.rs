//! Stage weights that follow progress, `loss.mode = "dynamic"`: a function of the configured weights and of committed
//! statistics alone (I4).
//!
//! Of each stage the share of its loss that is still there counts: the running mean of the unsmoothed loss on clean samples
//! over the mean of the first steps. A stage weighs `w · clamp(c · share, 1/2, 2)`, with the one c for which the weights add
//! up to what the configured ones add up to. So a stage that lags behind the others gets more, at most twice as much (one
//! whose loss is mostly entropy never catches up, and must not take all), and the size of the gradient stays what it was.

use serde::{Deserialize, Serialize};

use crate::statistics::{StageStatistics, Statistics, UNIT};

/// Steps whose mean is where a stage began.
const FIRST_STEPS: u32 = 4;
/// Steps over which the running mean forgets.
const MEMORY: i64 = 16;
/// The weights' bounds, as multiples of the configured ones.
const BOUNDS: (f64, f64) = (0.5, 2.0);
/// Shares beyond these say no more than they do.
const SHARES: (f64, f64) = (1e-3, 1e3);
/// Halvings that leave no bit of a 64-bit float open.
const HALVINGS: u32 = 64;

/// How far each stage has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress([StageProgress; 4]);

/// Sums of integers, so that a snapshot gives every bit back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct StageProgress {
    /// Steps in which it had clean tokens.
    steps: u32,
    first: Mean,
    recent: Mean,
}

/// A mean as its two sums, both in units of 2^-20.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Mean {
    loss: i64,
    tokens: i64,
}

impl Progress {
    /// The weights of the next step; `configured` until the first steps are over.
    pub fn weights(&self, configured: [f32; 4]) -> [f32; 4] {
        let shares = self.0.map(|stage| stage.share());
        let known = |stage: &usize| shares[*stage].is_some() && configured[*stage] > 0.0;
        let known: Vec<(usize, f64)> = (0..4).filter(known).filter_map(|s| Some((s, shares[s]?))).collect();
        let weight = |scale: f64, (stage, share): (usize, f64)| {
            f64::from(configured[stage]) * (scale * share).clamp(BOUNDS.0, BOUNDS.1)
        };
        let sum = |scale: f64| known.iter().map(|&stage| weight(scale, stage)).sum::<f64>();
        let wanted: f64 = known.iter().map(|&(stage, _)| f64::from(configured[stage])).sum();
        let (mut low, mut high) = (0.0, BOUNDS.1 / SHARES.0);
        for _ in 0..HALVINGS {
            let middle = (low + high) / 2.0;
            if sum(middle) < wanted {
                low = middle;
            } else {
                high = middle;
            }
        }
        let mut weights = configured;
        for &(stage, share) in &known {
            weights[stage] = weight(high, (stage, share)) as f32;
        }
        weights
    }

    /// Takes in a committed step.
    pub fn committed(&mut self, total: &Statistics) {
        for (stage, of_step) in self.0.iter_mut().zip(&total.stages) {
            stage.committed(of_step);
        }
    }
}

impl StageProgress {
    fn committed(&mut self, of_step: &StageStatistics) {
        if of_step.clean_tokens == 0 {
            return;
        }
        let tokens = i64::try_from(of_step.clean_tokens).unwrap_or(i64::MAX).saturating_mul((1.0 / UNIT) as i64);
        if self.steps < FIRST_STEPS {
            self.first.add(of_step.clean_loss, tokens);
        }
        self.recent.loss -= self.recent.loss / MEMORY;
        self.recent.tokens -= self.recent.tokens / MEMORY;
        self.recent.add(of_step.clean_loss, tokens);
        self.steps = self.steps.saturating_add(1);
    }

    /// The share of the loss that is still there.
    fn share(&self) -> Option<f64> {
        let is_known = self.steps >= FIRST_STEPS && self.first.loss > 0;
        is_known.then(|| (self.recent.mean() / self.first.mean()).clamp(SHARES.0, SHARES.1))
    }
}

impl Mean {
    fn add(&mut self, loss: i64, tokens: i64) {
        self.loss = self.loss.saturating_add(loss);
        self.tokens = self.tokens.saturating_add(tokens);
    }

    fn mean(&self) -> f64 {
        self.loss as f64 / self.tokens as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIGURED: [f32; 4] = [0.15, 0.35, 0.35, 0.15];

    /// A step in which each stage has these many nats on each of its 50 clean tokens; none: no clean token.
    fn step(nats: [Option<f64>; 4]) -> Statistics {
        let of = |nats: Option<f64>| {
            let clean_tokens = if nats.is_some() { 50 } else { 0 };
            let clean_loss = (nats.unwrap_or(0.0) * 50.0 / UNIT) as i64;
            StageStatistics { clean_tokens, clean_loss, tokens: 60, loss: 7 << 20, correct: 0 }
        };
        Statistics { stages: nats.map(of), ..Statistics::default() }
    }

    fn after(steps: &[[Option<f64>; 4]]) -> Progress {
        let mut progress = Progress::default();
        steps.iter().for_each(|nats| progress.committed(&step(*nats)));
        progress
    }

    fn total(weights: [f32; 4]) -> f64 {
        weights.iter().map(|weight| f64::from(*weight)).sum()
    }

    #[test]
    fn the_first_steps_weigh_as_configured() {
        let nats = [2.0, 1.0, 3.0, 1.0].map(Some);
        for count in 0..FIRST_STEPS as usize {
            assert_eq!(after(&vec![nats; count]).weights(CONFIGURED), CONFIGURED, "{count} steps");
        }
    }

    #[test]
    fn stages_that_progress_alike_keep_their_weights() {
        let steps: Vec<_> = (1..200).map(|n| [8.0, 1.0, 4.0, 2.0].map(|first| Some(first / f64::from(n)))).collect();
        for (weight, configured) in after(&steps).weights(CONFIGURED).into_iter().zip(CONFIGURED) {
            assert!((weight - configured).abs() < 1e-4, "{weight} instead of {configured}");
        }
    }

    #[test]
    fn a_stage_that_lags_behind_gets_more_and_never_more_than_twice() {
        let then = |losses: [f64; 4]| {
            let steps = [vec![[Some(1.0); 4]; 4], vec![losses.map(Some); 200]].concat();
            after(&steps).weights([0.25; 4])
        };
        let weights = then([0.6, 0.4, 0.5, 0.5]);
        assert!(weights[0] > 0.25 && weights[1] < 0.25, "{weights:?}");
        let weights = then([1.0, 0.01, 0.01, 0.01]);
        assert!((weights[0] - 0.5).abs() < 1e-6 && weights[1] > 0.16, "{weights:?}");
    }

    #[test]
    fn a_stage_without_clean_tokens_keeps_its_weight() {
        let steps: Vec<_> = (0..50).map(|n| [Some(1.0), None, Some(1.0 / f64::from(n + 1)), Some(1.0)]).collect();
        let weights = after(&steps).weights(CONFIGURED);
        assert_eq!(weights[1], CONFIGURED[1]);
        assert!(weights[2] < CONFIGURED[2], "{weights:?}");
    }

    proptest! {
        #[test]
        fn weights_stay_within_their_bounds_and_their_sum(
            losses in prop::collection::vec(prop::array::uniform4(prop::option::of(0.0..20.0_f64)), 0..60),
            configured in prop::array::uniform4(0.0..2.0_f32),
        ) {
            let progress = after(&losses);
            let weights = progress.weights(configured);
            for (weight, configured) in weights.into_iter().zip(configured) {
                prop_assert!(weight >= configured * 0.4999 && weight <= configured * 2.0001, "{weight} of {configured}");
            }
            prop_assert!((total(weights) - total(configured)).abs() < 1e-5, "{weights:?} of {configured:?}");
            let again: Progress = serde_json::from_slice(&serde_json::to_vec(&progress).unwrap()).unwrap();
            prop_assert_eq!(again.weights(configured), weights);
        }
    }
}
