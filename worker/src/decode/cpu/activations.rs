//! What flows through the layers: `[width / 16, tokens]` vectors of sixteen channels, the form that panels multiply.

use crate::cpu::vector::exp;
use crate::ffi::instructions::vectorised;
use crate::ffi::lanes::Lanes;

/// Activations of some tokens. Channels beyond the width are zero.
#[derive(Debug, Clone)]
pub(super) struct Activations {
    pub(super) tokens: usize,
    pub(super) values: Vec<Lanes>,
}

impl Activations {
    pub(super) fn zeros(width: usize, tokens: usize) -> Self {
        Activations { tokens, values: vec![Lanes::ZERO; width.div_ceil(16) * tokens] }
    }

    /// From rows of `width` numbers, one a token.
    pub(super) fn of_rows(rows: &[f32], width: usize) -> Self {
        let mut all = Activations::zeros(width, rows.len() / width);
        for (token, row) in rows.chunks_exact(width).enumerate() {
            for (panel, part) in row.chunks(16).enumerate() {
                all.values[panel * all.tokens + token].0[..part.len()].copy_from_slice(part);
            }
        }
        all
    }

    /// Copies one token's channels.
    pub(super) fn row(&self, token: usize, out: &mut [f32]) {
        for (panel, part) in out.chunks_mut(16).enumerate() {
            part.copy_from_slice(&self.values[panel * self.tokens + token].0[..part.len()]);
        }
    }

    /// Some of the tokens.
    pub(super) fn select(&self, tokens: &[usize]) -> Self {
        let values = self.values.chunks_exact(self.tokens);
        let values = values.flat_map(|panel| tokens.iter().map(|token| panel[*token])).collect();
        Activations { tokens: tokens.len(), values }
    }

    pub(super) fn add(&mut self, other: &Activations) {
        add(&mut self.values, &other.values);
    }

    /// Root-mean-square norm over `width` channels, times the weight (Zhang and Sennrich 2019).
    pub(super) fn rms_norm(&self, weight: &[Lanes], width: usize, epsilon: f64) -> Self {
        let mut squares = vec![Lanes::ZERO; self.tokens];
        add_squares(&self.values, &mut squares);
        let scale = |squares: &Lanes| {
            let mean = squares.0.iter().map(|square| f64::from(*square)).sum::<f64>() / width as f64;
            (1.0 / (mean + epsilon).sqrt()) as f32
        };
        let scales: Vec<f32> = squares.iter().map(scale).collect();
        let mut normed = self.clone();
        scale_rows(&mut normed.values, &scales, weight);
        normed
    }

    /// `silu(self) * up`, in place.
    pub(super) fn gate(&mut self, up: &Activations) {
        gate(&mut self.values, &up.values);
    }
}

vectorised! {
    fn add(sum: &mut [Lanes], more: &[Lanes]) {
        for (sum, more) in sum.iter_mut().zip(more) {
            sum.0.iter_mut().zip(&more.0).for_each(|(sum, more)| *sum += more);
        }
    }

    /// Of each token, in sixteen partial sums.
    fn add_squares(x: &[Lanes], sums: &mut [Lanes]) {
        for panel in x.chunks_exact(sums.len()) {
            for (sum, x) in sums.iter_mut().zip(panel) {
                sum.0.iter_mut().zip(&x.0).for_each(|(sum, x)| *sum += x * x);
            }
        }
    }

    /// Token t times `scales[t]` and the weight.
    fn scale_rows(x: &mut [Lanes], scales: &[f32], weight: &[Lanes]) {
        for (panel, weight) in x.chunks_exact_mut(scales.len()).zip(weight) {
            for (x, scale) in panel.iter_mut().zip(scales) {
                x.0.iter_mut().zip(&weight.0).for_each(|(x, weight)| *x = *x * scale * weight);
            }
        }
    }

    fn gate(gate: &mut [Lanes], up: &[Lanes]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            for (gate, up) in gate.0.iter_mut().zip(&up.0) {
                *gate = *gate / (1.0 + exp(-*gate)) * up;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_a_norm_is_one() {
        let rows: Vec<f32> = (0..3 * 24).map(|i| (i as f32 * 0.7).sin()).collect();
        let all = Activations::of_rows(&rows, 24);
        let mut row = vec![0.0; 24];
        all.row(2, &mut row);
        assert_eq!(row, rows[48..]);
        let normed = all.select(&[2, 0]).rms_norm(&[Lanes([1.0; 16]); 2], 24, 0.0);
        normed.row(0, &mut row);
        let mean = row.iter().map(|x| x * x).sum::<f32>() / 24.0;
        assert!((mean - 1.0).abs() < 1e-6, "{mean}");
    }
}
