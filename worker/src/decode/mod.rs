//! Decoding: what a model says next behind rows of tokens whose keys and values it keeps.
//!
//! One trait, so that who schedules rows ([`crate::generate`]) knows no memory layout. [`cpu`] serves CPUs; [`tensors`]
//! serves every device of libtorch and is what the other is compared with.

pub mod cpu;
pub mod tensors;

use tch::Tensor;

use crate::adapters::LoraSet;
use crate::model::{Placement, Transformer};

/// A row that a decoder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowId(usize);

/// Tokens that are fed behind what a row holds.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Which row; at most one piece of it is fed at a time.
    pub row: RowId,
    /// At least one token.
    pub ids: &'a [u32],
    /// The verification adapter is on from this token of the piece on; `ids.len()`: nowhere.
    pub verify_from: usize,
}

/// Rows of cached keys and values behind a model with its adapters.
pub trait Decoder {
    /// A new, empty row.
    fn open(&mut self) -> RowId;
    /// A new row that begins with the first `length` tokens of another.
    fn fork(&mut self, row: RowId, length: usize) -> RowId;
    /// Tokens that a row holds.
    fn length(&self, row: RowId) -> usize;
    /// Makes a row forget all but its first `length` tokens.
    fn truncate(&mut self, row: RowId, length: usize);
    /// Gives a row's memory back.
    fn close(&mut self, row: RowId);
    /// Feeds pieces. Gives the logits behind the last token of each, `[pieces, V]` fp32, in memory that is used again.
    fn feed(&mut self, pieces: &[Piece]) -> &Tensor;
    /// Tokens of prompts that are best read in one pass: more of them keep it busier, and take more memory.
    fn prompt_tokens(&self) -> usize;
    /// Bytes that keys and values take now.
    fn bytes(&self) -> usize;
}

/// What the decoders of one model share: made once, before the first of them.
pub struct Prepared(Option<cpu::Weights>);

/// Prepares a model for decoding on the device that it is on.
pub fn prepare(model: &Transformer) -> Prepared {
    Prepared((model.placement() == Placement::CPU).then(|| cpu::Weights::new(model)))
}

impl Prepared {
    /// A decoder without rows.
    pub fn decoder<'a>(&'a self, model: &'a Transformer, adapters: Option<&'a LoraSet>) -> Box<dyn Decoder + 'a> {
        match &self.0 {
            Some(weights) => Box::new(cpu::CpuDecoder::new(model, weights, adapters)),
            None => Box::new(tensors::TensorDecoder::new(model, adapters)),
        }
    }

    /// Bytes that it takes beside the model.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, cpu::Weights::bytes)
    }
}

/// Rows by number, the lowest free one first.
#[derive(Debug)]
struct Slots<T>(Vec<Option<T>>);

impl<T> Slots<T> {
    fn insert(&mut self, value: T) -> RowId {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if free == self.0.len() {
            self.0.push(None);
        }
        self.0[free] = Some(value);
        RowId(free)
    }

    fn get(&self, row: RowId) -> &T {
        self.0[row.0].as_ref().expect("a row is used between open and close only")
    }

    fn get_mut(&mut self, row: RowId) -> &mut T {
        self.0[row.0].as_mut().expect("a row is used between open and close only")
    }

    fn remove(&mut self, row: RowId) {
        self.0[row.0] = None;
    }
}
