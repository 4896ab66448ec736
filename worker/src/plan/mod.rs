//! What a run will take, before it runs: memory by part, recomputed layers, unused budget, seconds a step, hours.
//!
//! [`settings`] reads the keys of a run's configuration, [`data`] counts its tokens, [`memory`] adds up what is held,
//! [`time`] divides the operations of a step by this machine's own rate (or a GPU's).

pub mod data;
pub mod memory;
pub mod settings;
pub mod time;

use crate::model::ModelConfig;

/// One microbatch of a run, as far as memory and time depend on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// The model.
    pub config: ModelConfig,
    /// Projections are NF4, else fp32 on a CPU and fp16 on a GPU.
    pub nf4: bool,
    /// Bytes of a number of the embedding: 2, or 4.
    pub embedding_bytes: f64,
    /// Rank of an adapter.
    pub rank: i64,
    /// One, or two.
    pub adapters: usize,
    /// Tokens of a full microbatch.
    pub tokens: f64,
    /// Tokens of the longest sequence.
    pub longest: f64,
    /// Sum over the microbatch's sequences of the squared length.
    pub squared_lengths: f64,
    /// Tokens whose logits are needed.
    pub learned: f64,
    /// Tokens on which the verification adapter is on.
    pub verified: f64,
    /// Tokens whose keys and values an evaluation holds at once, all rows together; 0: nothing is evaluated.
    pub decoded: f64,
}
