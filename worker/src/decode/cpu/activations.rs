//! What flows through the layers, sixteen channels to a vector. Outputs of a product stand panel after panel
//! ([`Activations`]); what goes into the next one stands by groups of tokens ([`Inputs`]), so that a group's vectors lie
//! together while a panel of weights goes by. Sixteen tokens are one group, and both forms then are the same.

use crate::cpu::vector::exp;
use crate::ffi::instructions::vectorised;
use crate::ffi::lanes::{Lanes, ROWS};
use crate::ffi::parallel::for_each_chunk;

/// `[panels, tokens]`; channels beyond the width are zero.
#[derive(Debug, Clone, Default)]
pub(super) struct Activations {
    pub(super) tokens: usize,
    pub(super) values: Vec<Lanes>,
}

/// `[tokens / 16][panels, tokens of the group]`, the form that panels of weights multiply.
#[derive(Debug, Clone, Default)]
pub(super) struct Inputs {
    pub(super) tokens: usize,
    pub(super) values: Vec<Lanes>,
}

impl Activations {
    /// Room for so many panels and tokens, whatever is in it.
    pub(super) fn resized(&mut self, panels: usize, tokens: usize) -> &mut [Lanes] {
        self.tokens = tokens;
        self.values.resize(panels * tokens, Lanes::ZERO);
        &mut self.values
    }

    /// From rows of `width` numbers, one a token.
    pub(super) fn set_rows(&mut self, rows: &[f32], width: usize) {
        let tokens = rows.len() / width;
        for (panel, out) in self.resized(width.div_ceil(16), tokens).chunks_exact_mut(tokens).enumerate() {
            for (out, row) in out.iter_mut().zip(rows.chunks_exact(width)) {
                *out = Lanes::of(&row[16 * panel..]);
            }
        }
    }

    /// Copies one token's channels from `channel` on.
    pub(super) fn row(&self, token: usize, mut channel: usize, mut out: &mut [f32]) {
        while !out.is_empty() {
            let vector = &self.values[channel / 16 * self.tokens + token].0[channel % 16..];
            let (part, rest) = out.split_at_mut(vector.len().min(out.len()));
            part.copy_from_slice(&vector[..part.len()]);
            (channel, out) = (channel + part.len(), rest);
        }
    }
}

impl Inputs {
    /// Fills each group by `fill(first token, vectors)`, vectors being `[panels, tokens of the group]`.
    fn fill(&mut self, panels: usize, tokens: usize, fill: impl Fn(usize, &mut [Lanes]) + Sync) {
        self.tokens = tokens;
        self.values.resize(panels * tokens, Lanes::ZERO);
        for_each_chunk(&mut self.values, panels * ROWS, |group, vectors| fill(group * ROWS, vectors));
    }

    /// The same tokens' activations; what is in them afterwards is of no use.
    pub(super) fn take(&mut self, from: &mut Activations) {
        if from.tokens <= ROWS {
            self.tokens = from.tokens;
            return std::mem::swap(&mut self.values, &mut from.values);
        }
        let panels = from.values.len() / from.tokens;
        self.fill(panels, from.tokens, |first, vectors| {
            let tokens = vectors.len() / panels;
            for (to, from) in vectors.chunks_exact_mut(tokens).zip(from.values.chunks_exact(from.tokens)) {
                to.copy_from_slice(&from[first..first + tokens]);
            }
        });
    }

    /// Heads of `width` channels each: `[heads, tokens, width]`.
    pub(super) fn set_heads(&mut self, heads: &[f32], width: usize, tokens: usize) {
        let channels = heads.len() / tokens;
        let panels = channels.div_ceil(16);
        self.fill(panels, tokens, |first, vectors| {
            let count = vectors.len() / panels;
            for (index, vector) in vectors.iter_mut().enumerate() {
                let (panel, token) = (index / count, first + index % count);
                let at = |channel: usize| heads[(channel / width * tokens + token) * width + channel % width];
                let start = 16 * panel;
                match start % width + 16 <= width {
                    true => *vector = Lanes::of(&heads[(start / width * tokens + token) * width + start % width..]),
                    false => vector.0 = std::array::from_fn(|i| if start + i < channels { at(start + i) } else { 0.0 }),
                }
            }
        });
    }

    /// Root-mean-square norm over `width` channels, times the weight (Zhang and Sennrich 2019), of some tokens.
    pub(super) fn set_norm(&mut self, x: &Activations, tokens: &[usize], norm: &Norm) {
        let panels = norm.weight.len();
        self.fill(panels, tokens.len(), |first, vectors| {
            let tokens = &tokens[first..first + vectors.len() / panels];
            let mut squares = vec![Lanes::ZERO; tokens.len()];
            copy_with_squares(&x.values, x.tokens, tokens, vectors, &mut squares);
            let scale = |squares: &Lanes| {
                let mean = squares.0.iter().map(|square| f64::from(*square)).sum::<f64>() / norm.width as f64;
                (1.0 / (mean + norm.epsilon).sqrt()) as f32
            };
            let scales: Vec<f32> = squares.iter().map(scale).collect();
            scale_rows(vectors, &scales, norm.weight);
        });
    }
}

/// A norm's weight, channels and epsilon.
pub(super) struct Norm<'a> {
    pub(super) weight: &'a [Lanes],
    pub(super) width: usize,
    pub(super) epsilon: f64,
}

vectorised! {
    pub(super) fn add(sum: &mut [Lanes], more: &[Lanes]) {
        for (sum, more) in sum.iter_mut().zip(more) {
            sum.0.iter_mut().zip(&more.0).for_each(|(sum, more)| *sum += more);
        }
    }

    /// Some tokens of `[panels, all]`, and of each its squares in sixteen partial sums.
    fn copy_with_squares(from: &[Lanes], all: usize, tokens: &[usize], to: &mut [Lanes], sums: &mut [Lanes]) {
        for (from, to) in from.chunks_exact(all).zip(to.chunks_exact_mut(tokens.len())) {
            for ((token, to), sum) in tokens.iter().zip(to).zip(&mut *sums) {
                *to = from[*token];
                sum.0.iter_mut().zip(&to.0).for_each(|(sum, x)| *sum += x * x);
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

    /// `silu(gate) * up`, in place.
    pub(super) fn gate(gate: &mut [Lanes], up: &[Lanes]) {
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

    /// Activations of `tokens` rows of `width` numbers, and the rows.
    fn example(tokens: usize, width: usize) -> (Activations, Vec<f32>) {
        let rows: Vec<f32> = (0..tokens * width).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut all = Activations::default();
        all.set_rows(&rows, width);
        (all, rows)
    }

    /// A token's channels.
    fn row(x: &Inputs, token: usize, width: usize) -> Vec<f32> {
        let panels = x.values.len() / x.tokens;
        let (group, of) = (token / ROWS * ROWS, token % ROWS);
        let tokens = ROWS.min(x.tokens - group);
        (0..width).map(|c| x.values[group * panels + c / 16 * tokens + of].0[c % 16]).collect()
    }

    #[test]
    fn rows_come_back_from_any_channel_on() {
        let (all, rows) = example(3, 24);
        let mut part = [0.0; 17];
        all.row(2, 5, &mut part);
        assert_eq!(part, rows[2 * 24 + 5..2 * 24 + 22]);
    }

    #[test]
    fn groups_hold_every_token_once() {
        for tokens in [1, 16, 17, 40] {
            let (mut all, rows) = example(tokens, 24);
            let mut inputs = Inputs::default();
            inputs.take(&mut all);
            for token in 0..tokens {
                assert_eq!(row(&inputs, token, 24), rows[24 * token..24 * (token + 1)], "{tokens} tokens");
            }
        }
    }

    #[test]
    fn heads_stand_side_by_side() {
        for (width, heads) in [(32, 2), (8, 3), (24, 2)] {
            let tokens = 19;
            let values: Vec<f32> = (0..heads * tokens * width).map(|i| i as f32).collect();
            let mut inputs = Inputs::default();
            inputs.set_heads(&values, width, tokens);
            for token in 0..tokens {
                let of = |head: usize| &values[(head * tokens + token) * width..][..width];
                let expected: Vec<f32> = (0..heads).flat_map(of).copied().collect();
                assert_eq!(row(&inputs, token, heads * width), expected, "heads of {width}");
            }
        }
    }

    #[test]
    fn a_norm_is_one_and_takes_the_tokens_that_it_is_told() {
        let (all, _) = example(20, 24);
        let norm = Norm { weight: &[Lanes([1.0; 16]); 2], width: 24, epsilon: 0.0 };
        let (mut some, mut every) = (Inputs::default(), Inputs::default());
        some.set_norm(&all, &[18, 0], &norm);
        every.set_norm(&all, &(0..20).collect::<Vec<_>>(), &norm);
        let first = row(&some, 0, 24);
        let mean = first.iter().map(|x| x * x).sum::<f32>() / 24.0;
        assert!((mean - 1.0).abs() < 1e-6, "{mean}");
        assert_eq!((first, row(&some, 1, 24)), (row(&every, 18, 24), row(&every, 0, 24)));
    }
}
