//! The floor of a step: how fast this machine multiplies matrices of the model's own shapes, and how many products a
//! step cannot do without.

use std::time::Instant;

use tch::Tensor;

use crate::device::wait_for;
use crate::model::{ModelConfig, Placement, ProjectionKind};

/// Repetitions of each product; the fastest counts.
const REPETITIONS: usize = 5;
/// Rows of the head in the measured product: its rate does not change beyond.
const HEAD_ROWS: i64 = 8192;

/// Floating-point operations a second of libtorch's own product (fp32 on a CPU, fp16 on a GPU) of `rows` tokens with each of
/// the model's dense matrices, weighted as a layer uses them.
pub fn gemm_rate(config: &ModelConfig, rows: i64, place: Placement) -> f64 {
    let _guard = tch::no_grad_guard();
    let mut shapes = ProjectionKind::ALL.map(|kind| config.projection_shape(kind)).to_vec();
    shapes.push((config.hidden, config.vocabulary.min(HEAD_ROWS)));
    let (mut operations, mut seconds) = (0.0, 0.0);
    for (input, output) in shapes {
        let x = Tensor::randn([rows, input], (place.kind, place.device));
        let weight = Tensor::randn([output, input], (place.kind, place.device));
        seconds += fastest(place, || x.matmul(&weight.tr()));
        operations += 2.0 * (rows * input * output) as f64;
    }
    operations / seconds
}

/// Seconds of the fastest of some repetitions, the device's queue included.
pub fn fastest<T>(place: Placement, mut work: impl FnMut() -> T) -> f64 {
    let mut timed = || {
        wait_for(place.device);
        let start = Instant::now();
        let result = work();
        wait_for(place.device);
        let seconds = start.elapsed().as_secs_f64();
        drop(result);
        seconds
    };
    (0..REPETITIONS).map(|_| timed()).fold(f64::INFINITY, f64::min)
}

/// What goes through the model in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Tokens, shadow copies included.
    pub tokens: f64,
    /// Sum over sequences of the squared length.
    pub squared_lengths: f64,
    /// Tokens whose logits are needed.
    pub learned: f64,
    /// Rank of an adapter.
    pub rank: f64,
    /// Tokens times adapters that act on them.
    pub adapted: f64,
}

/// Weights of all projections.
pub fn projection_weights(config: &ModelConfig) -> f64 {
    let of = |kind| config.projection_shape(kind);
    ProjectionKind::ALL.iter().map(|kind| (of(*kind).0 * of(*kind).1) as f64).sum::<f64>() * config.layers as f64
}

/// Operations of a forward and a backward pass: frozen weights twice (forward, gradient of the input), adapters and
/// attention three times, the head twice for learned tokens; nothing is computed a second time.
pub fn step_operations(config: &ModelConfig, work: &Work) -> f64 {
    let widths = |kind| config.projection_shape(kind).0 + config.projection_shape(kind).1;
    let adapter: f64 = ProjectionKind::ALL.iter().map(|kind| widths(*kind) as f64).sum::<f64>() * config.layers as f64;
    let attention = (config.layers as i64 * config.heads * config.head_dim) as f64 * work.squared_lengths;
    let head = (config.hidden * config.vocabulary) as f64 * work.learned;
    4.0 * projection_weights(config) * work.tokens
        + 6.0 * adapter * work.rank * work.adapted
        + 6.0 * attention
        + 4.0 * head
}

/// Operations of decoding one token in each of `rows` rows, attention left out.
pub fn decode_operations(config: &ModelConfig, rows: f64) -> f64 {
    2.0 * (projection_weights(config) + (config.hidden * config.vocabulary) as f64) * rows
}
