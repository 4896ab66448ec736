//! One microbatch on a CPU: forward, loss and backward, or the loss alone.

use polya_proto::v1::MicrobatchStatistics;

use super::attention::{Heads, blocks};
use super::head;
use super::layer::{Kept, Pack};
use super::operand::Frozen;
use super::projection::Adapted;
use super::scratch::Scratch;
use super::vector;
use crate::adapters::LoraSet;
use crate::adapters::dropout::Dropout;
use crate::ffi::view;
use crate::model::Transformer;
use crate::model::rotary::Rotary;
use crate::step::batch::{Prepared, Weighing};
use crate::step::loss::Loss;
use crate::step::microbatch::Gradient;

/// A layer's input, and the rest of what its backward pass needs unless it is computed again.
struct Passed {
    input: Vec<f32>,
    kept: Option<Kept>,
}

/// The gradient of a microbatch. The first `recomputed` layers keep only their inputs.
pub(crate) fn gradient(
    model: &Transformer,
    set: &LoraSet,
    prepared: &Prepared,
    (loss, weighing): (&Loss, Weighing),
    dropout: &Dropout,
    recomputed: usize,
) -> Gradient {
    let mut scratch = Scratch::default();
    let pack = pack(model, set, prepared, dropout, true);
    let mut passed = Vec::with_capacity(model.layers.len());
    let mut x = embed(model, prepared);
    for layer in 0..model.layers.len() {
        let (y, kept) = pack.forward(layer, &x, &mut scratch);
        let kept = if layer < recomputed {
            kept.release(&mut scratch);
            None
        } else {
            Some(kept)
        };
        passed.push(Passed { input: std::mem::replace(&mut x, y), kept });
    }
    let (mut upstream, loss, statistics) = through_the_head(model, &x, prepared, (loss, weighing), &mut scratch);
    let mut values = vec![0f32; set.layout.parameters()];
    while let Some(Passed { input, kept }) = passed.pop() {
        let layer = passed.len();
        let kept = kept.unwrap_or_else(|| {
            let (y, kept) = pack.forward(layer, &input, &mut scratch);
            scratch.give(y);
            kept
        });
        upstream = pack.backward(layer, &input, kept, upstream, &mut values, &mut scratch);
        scratch.give(input);
    }
    Gradient { values, loss, statistics }
}

/// Statistics of a pack with adapters on or off; nothing is dropped.
pub(crate) fn evaluate(
    model: &Transformer,
    set: &LoraSet,
    prepared: &Prepared,
    (loss, weighing): (&Loss, Weighing),
    adapters: bool,
) -> MicrobatchStatistics {
    let mut scratch = Scratch::default();
    let dropout = Dropout { probability: 0.0, keys: prepared.keys.clone() };
    let pack = pack(model, set, prepared, &dropout, adapters);
    let mut x = embed(model, prepared);
    for layer in 0..model.layers.len() {
        let (y, kept) = pack.forward(layer, &x, &mut scratch);
        kept.release(&mut scratch);
        scratch.give(std::mem::replace(&mut x, y));
    }
    let mut hidden = vec![0.0; x.len()];
    vector::norm(&x, view::floats(&model.norm), model.config.norm_epsilon, &mut hidden);
    head::evaluate(loss, model, &hidden, prepared, weighing, None, &mut scratch).1
}

fn pack<'a>(
    model: &'a Transformer,
    set: &'a LoraSet,
    prepared: &Prepared,
    dropout: &'a Dropout,
    adapters: bool,
) -> Pack<'a> {
    let config = &model.config;
    let rotary = Rotary::new(config, &prepared.batch.positions, tch::Device::Cpu);
    let width = config.head_dim as usize;
    let halves = |tensor| view::floats(tensor).chunks_exact(width).flat_map(|row| row[..width / 2].to_vec()).collect();
    let all: Vec<u32> = (0..prepared.batch.tokens() as u32).collect();
    let verified = all.iter().copied().filter(|row| prepared.verify[*row as usize] > 0.0).collect();
    let rows = if adapters { [all, verified] } else { [vec![], vec![]] };
    Pack {
        adapted: Adapted { model, set, dropout, rows },
        heads: Heads { queries: config.heads as usize, keys: config.kv_heads as usize, width },
        blocks: blocks(&prepared.batch.segments),
        cos: halves(&rotary.cos),
        sin: halves(&rotary.sin),
    }
}

fn embed(model: &Transformer, prepared: &Prepared) -> Vec<f32> {
    let width = model.config.hidden as usize;
    let table = Frozen::of_tensor(&model.embedding);
    let ids = view::integers(&prepared.batch.ids);
    let mut x = vec![0f32; ids.len() * width];
    for (id, row) in ids.iter().zip(x.chunks_exact_mut(width)) {
        table.expand(*id as usize * width, row);
    }
    x
}

/// The loss, and its gradient in what comes out of the last layer.
fn through_the_head(
    model: &Transformer,
    x: &[f32],
    prepared: &Prepared,
    (loss, weighing): (&Loss, Weighing),
    scratch: &mut Scratch,
) -> (Vec<f32>, f64, MicrobatchStatistics) {
    let (weight, epsilon) = (view::floats(&model.norm), model.config.norm_epsilon);
    let mut hidden = scratch.take(x.len());
    vector::norm(x, weight, epsilon, &mut hidden);
    let mut d_hidden = scratch.zeros(x.len());
    let (total, statistics) = head::evaluate(loss, model, &hidden, prepared, weighing, Some(&mut d_hidden), scratch);
    let mut upstream = scratch.zeros(x.len());
    vector::norm_backward(x, weight, epsilon, &d_hidden, &mut upstream);
    scratch.give(hidden);
    scratch.give(d_hidden);
    (upstream, total, statistics)
}
