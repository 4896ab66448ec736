//! One microbatch, computed in ways that must agree.

use anyhow::Result;

use super::reference::Reference;
use super::{Comparison, Subject, doubles};

/// Of gradients in fp32.
const TOLERANCE: f64 = 2e-5;

pub(super) fn packing(subject: &Subject) -> Result<Comparison> {
    let (packed, _) = subject.gradient(&subject.samples, 0.05, false)?;
    let mut sum = vec![0f64; packed.len()];
    for sample in &subject.samples {
        let (alone, _) = subject.gradient(std::slice::from_ref(sample), 0.05, false)?;
        sum.iter_mut().zip(alone).for_each(|(sum, value)| *sum += f64::from(value));
    }
    let detail = format!("{} samples, {} numbers", subject.samples.len(), packed.len());
    Ok(Comparison { found: doubles(&packed), expected: sum, tolerance: TOLERANCE, detail })
}

pub(super) fn recompute(subject: &Subject) -> Result<Comparison> {
    let (found, _) = subject.gradient(&subject.samples, 0.05, true)?;
    let (expected, _) = subject.gradient(&subject.samples, 0.05, false)?;
    exact(&found, &expected)
}

pub(super) fn determinism(subject: &Subject) -> Result<Comparison> {
    let (found, _) = subject.gradient(&subject.samples, 0.05, false)?;
    let (expected, _) = subject.gradient(&subject.samples, 0.05, false)?;
    exact(&found, &expected)
}

fn exact(found: &[f32], expected: &[f32]) -> Result<Comparison> {
    let detail = format!("{} numbers", found.len());
    Ok(Comparison { found: doubles(found), expected: doubles(expected), tolerance: 0.0, detail })
}

pub(super) fn threads(subject: &Subject) -> Result<Comparison> {
    let before = tch::get_num_threads();
    let all = std::thread::available_parallelism()?.get() as i32;
    let with = |threads| {
        tch::set_num_threads(threads);
        subject.gradient(&subject.samples, 0.05, false)
    };
    let results = (with(1), with(all.max(2)));
    tch::set_num_threads(before);
    let ((expected, _), (found, _)) = (results.0?, results.1?);
    let same = if found == expected { "the same bits" } else { "other last bits" };
    let detail = format!("1 and {} threads: {same}", all.max(2));
    Ok(Comparison { found: doubles(&found), expected: doubles(&expected), tolerance: TOLERANCE, detail })
}

pub(super) fn loss(subject: &Subject) -> Result<Comparison> {
    let sample = &subject.samples[0];
    let (_, found) = subject.gradient(std::slice::from_ref(sample), 0.0, false)?;
    let expected = Reference::new(subject).loss(sample, &doubles(&subject.values))?;
    Ok(Comparison {
        found: vec![found],
        expected: vec![expected],
        tolerance: 1e-5,
        detail: format!("{expected:.6} nats"),
    })
}

/// The gradient's projection on a direction, and how the loss changes along it (in fp64, where a small step is exact enough).
pub(super) fn slope(subject: &Subject) -> Result<Comparison> {
    const STEP: f64 = 1e-4;
    let sample = &subject.samples[0];
    let (gradient, _) = subject.gradient(std::slice::from_ref(sample), 0.0, false)?;
    // Both adapters are part of it.
    let direction: Vec<f64> = gradient.iter().map(|value| f64::from(value.signum())).collect();
    let reference = Reference::new(subject);
    let at = |step: f64| {
        let moved = subject.values.iter().zip(&direction).map(|(value, along)| f64::from(*value) + step * along);
        reference.loss(sample, &moved.collect::<Vec<_>>())
    };
    let expected = (at(STEP)? - at(-STEP)?) / (2.0 * STEP);
    let found = gradient.iter().zip(&direction).map(|(g, along)| f64::from(*g) * along).sum();
    Ok(Comparison { found: vec![found], expected: vec![expected], tolerance: 1e-3, detail: format!("{expected:.4}") })
}
