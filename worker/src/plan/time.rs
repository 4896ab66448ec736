//! Seconds of a step: its operations over the rate at which this machine's (or a GPU's) products run.

use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::Workload;
use crate::bench::roofline::{Work, projection_weights, step_operations};
use crate::cpu;
use crate::model::{ModelConfig, ProjectionKind};
use crate::quantization::Nf4Weight;

/// Time of everything that is no product, as a share of the products' time: measured (docs/benchmarks.md).
const ELSEWHERE: f64 = 0.2;
/// Rows of the measured products.
const ROWS: i64 = 256;

/// Operations a second of this machine's own NF4 product with the projections of one layer, on libtorch's threads.
pub fn cpu_rate(config: &ModelConfig) -> f64 {
    let _guard = tch::no_grad_guard();
    let (mut operations, mut seconds) = (0.0, 0.0);
    for kind in ProjectionKind::ALL {
        let (input, output) = config.projection_shape(kind);
        let options = (Kind::Float, Device::Cpu);
        let weight = Nf4Weight::quantise(&Tensor::randn([output, input], options));
        let x = Tensor::randn([ROWS, input], options);
        let timed = || {
            let start = Instant::now();
            let _ = cpu::linear_nf4(&x, &weight);
            start.elapsed().as_secs_f64()
        };
        seconds += (0..3).map(|_| timed()).fold(f64::INFINITY, f64::min);
        operations += 2.0 * (ROWS * input * output) as f64;
    }
    operations / seconds
}

/// Seconds of one microbatch at a rate of products.
pub fn microbatch_seconds(work: &Workload, recomputed: usize, rate: f64) -> f64 {
    let once = step_operations(
        &work.config,
        &Work {
            tokens: work.tokens,
            squared_lengths: work.squared_lengths,
            learned: work.learned,
            rank: work.rank as f64,
            adapted: work.tokens + work.verified,
        },
    );
    let share = recomputed.min(work.config.layers) as f64 / work.config.layers as f64;
    let again = 2.0 * projection_weights(&work.config) * work.tokens * share;
    (once + again) / rate * (1.0 + ELSEWHERE)
}
