//! A decoder for CPUs, without tensors between the embedding and the logits.
//!
//! A decode step multiplies a few rows by every weight, so it is bound by reading the weights, which libtorch would
//! read in fp32 and, for a few rows, far from the memory's speed. Here weights keep the sixteen or four bits they have
//! ([`panels`]), rows may be of any length without padding ([`cache`]), and no number of a row depends on the rows beside
//! it, on sharing or on the number of threads: what a prompt is answered is a function of the prompt, bit for bit.

mod activations;
mod attention;
mod cache;
mod panels;
mod weights;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tch::Tensor;

use super::{Decoder, Piece, RowId, Slots};
use crate::adapters::LoraSet;
use crate::cpu::vector;
use crate::ffi::lanes::multiply_add;
use crate::ffi::parallel::for_each_chunk;
use crate::model::rotary::Rotary;
use crate::model::{ProjectionKind, Site, Transformer};
use activations::Activations;
use cache::{CachedRow, Shape};
use panels::Panels;
use weights::AdapterWeights;

pub use weights::Weights;

/// Rows on a CPU.
pub struct CpuDecoder<'a> {
    model: &'a Transformer,
    weights: &'a Weights,
    adapters: Option<AdapterWeights>,
    rows: Slots<CachedRow>,
    shape: Shape,
    /// Blocks of the cache that are alive.
    blocks: Arc<AtomicUsize>,
}

impl<'a> CpuDecoder<'a> {
    /// Without rows. Computes on libtorch's threads; what it computes does not depend on their number.
    pub fn new(model: &'a Transformer, weights: &'a Weights, adapters: Option<&LoraSet>) -> Self {
        let config = &model.config;
        let shape =
            Shape { layers: config.layers, kv_heads: config.kv_heads as usize, width: config.head_dim as usize };
        CpuDecoder {
            model,
            weights,
            adapters: adapters.map(|set| AdapterWeights::new(set, config.layers)),
            rows: Slots(vec![]),
            shape,
            blocks: Arc::default(),
        }
    }

    /// One projection with its adapters. `verify`: 1 or 0 a token.
    fn project(&self, layer: usize, kind: ProjectionKind, x: &Activations, verify: &[f32]) -> Activations {
        let (weight, bias) = &self.weights.layers[layer].projections[kind as usize];
        let adapters = self.adapters.as_ref().and_then(|adapters| adapters.at(Site { layer, kind }));
        let low = adapters.map(|adapters| {
            let (down, up) = adapters.panels();
            let verifies = verify.iter().any(|m| *m > 0.0);
            let parts = adapters.parts[0] + if verifies { adapters.parts[1] } else { 0 };
            let mut low = Activations::zeros(16 * parts, x.tokens);
            multiply(down, x, None, &mut low);
            for (part, vectors) in low.values.chunks_exact_mut(x.tokens).enumerate() {
                for (vector, m) in vectors.iter_mut().zip(verify) {
                    let factor = adapters.scale * if part < adapters.parts[0] { 1.0 } else { *m };
                    vector.0.iter_mut().for_each(|value| *value *= factor);
                }
            }
            (low, up)
        });
        let mut y = Activations::zeros(weight.outputs(), x.tokens);
        if let Some(bias) = bias {
            for (panel, bias) in y.values.chunks_exact_mut(x.tokens).zip(bias) {
                panel.fill(*bias);
            }
        }
        multiply(weight, x, low.as_ref().map(|(low, up)| (low, *up)), &mut y);
        y
    }

    /// Writes keys and values of new tokens and attends from them. `q`, `k`, `v` as projected.
    fn attend(
        &mut self,
        layer: usize,
        fed: &Fed,
        (q, k, v): (&Activations, &Activations, &Activations),
    ) -> Activations {
        let (kv_heads, width) = (self.shape.kv_heads, self.shape.width);
        let mut keys = vec![0f32; kv_heads * width];
        let mut values = keys.clone();
        for (token, (row, place)) in fed.places.iter().enumerate() {
            k.row(token, &mut keys);
            v.row(token, &mut values);
            let (cos, sin) = fed.angles(token, width);
            vector::rotate(&mut keys, kv_heads * width, cos, sin, width / 2, 1.0);
            self.rows.get_mut(*row).write(layer, *place, &keys, &values);
        }
        let channels = self.model.config.heads as usize * width;
        let scale = (width as f32).powf(-0.5);
        let (rows, mut attended) = (&self.rows, vec![0f32; q.tokens * channels]);
        for_each_chunk(&mut attended, channels, |token, out| {
            let mut queries = vec![0f32; channels];
            q.row(token, &mut queries);
            let (cos, sin) = fed.angles(token, width);
            vector::rotate(&mut queries, channels, cos, sin, width / 2, 1.0);
            queries.iter_mut().for_each(|x| *x *= scale);
            let (row, place) = fed.places[token];
            attention::attend(rows.get(row), layer, kv_heads, place + 1, &queries, out);
        });
        Activations::of_rows(&attended, channels)
    }

    fn layer(&mut self, layer: usize, x: &mut Activations, fed: &Fed) {
        let (width, epsilon) = (self.model.config.hidden as usize, self.model.config.norm_epsilon);
        let weights = &self.weights.layers[layer];
        let normed = x.rms_norm(&weights.attention_norm, width, epsilon);
        let [q, k, v] = [ProjectionKind::Query, ProjectionKind::Key, ProjectionKind::Value]
            .map(|kind| self.project(layer, kind, &normed, &fed.verify));
        let attended = self.attend(layer, fed, (&q, &k, &v));
        x.add(&self.project(layer, ProjectionKind::Output, &attended, &fed.verify));
        let normed = x.rms_norm(&weights.mlp_norm, width, epsilon);
        let mut gate = self.project(layer, ProjectionKind::Gate, &normed, &fed.verify);
        gate.gate(&self.project(layer, ProjectionKind::Up, &normed, &fed.verify));
        x.add(&self.project(layer, ProjectionKind::Down, &gate, &fed.verify));
    }
}

/// `y += W x (+ B low)`, each thread some of the panels.
fn multiply(weight: &Panels, x: &Activations, low: Option<(&Activations, &Panels)>, y: &mut Activations) {
    let tokens = x.tokens;
    for_each_chunk(&mut y.values, tokens, |panel, y| {
        multiply_add(&x.values, tokens, weight.panel(panel), y);
        if let Some((low, up)) = low {
            multiply_add(&low.values, tokens, up.panel(panel).first(low.values.len() / tokens * 16), y);
        }
    });
}

impl Decoder for CpuDecoder<'_> {
    fn open(&mut self) -> RowId {
        self.rows.insert(CachedRow::new(self.shape, &self.blocks))
    }

    fn fork(&mut self, row: RowId, length: usize) -> RowId {
        let forked = self.rows.get(row).fork(length);
        self.rows.insert(forked)
    }

    fn length(&self, row: RowId) -> usize {
        self.rows.get(row).length
    }

    fn truncate(&mut self, row: RowId, length: usize) {
        self.rows.get_mut(row).truncate(length);
    }

    fn close(&mut self, row: RowId) {
        self.rows.remove(row);
    }

    fn feed(&mut self, pieces: &[Piece]) -> Tensor {
        let _guard = tch::no_grad_guard();
        let (model, config) = (self.model, &self.model.config);
        let fed = Fed::new(pieces, &self.rows, model);
        for piece in pieces {
            self.rows.get_mut(piece.row).reserve(piece.ids.len());
        }
        let embedded = crate::quantization::floats(&model.embed(&Tensor::from_slice(&fed.ids)));
        let mut x = Activations::of_rows(&embedded, config.hidden as usize);
        for layer in 0..config.layers {
            self.layer(layer, &mut x, &fed);
        }
        for piece in pieces {
            self.rows.get_mut(piece.row).length += piece.ids.len();
        }
        let last = x.select(&fed.last).rms_norm(&self.weights.norm, config.hidden as usize, config.norm_epsilon);
        let head = &self.weights.head;
        let mut logits = Activations::zeros(head.outputs(), last.tokens);
        multiply(head, &last, None, &mut logits);
        let mut rows = vec![0f32; last.tokens * head.outputs()];
        for (token, row) in rows.chunks_exact_mut(head.outputs()).enumerate() {
            logits.row(token, row);
        }
        Tensor::from_slice(&rows).view([last.tokens as i64, head.outputs() as i64])
    }

    /// What a layer makes of them stays in the processor's last cache, beside one panel.
    fn prompt_tokens(&self) -> usize {
        512
    }

    fn bytes(&self) -> usize {
        self.blocks.load(Ordering::Relaxed) * self.shape.bytes()
    }
}

/// What is fed, one token after the other.
struct Fed {
    ids: Vec<i64>,
    /// Row, and place in it.
    places: Vec<(RowId, usize)>,
    verify: Vec<f32>,
    /// The last token of each piece.
    last: Vec<usize>,
    /// `[tokens, width]`, whose second half repeats the first.
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Fed {
    fn new(pieces: &[Piece], rows: &Slots<CachedRow>, model: &Transformer) -> Self {
        let (mut ids, mut places, mut verify, mut last) = (vec![], vec![], vec![], vec![]);
        for piece in pieces {
            let held = rows.get(piece.row).length;
            for (index, id) in piece.ids.iter().enumerate() {
                ids.push(i64::from(*id));
                places.push((piece.row, held + index));
                verify.push(f32::from(u8::from(index >= piece.verify_from)));
            }
            last.push(ids.len() - 1);
        }
        let positions: Vec<i64> = places.iter().map(|(_, place)| *place as i64).collect();
        let (cos, sin) = Rotary::new(&model.config, &positions, tch::Device::Cpu).angles();
        Fed { ids, places, verify, last, cos, sin }
    }

    fn angles(&self, token: usize, width: usize) -> (&[f32], &[f32]) {
        let of = token * width..(token + 1) * width;
        (&self.cos[of.clone()], &self.sin[of])
    }
}
