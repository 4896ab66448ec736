//! Statistics of a microbatch in fixed point, so that their sum does not depend on an order.

use serde::{Deserialize, Serialize};

/// Unit of the fixed-point sums: 2^-20.
pub const UNIT: f64 = 1.0 / 1_048_576.0;
/// Magnitude of a tensor whose gradient is zero everywhere.
pub const ZERO: i32 = i32::MIN;
/// Magnitude of a tensor that holds a value that is not finite.
pub const NOT_FINITE: i32 = i32::MAX;

/// Sums over the learned tokens of one stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageStatistics {
    /// Learned tokens.
    pub tokens: u64,
    /// Unsmoothed cross-entropy in nats, unit 2^-20.
    pub loss: i64,
    /// Tokens whose most probable prediction was right.
    pub correct: u64,
    /// The same tokens of clean samples only.
    pub clean_tokens: u64,
    /// Their cross-entropy, unit 2^-20.
    pub clean_loss: i64,
}

/// What a microbatch reports beside its gradient.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// UNDERSTAND, PLAN, EXECUTE, VERIFY.
    pub stages: [StageStatistics; 4],
    /// Transition term summed over samples, unit 2^-20.
    pub transition: i64,
    /// Samples.
    pub samples: u32,
    /// Tokens that went through the model.
    pub tokens: u64,
    /// One a tensor: the smallest m with |g| < 2^m, or [`ZERO`] or [`NOT_FINITE`].
    pub magnitudes: Vec<i32>,
}

impl Statistics {
    /// Adds another microbatch: sums, and the larger magnitude of each tensor.
    pub fn add(&mut self, other: &Statistics) {
        for (mine, theirs) in self.stages.iter_mut().zip(&other.stages) {
            mine.tokens += theirs.tokens;
            mine.loss += theirs.loss;
            mine.correct += theirs.correct;
            mine.clean_tokens += theirs.clean_tokens;
            mine.clean_loss += theirs.clean_loss;
        }
        self.transition += other.transition;
        self.samples += other.samples;
        self.tokens += other.tokens;
        if self.magnitudes.is_empty() {
            self.magnitudes = vec![ZERO; other.magnitudes.len()];
        }
        for (mine, theirs) in self.magnitudes.iter_mut().zip(&other.magnitudes) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// Mean unsmoothed loss a token of a stage, in nats; none without tokens.
    pub fn mean_loss(&self, stage: usize) -> Option<f64> {
        let stage = &self.stages[stage];
        (stage.tokens > 0).then(|| stage.loss as f64 * UNIT / stage.tokens as f64)
    }

    /// Mean unsmoothed loss over the learned tokens of all stages, in nats.
    pub fn mean_loss_over_stages(&self) -> Option<f64> {
        let tokens: u64 = self.stages.iter().map(|stage| stage.tokens).sum();
        let loss: i64 = self.stages.iter().map(|stage| stage.loss).sum();
        (tokens > 0).then(|| loss as f64 * UNIT / tokens as f64)
    }
}
