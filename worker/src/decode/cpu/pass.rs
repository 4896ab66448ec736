//! One pass: tokens of several rows through all layers, as loops over panels and rows that all threads share.

use super::activations::{Activations, Inputs, Norm};
use super::attention;
use super::cache::{CachedRow, Shape};
use super::product::{self, Product};
use super::weights::{AdapterWeights, Weights};
use crate::cpu::vector;
use crate::decode::{Piece, RowId, Slots};
use crate::ffi::lanes::Lanes;
use crate::ffi::parallel::for_each_chunk;
use crate::model::rotary::Rotary;
use crate::model::{ModelConfig, ProjectionKind, Site, Transformer};
use crate::quantization::floats;

/// A pass under way.
pub(super) struct Pass<'a> {
    pub(super) model: &'a Transformer,
    pub(super) weights: &'a Weights,
    pub(super) adapters: Option<&'a AdapterWeights>,
    pub(super) rows: &'a mut Slots<CachedRow>,
    pub(super) shape: Shape,
    pub(super) fed: &'a Fed,
}

/// What a pass writes, kept for the next one: fresh memory would be mapped page by page.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Between the layers.
    x: Activations,
    /// Of the next products.
    inputs: Inputs,
    low: [Inputs; 3],
    low_room: Activations,
    qkv: Activations,
    /// `[kv heads, tokens, channels of the queries that share one]`
    attended: Vec<f32>,
    hidden: Activations,
    /// Behind the last token of each piece.
    pub(super) logits: Activations,
}

impl<'a> Pass<'a> {
    /// Ends with the logits.
    pub(super) fn run(mut self, work: &mut Work) {
        let embedded = floats(&self.model.embed(&tch::Tensor::from_slice(&self.fed.ids)));
        work.x.set_rows(&embedded, self.model.config.hidden as usize);
        for layer in 0..self.model.config.layers {
            self.attend(layer, work);
            self.feed_forward(layer, work);
        }
        self.norm(&self.weights.norm, &self.fed.last, work);
        product::side_by_side(&[Product::of(&self.weights.head)], &work.inputs, &mut work.logits);
    }

    fn attend(&mut self, layer: usize, work: &mut Work) {
        let kinds = [ProjectionKind::Query, ProjectionKind::Key, ProjectionKind::Value];
        self.norm(&self.weights.layers[layer].attention_norm, &self.fed.all, work);
        let products = self.products(layer, kinds, &work.inputs, &mut work.low, &mut work.low_room);
        product::side_by_side(&products, &work.inputs, &mut work.qkv);
        self.write(layer, &work.qkv);
        self.read(layer, &work.qkv, &mut work.attended);
        let channels = self.shape.queries * self.shape.width;
        work.inputs.set_heads(&work.attended, channels, self.fed.ids.len());
        self.add(layer, ProjectionKind::Output, work);
    }

    fn feed_forward(&mut self, layer: usize, work: &mut Work) {
        let kinds = [ProjectionKind::Gate, ProjectionKind::Up];
        self.norm(&self.weights.layers[layer].mlp_norm, &self.fed.all, work);
        let [gate, up] = self.products(layer, kinds, &work.inputs, &mut work.low, &mut work.low_room);
        product::gated(&gate, &up, &work.inputs, &mut work.hidden);
        work.inputs.take(&mut work.hidden);
        self.add(layer, ProjectionKind::Down, work);
    }

    fn norm(&self, weight: &[Lanes], tokens: &[usize], work: &mut Work) {
        let config = &self.model.config;
        let norm = Norm { weight, width: config.hidden as usize, epsilon: config.norm_epsilon };
        work.inputs.set_norm(&work.x, tokens, &norm);
    }

    fn add(&self, layer: usize, kind: ProjectionKind, work: &mut Work) {
        let [product] = self.products(layer, [kind], &work.inputs, &mut work.low, &mut work.low_room);
        product::add(&product, &work.inputs, &mut work.x);
    }

    /// Projections of the same inputs, with the low-rank part of their adapters.
    fn products<'b, const N: usize>(
        &self,
        layer: usize,
        kinds: [ProjectionKind; N],
        inputs: &Inputs,
        low: &'b mut [Inputs],
        room: &mut Activations,
    ) -> [Product<'b>; N]
    where
        'a: 'b,
    {
        let verifies = self.fed.verify.iter().any(|m| *m > 0.0);
        let mut low = low.iter_mut();
        kinds.map(|kind| {
            let (weight, bias) = &self.weights.layers[layer].projections[kind as usize];
            let adapters = self.adapters.and_then(|adapters| adapters.at(Site { layer, kind }));
            let low = adapters.zip(low.next()).map(|(adapters, low)| {
                let (down, up) = adapters.panels();
                let parts = adapters.parts[0] + if verifies { adapters.parts[1] } else { 0 };
                let on = |part, token: usize| if part < adapters.parts[0] { 1.0 } else { self.fed.verify[token] };
                product::low(down, parts, |part, token| adapters.scale * on(part, token), inputs, room, low);
                (&*low, up)
            });
            Product { weight, bias: bias.as_deref(), low }
        })
    }

    /// Writes keys and values of the new tokens.
    fn write(&mut self, layer: usize, qkv: &Activations) {
        let Shape { kv_heads, width, queries, .. } = self.shape;
        let fed = self.fed;
        let padded = |channels: usize| channels.next_multiple_of(16);
        let key = padded(kv_heads * queries * width);
        for_each_chunk(&mut self.rows.0, 1, |slot, row| {
            let (Some((first, count)), [Some(row)]) = (fed.pieces[slot], row) else { return };
            let (mut keys, mut values) = (vec![0f32; kv_heads * width], vec![0f32; kv_heads * width]);
            for token in first..first + count {
                qkv.row(token, key, &mut keys);
                qkv.row(token, key + padded(kv_heads * width), &mut values);
                fed.turn(token, width, &mut keys);
                row.write(layer, fed.places[token].1, &keys, &values);
            }
        });
    }

    /// Attends from the new tokens.
    fn read(&self, layer: usize, qkv: &Activations, attended: &mut Vec<f32>) {
        let Shape { kv_heads, width, queries, .. } = self.shape;
        let (fed, rows, channels) = (self.fed, &*self.rows, queries * width);
        let scale = (width as f32).powf(-0.5);
        let tokens = fed.ids.len();
        attended.resize(kv_heads * tokens * channels, 0.0);
        for_each_chunk(attended, channels, |index, out| {
            let (head, token) = (index / tokens, index % tokens);
            let mut queries = vec![0f32; channels];
            qkv.row(token, head * channels, &mut queries);
            fed.turn(token, width, &mut queries);
            queries.iter_mut().for_each(|x| *x *= scale);
            let (row, place) = fed.places[token];
            attention::attend(rows.get(row), (layer, head), place + 1, &queries, out);
        });
    }
}

/// What is fed, one token after the other.
pub(super) struct Fed {
    ids: Vec<i64>,
    /// Row, and place in it.
    places: Vec<(RowId, usize)>,
    verify: Vec<f32>,
    /// Every token.
    all: Vec<usize>,
    /// The last token of each piece.
    last: Vec<usize>,
    /// First token and tokens of the piece of a row.
    pieces: Vec<Option<(usize, usize)>>,
    /// `[tokens, width]`, whose second half repeats the first.
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Fed {
    pub(super) fn new(fed: &[Piece], rows: &Slots<CachedRow>, config: &ModelConfig) -> Self {
        let (mut ids, mut places, mut verify, mut last) = (vec![], vec![], vec![], vec![]);
        let mut pieces = vec![None; rows.0.len()];
        for piece in fed {
            pieces[piece.row.0] = Some((ids.len(), piece.ids.len()));
            let held = rows.get(piece.row).length;
            for (index, id) in piece.ids.iter().enumerate() {
                ids.push(i64::from(*id));
                places.push((piece.row, held + index));
                verify.push(f32::from(u8::from(index >= piece.verify_from)));
            }
            last.push(ids.len() - 1);
        }
        let positions: Vec<i64> = places.iter().map(|(_, place)| *place as i64).collect();
        let (cos, sin) = Rotary::new(config, &positions, tch::Device::Cpu).angles();
        Fed { all: (0..ids.len()).collect(), ids, places, verify, last, pieces, cos, sin }
    }

    /// Turns heads by the token's position.
    fn turn(&self, token: usize, width: usize, heads: &mut [f32]) {
        let of = token * width..(token + 1) * width;
        vector::rotate(heads, heads.len(), &self.cos[of.clone()], &self.sin[of], width / 2, 1.0);
    }
}
