//! One layer, forward and backward, in reading order: norm, q k v, attention, output, norm, gate and up, down.

use super::attention::{self, Block, Heads, Inputs};
use super::projection::{Adapted, Gradients, Low};
use super::scratch::Scratch;
use super::vector;
use crate::ffi::view;
use crate::model::{ProjectionKind, Site};

/// What all layers of one pack share.
pub(crate) struct Pack<'a> {
    pub(crate) adapted: Adapted<'a>,
    pub(crate) heads: Heads,
    pub(crate) blocks: Vec<Block>,
    /// `[T, width / 2]` each.
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
}

/// What the backward pass reads: what cannot be made again from it cheaply.
pub(crate) struct Kept {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    sums: Vec<f32>,
    attended: Vec<f32>,
    /// The residual stream after attention.
    middle: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// In the order of [`ProjectionKind::ALL`].
    lows: Vec<Low>,
}

impl Kept {
    /// Gives the buffers back.
    pub(crate) fn release(self, scratch: &mut Scratch) {
        let Kept { q, k, v, sums, attended, middle, gate, up, lows } = self;
        [q, k, v, sums, attended, middle, gate, up].into_iter().for_each(|buffer| scratch.give(buffer));
        lows.into_iter().flatten().for_each(|buffer| scratch.give(buffer));
    }
}

impl Pack<'_> {
    fn width(&self) -> usize {
        self.adapted.model.config.hidden as usize
    }

    fn normed(&self, x: &[f32], weight: &tch::Tensor, scratch: &mut Scratch) -> Vec<f32> {
        let mut out = scratch.take(x.len());
        vector::norm(x, view::floats(weight), self.adapted.model.config.norm_epsilon, &mut out);
        out
    }

    fn rotate(&self, x: &mut [f32], heads: usize, sign: f32) {
        vector::rotate(x, heads * self.heads.width, &self.cos, &self.sin, self.heads.width / 2, sign);
    }

    /// The residual stream behind the layer, and what its backward pass needs.
    pub(crate) fn forward(&self, layer: usize, x: &[f32], scratch: &mut Scratch) -> (Vec<f32>, Kept) {
        let tokens = x.len() / self.width();
        let weights = &self.adapted.model.layers[layer];
        let mut lows = Vec::with_capacity(ProjectionKind::ALL.len());
        let mut project = |kind, x: &[f32], scratch: &mut Scratch| {
            let (y, low) = self.adapted.forward(Site { layer, kind }, x, scratch);
            lows.push(low);
            y
        };
        let normed = self.normed(x, &weights.attention_norm, scratch);
        let mut q = project(ProjectionKind::Query, &normed, scratch);
        let mut k = project(ProjectionKind::Key, &normed, scratch);
        let v = project(ProjectionKind::Value, &normed, scratch);
        scratch.give(normed);
        self.rotate(&mut q, self.heads.queries, 1.0);
        self.rotate(&mut k, self.heads.keys, 1.0);
        let (mut attended, mut sums) = (scratch.take(q.len()), scratch.take(tokens * self.heads.queries));
        attention::forward(self.heads, &self.blocks, Inputs { q: &q, k: &k, v: &v }, &mut attended, &mut sums);
        let mut middle = project(ProjectionKind::Output, &attended, scratch);
        vector::add(&mut middle, x);
        let normed = self.normed(&middle, &weights.mlp_norm, scratch);
        let gate = project(ProjectionKind::Gate, &normed, scratch);
        let up = project(ProjectionKind::Up, &normed, scratch);
        scratch.give(normed);
        let mut gated = scratch.take(gate.len());
        vector::gated(&gate, &up, &mut gated);
        let mut y = project(ProjectionKind::Down, &gated, scratch);
        scratch.give(gated);
        vector::add(&mut y, &middle);
        (y, Kept { q, k, v, sums, attended, middle, gate, up, lows })
    }

    /// Turns the gradient of the layer's output into that of its input `x`; of the first layer nobody needs it, and it
    /// is not made.
    pub(crate) fn backward(
        &self,
        layer: usize,
        x: &[f32],
        kept: Kept,
        mut upstream: Vec<f32>,
        gradients: Gradients,
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        let weights = &self.adapted.model.layers[layer];
        let epsilon = self.adapted.model.config.norm_epsilon;
        let Kept { q, k, v, sums, attended, middle, mut gate, mut up, lows } = kept;
        let mut back = |kind: ProjectionKind, x: &[f32], up: &[f32], dx: Option<&mut [f32]>, scratch: &mut Scratch| {
            let site = Site { layer, kind };
            self.adapted.backward(site, (x, &lows[kind as usize]), up, gradients, dx, scratch);
        };
        let mut gated = scratch.take(gate.len());
        vector::gated(&gate, &up, &mut gated);
        let mut d_gated = scratch.zeros(gate.len());
        back(ProjectionKind::Down, &gated, &upstream, Some(&mut d_gated), scratch);
        vector::gated_backward(&mut gate, &mut up, &d_gated);
        scratch.give(gated);
        scratch.give(d_gated);
        let normed = self.normed(&middle, &weights.mlp_norm, scratch);
        let mut d_normed = scratch.zeros(normed.len());
        back(ProjectionKind::Gate, &normed, &gate, Some(&mut d_normed), scratch);
        back(ProjectionKind::Up, &normed, &up, Some(&mut d_normed), scratch);
        vector::norm_backward(&middle, view::floats(&weights.mlp_norm), epsilon, &d_normed, &mut upstream);
        [gate, up, normed, d_normed].into_iter().for_each(|buffer| scratch.give(buffer));

        let mut d_attended = scratch.zeros(attended.len());
        back(ProjectionKind::Output, &attended, &upstream, Some(&mut d_attended), scratch);
        let (mut dq, mut dk, mut dv) = (scratch.take(q.len()), scratch.take(k.len()), scratch.take(v.len()));
        let inputs = Inputs { q: &q, k: &k, v: &v };
        let outs = (&mut dq[..], &mut dk[..], &mut dv[..]);
        attention::backward(self.heads, &self.blocks, inputs, (&attended, &sums), &d_attended, outs);
        self.rotate(&mut dq, self.heads.queries, -1.0);
        self.rotate(&mut dk, self.heads.keys, -1.0);
        [q, k, v, sums, attended, middle, d_attended].into_iter().for_each(|buffer| scratch.give(buffer));

        let normed = self.normed(x, &weights.attention_norm, scratch);
        let mut d_normed = (layer > 0).then(|| scratch.zeros(normed.len()));
        back(ProjectionKind::Query, &normed, &dq, d_normed.as_deref_mut(), scratch);
        back(ProjectionKind::Key, &normed, &dk, d_normed.as_deref_mut(), scratch);
        back(ProjectionKind::Value, &normed, &dv, d_normed.as_deref_mut(), scratch);
        if let Some(d_normed) = d_normed {
            vector::norm_backward(x, view::floats(&weights.attention_norm), epsilon, &d_normed, &mut upstream);
            scratch.give(d_normed);
        }
        [dq, dk, dv, normed].into_iter().for_each(|buffer| scratch.give(buffer));
        lows.into_iter().flatten().for_each(|buffer| scratch.give(buffer));
        upstream
    }
}
