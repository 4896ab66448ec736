//! Checks of this machine: each computes the same numbers in two ways and says how far they are apart.
//!
//! A check knows its two ways and its tolerance; what is compared, timed and told is the same for all. Tolerances are
//! those of the numbers' kind: nothing for integers and for what is the same sequence of roundings, else a relative l2
//! distance.

mod collectives;
mod generation;
mod gpu;
mod kernels;
mod reference;
mod step;
mod subject;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::model::Placement;

pub use subject::Subject;

/// Numbers computed in two ways.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// As this program computes them.
    pub found: Vec<f64>,
    /// As they should be.
    pub expected: Vec<f64>,
    /// Largest relative l2 distance that is right; 0: every number must be equal.
    pub tolerance: f64,
    /// A figure beside, for people.
    pub detail: String,
}

impl Comparison {
    /// How far apart they are: the number of unequal ones where none may be, else the relative l2 distance. Not a number
    /// where there is one, infinite where there are more of one than of the other.
    pub fn distance(&self) -> f64 {
        if self.found.len() != self.expected.len() || self.found.is_empty() {
            return f64::INFINITY;
        }
        let pairs = || self.found.iter().zip(&self.expected);
        if self.tolerance == 0.0 {
            return pairs().filter(|(found, expected)| found != expected).count() as f64;
        }
        let difference: f64 = pairs().map(|(found, expected)| (found - expected).powi(2)).sum();
        (difference / self.expected.iter().map(|value| value.powi(2)).sum::<f64>()).sqrt()
    }
}

/// Something that must hold on this machine.
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What is compared with what.
    pub about: &'static str,
    /// Computes both sides.
    pub run: fn(&Subject) -> Result<Comparison>,
}

/// All checks, in the order of what rests on what.
pub const CHECKS: [Check; 12] = [
    Check { name: "nf4", about: "dequantising kernel, and its reference twin", run: kernels::nf4 },
    Check { name: "nf4 product", about: "product with a packed matrix, and in fp64", run: kernels::nf4_product },
    Check { name: "adapters", about: "both adapters on a projection, and in fp64", run: kernels::adapters },
    Check { name: "packing", about: "gradients of a pack, and of its samples alone", run: step::packing },
    Check { name: "recompute", about: "gradients with layers run again, and without", run: step::recompute },
    Check { name: "loss", about: "loss of a sample, and in fp64", run: step::loss },
    Check { name: "gradient", about: "slope of the loss along a direction, and in fp64", run: step::slope },
    Check { name: "determinism", about: "a microbatch twice", run: step::determinism },
    Check { name: "threads", about: "gradients with one thread, and with all", run: step::threads },
    Check { name: "exact sum", about: "two workers over Gloo, and one alone", run: collectives::exact_sum },
    Check { name: "collectives", about: "a sum over three ranks, and added one by one", run: collectives::all_reduce },
    Check { name: "generation", about: "logits with the cache, and without", run: generation::cached },
];

/// The checks of a GPU, against the processor.
pub const GPU_CHECKS: [Check; 2] = [
    Check { name: "kernels", about: "every kernel on the GPU, and its twin", run: gpu::kernels },
    Check { name: "gpu step", about: "gradients on the GPU in fp16, and on the processor in fp32", run: gpu::step },
];

/// The checks of a place.
pub fn checks(place: Placement) -> &'static [Check] {
    if place == Placement::CPU { &CHECKS } else { &GPU_CHECKS }
}

/// What came of a check.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The check's name.
    pub name: &'static str,
    /// What it compared.
    pub about: &'static str,
    /// Within the tolerance.
    pub passed: bool,
    /// See [`Comparison::distance`]; none where the check could not be made.
    pub distance: Option<f64>,
    /// What is allowed.
    pub tolerance: Option<f64>,
    /// Time that it took.
    pub seconds: f64,
    /// A figure, or why it could not be made.
    pub detail: String,
}

/// Makes a check.
pub fn make(check: &Check, subject: &Subject) -> Outcome {
    let started = Instant::now();
    // Operators of tch panic on an error of libtorch.
    let result = catch_unwind(AssertUnwindSafe(|| (check.run)(subject)));
    let result = result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(anyhow::anyhow!(text.unwrap_or_else(|| "libtorch failed".to_owned())))
    });
    outcome(check, result, started.elapsed().as_secs_f64())
}

fn outcome(check: &Check, result: Result<Comparison>, seconds: f64) -> Outcome {
    let (name, about) = (check.name, check.about);
    match result {
        Ok(comparison) => {
            let (distance, tolerance) = (comparison.distance(), comparison.tolerance);
            let passed = distance <= tolerance;
            let finite = Some(distance).filter(|distance| distance.is_finite());
            Outcome {
                name,
                about,
                passed,
                distance: finite,
                tolerance: Some(tolerance),
                seconds,
                detail: comparison.detail,
            }
        }
        Err(error) => Outcome {
            name,
            about,
            passed: false,
            distance: None,
            tolerance: None,
            seconds,
            detail: format!("{error:#}"),
        },
    }
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}
