//! The optimiser's state and its step into a shadow: nothing that is committed changes before the flip.

use crate::adamw::AdamW;

/// Numbers in one partial sum of the norm; fixed, so that the norm does not depend on anything else.
const CHUNK: usize = 4096;

/// Everything that training changes.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingState {
    /// Optimiser steps made.
    pub step: u64,
    /// The adapters' numbers.
    pub parameters: Vec<f32>,
    /// First moments.
    pub first: Vec<f32>,
    /// Second moments.
    pub second: Vec<f32>,
}

impl TrainingState {
    /// Step 0.
    pub fn new(parameters: Vec<f32>) -> Self {
        let zero = vec![0.0; parameters.len()];
        TrainingState { step: 0, first: zero.clone(), second: zero, parameters }
    }

    /// The state after one step with this gradient, and the gradient's l2 norm before clipping to `clip`.
    pub fn stepped(&self, adamw: &AdamW, rate: f64, clip: f64, mut gradient: Vec<f32>) -> (Self, f64) {
        let norm = norm(&gradient);
        let factor = (clip / (norm + 1e-6)).min(1.0) as f32;
        if clip > 0.0 && factor < 1.0 {
            gradient.iter_mut().for_each(|value| *value *= factor);
        }
        let mut next = TrainingState { step: self.step + 1, ..self.clone() };
        adamw.step(next.step, rate, &gradient, &mut next.parameters, &mut next.first, &mut next.second);
        (next, norm)
    }
}

/// l2 norm by fixed chunks in fp64.
pub fn norm(values: &[f32]) -> f64 {
    let squares = |chunk: &[f32]| chunk.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>();
    values.chunks(CHUNK).map(squares).sum::<f64>().sqrt()
}
