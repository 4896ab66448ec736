//! Buffers that are used again: the layers of a model ask for the same sizes over and over, and fresh memory costs a
//! page fault every 4 KiB.

use std::collections::BTreeMap;

/// Buffers by length.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    free: BTreeMap<usize, Vec<Vec<f32>>>,
}

impl Scratch {
    /// A buffer of this length with whatever was in it.
    pub(crate) fn take(&mut self, length: usize) -> Vec<f32> {
        self.free.get_mut(&length).and_then(Vec::pop).unwrap_or_else(|| vec![0.0; length])
    }

    /// A buffer of zeros.
    pub(crate) fn zeros(&mut self, length: usize) -> Vec<f32> {
        let mut buffer = self.take(length);
        buffer.fill(0.0);
        buffer
    }

    /// Gives a buffer back.
    pub(crate) fn give(&mut self, buffer: Vec<f32>) {
        self.free.entry(buffer.len()).or_default().push(buffer);
    }
}
