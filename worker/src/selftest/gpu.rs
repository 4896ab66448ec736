//! A GPU against the processor.

use anyhow::{Context, Error, Result, ensure};

use super::{Comparison, Subject};
use crate::kernels::check;
use crate::step::check::compare;

/// Results of each kernel that are not its twin's.
pub(super) fn kernels(subject: &Subject) -> Result<Comparison> {
    let found = check::compare_on(subject.place.device).map_err(Error::msg)?;
    let wrong: Vec<&str> = found.iter().filter(|one| one.differing > 0).map(|one| one.what.as_str()).collect();
    let results: usize = found.iter().map(|one| one.results).sum();
    let detail = if wrong.is_empty() { format!("{results} results") } else { wrong.join(", ") };
    let expected = vec![0.0; found.len()];
    Ok(Comparison { found: found.iter().map(|one| one.differing as f64).collect(), expected, tolerance: 0.0, detail })
}

/// The whole gradient of a microbatch: its distance is what was measured, the loss must be as near.
pub(super) fn step(subject: &Subject) -> Result<Comparison> {
    let found = compare(subject.place).map_err(Error::msg).context("a microbatch")?;
    ensure!(found.repeats, "the same microbatch gave other words a second time");
    let detail = match found.peak_bytes {
        Some(bytes) => format!("{:.0} MiB at most", bytes as f64 / f64::from(1 << 20)),
        None => String::new(),
    };
    let distance = found.gradient_error.max(found.loss_error);
    Ok(Comparison { found: vec![1.0 + distance], expected: vec![1.0], tolerance: 3e-2, detail })
}
