//! Keys and values in blocks of sixteen tokens, shared between rows until one of them writes.
//!
//! A row takes a block when it needs one and gives it back when it ends: memory is what the rows hold, rounded up to
//! sixteen tokens each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ffi::lanes::Lanes;

/// Tokens in a block.
pub(super) const TOKENS: usize = 16;

/// What a block holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) layers: usize,
    pub(super) kv_heads: usize,
    /// Query heads that share one of them.
    pub(super) queries: usize,
    /// Width of a head.
    pub(super) width: usize,
}

impl Shape {
    fn padded(self) -> usize {
        self.width.next_multiple_of(16)
    }

    /// Bytes of one block.
    pub(super) fn bytes(self) -> usize {
        2 * self.layers * self.kv_heads * self.padded() * size_of::<Lanes>()
    }
}

/// Keys and values of sixteen tokens in all layers.
#[derive(Clone)]
struct Block {
    /// `[layers, kv heads, width]` vectors of the tokens.
    keys: Vec<Lanes>,
    /// `[layers, kv heads, width / 16, tokens]` vectors of sixteen channels.
    values: Vec<Lanes>,
    _counted: Counted,
}

/// Counts the blocks that are alive.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count.clone())
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Counted::new(&self.0)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One row's keys and values.
pub(super) struct CachedRow {
    shape: Shape,
    pub(super) length: usize,
    blocks: Vec<Arc<Block>>,
    count: Arc<AtomicUsize>,
}

impl CachedRow {
    pub(super) fn new(shape: Shape, count: &Arc<AtomicUsize>) -> Self {
        CachedRow { shape, length: 0, blocks: vec![], count: count.clone() }
    }

    /// Width of a head.
    pub(super) fn width(&self) -> usize {
        self.shape.width
    }

    /// A row that shares the first `length` tokens.
    pub(super) fn fork(&self, length: usize) -> Self {
        let blocks = self.blocks[..length.div_ceil(TOKENS)].to_vec();
        CachedRow { shape: self.shape, length, blocks, count: self.count.clone() }
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
        self.blocks.truncate(self.length.div_ceil(TOKENS));
    }

    /// Makes room for `tokens` behind those that it holds.
    pub(super) fn reserve(&mut self, tokens: usize) {
        let size = self.shape.layers * self.shape.kv_heads * self.shape.padded();
        while self.blocks.len() * TOKENS < self.length + tokens {
            let zeros = || vec![Lanes::ZERO; size];
            let block = Block { keys: zeros(), values: zeros(), _counted: Counted::new(&self.count) };
            self.blocks.push(Arc::new(block));
        }
    }

    /// Writes a token's keys and values, `[kv heads, width]` each, into a block of its own.
    pub(super) fn write(&mut self, layer: usize, token: usize, keys: &[f32], values: &[f32]) {
        let (padded, width) = (self.shape.padded(), self.shape.width);
        let (block, lane) = (Arc::make_mut(&mut self.blocks[token / TOKENS]), token % TOKENS);
        let heads = keys.chunks_exact(width).zip(values.chunks_exact(width));
        for (head, (keys, values)) in (layer * self.shape.kv_heads..).zip(heads) {
            for (vector, key) in block.keys[head * padded..].iter_mut().zip(keys) {
                vector.0[lane] = *key;
            }
            for (part, values) in values.chunks(16).enumerate() {
                block.values[head * padded + part * TOKENS + lane].0[..values.len()].copy_from_slice(values);
            }
        }
    }

    /// A head's keys of the block: a vector of tokens for each channel.
    pub(super) fn keys(&self, block: usize, layer: usize, head: usize) -> &[Lanes] {
        let start = (layer * self.shape.kv_heads + head) * self.shape.padded();
        &self.blocks[block].keys[start..start + self.shape.padded()]
    }

    /// A head's values of the block, sixteen channels of them: a vector of channels for each token.
    pub(super) fn values(&self, block: usize, layer: usize, head: usize, part: usize) -> &[Lanes] {
        let start = (layer * self.shape.kv_heads + head) * self.shape.padded() + part * TOKENS;
        &self.blocks[block].values[start..start + TOKENS]
    }
}
