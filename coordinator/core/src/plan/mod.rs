//! What step t does: a function of configuration, data and committed records only, never of the fleet (I4).

pub mod exponents;
pub mod learning_rate;
pub mod loss_scale;
pub mod schedule;
pub mod stage_weights;

use crate::digest::Digest;

/// Everything about a step that depends on time.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The step, from 1.
    pub step: u64,
    /// 0, then one more for every Retry.
    pub attempt: u32,
    /// Learning rate.
    pub learning_rate: f64,
    /// log2 of the loss scale.
    pub scale_log2: i32,
    /// One a tensor; empty: all unknown.
    pub exponents: Vec<i32>,
    /// Weight of UNDERSTAND, PLAN, EXECUTE, VERIFY.
    pub stage_weights: [f32; 4],
    /// Samples in the step.
    pub samples: u32,
    /// Learned tokens in the step.
    pub learned_tokens: u64,
    /// Microbatches in the step, K.
    pub microbatches: u32,
    /// |q| is at most 2^bits.
    pub bits: u32,
    /// Hash of all of the above and of the sample ids.
    pub hash: Digest,
}

impl Plan {
    /// Fills in the hash; `ids` are the step's sample ids by microbatch, in order.
    pub(crate) fn sealed<'a>(mut self, ids: impl Iterator<Item = (u32, &'a str)>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"polya plan 1");
        hasher.update(&self.step.to_le_bytes());
        hasher.update(&self.attempt.to_le_bytes());
        hasher.update(&self.learning_rate.to_bits().to_le_bytes());
        hasher.update(&self.scale_log2.to_le_bytes());
        hasher.update(&(self.exponents.len() as u64).to_le_bytes());
        for exponent in &self.exponents {
            hasher.update(&exponent.to_le_bytes());
        }
        for weight in self.stage_weights {
            hasher.update(&weight.to_bits().to_le_bytes());
        }
        hasher.update(&self.samples.to_le_bytes());
        hasher.update(&self.learned_tokens.to_le_bytes());
        hasher.update(&self.microbatches.to_le_bytes());
        hasher.update(&self.bits.to_le_bytes());
        for (microbatch, id) in ids {
            hasher.update(&microbatch.to_le_bytes());
            hasher.update(&(id.len() as u64).to_le_bytes());
            hasher.update(id.as_bytes());
        }
        self.hash = Digest(*hasher.finalize().as_bytes());
        self
    }
}
