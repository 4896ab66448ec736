//! Trajectories as this program writes them (Parquet, or JSON Lines with the same names), checked as if they were new.

use serde_json::Value;

use super::At;
use super::reasons::{Reason, Refusal};
use crate::trajectory::{Stage, Trajectory};

/// Changes when the same bytes would become other trajectories.
pub const VERSION: &str = "trajectories-1";

/// A record. It keeps its id.
pub fn convert(record: &Value, _at: &At<'_>) -> Result<Trajectory, Refusal> {
    let trajectory: Trajectory =
        serde_json::from_value(record.clone()).map_err(|error| Reason::BadTrajectory.because(error.to_string()))?;
    let empty = |text: &str| text.trim().is_empty();
    if let Some(stage) = Stage::ALL.into_iter().find(|stage| empty(trajectory.stage(*stage))) {
        return Err(Reason::BadTrajectory.because(format!("{} is empty", stage.name())));
    }
    if empty(&trajectory.question) || empty(&trajectory.answer) {
        return Err(Reason::BadTrajectory.because("question or answer is empty"));
    }
    let text = trajectory.canonical().text;
    let outside = |start: u32, end: u32| {
        let (start, end) = (start as usize, end as usize);
        start >= end || end > text.len() || !text.is_char_boundary(start) || !text.is_char_boundary(end)
    };
    if let Some(span) = trajectory.weights.iter().flatten().find(|span| outside(span.start, span.end)) {
        let detail = format!("weights: {} to {} is no range of the canonical text", span.start, span.end);
        return Err(Reason::BadTrajectory.because(detail));
    }
    Ok(trajectory)
}
