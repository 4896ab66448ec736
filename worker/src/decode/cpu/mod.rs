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
mod pass;
mod product;
mod weights;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tch::{Device, Kind, Tensor};

use super::{Decoder, Piece, RowId, Slots};
use crate::adapters::LoraSet;
use crate::ffi::parallel::for_each_chunk;
use crate::ffi::view;
use crate::model::Transformer;
use cache::{CachedRow, Shape};
use pass::{Fed, Pass, Work};
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
    work: Work,
    /// `[most pieces so far, V]`
    all_logits: Tensor,
    /// The beginning of it.
    logits: Tensor,
}

impl<'a> CpuDecoder<'a> {
    /// Without rows. Computes on libtorch's threads; what it computes does not depend on their number.
    pub fn new(model: &'a Transformer, weights: &'a Weights, adapters: Option<&LoraSet>) -> Self {
        let config = &model.config;
        let shape = Shape {
            layers: config.layers,
            kv_heads: config.kv_heads as usize,
            queries: (config.heads / config.kv_heads) as usize,
            width: config.head_dim as usize,
        };
        CpuDecoder {
            model,
            weights,
            adapters: adapters.map(|set| AdapterWeights::new(set, config.layers)),
            rows: Slots(vec![]),
            shape,
            blocks: Arc::default(),
            work: Work::default(),
            all_logits: Tensor::new(),
            logits: Tensor::new(),
        }
    }

    /// Copies a row of logits for each piece.
    fn set_logits(&mut self, pieces: usize) {
        let outputs = self.weights.head.outputs();
        if self.all_logits.size()[0] < pieces as i64 {
            self.all_logits = Tensor::zeros([pieces as i64, outputs as i64], (Kind::Float, Device::Cpu));
        }
        let panels = &self.work.logits;
        for_each_chunk(&mut view::floats_mut(&mut self.all_logits)[..pieces * outputs], outputs, |piece, row| {
            panels.row(piece, 0, row);
        });
        self.logits = self.all_logits.narrow(0, 0, pieces as i64);
    }
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

    fn feed(&mut self, pieces: &[Piece]) -> &Tensor {
        let _guard = tch::no_grad_guard();
        let fed = Fed::new(pieces, &self.rows, &self.model.config);
        for piece in pieces {
            self.rows.get_mut(piece.row).reserve(piece.ids.len());
        }
        let Self { model, weights, adapters, rows, shape, work, .. } = self;
        Pass { model, weights, adapters: adapters.as_ref(), rows, shape: *shape, fed: &fed }.run(work);
        for piece in pieces {
            self.rows.get_mut(piece.row).length += piece.ids.len();
        }
        self.set_logits(pieces.len());
        &self.logits
    }

    /// What a layer makes of them stays in the processor's last cache, beside one panel.
    fn prompt_tokens(&self) -> usize {
        512
    }

    fn bytes(&self) -> usize {
        self.blocks.load(Ordering::Relaxed) * self.shape.bytes()
    }
}
