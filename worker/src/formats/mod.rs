//! What the ecosystem reads and writes.

pub mod huggingface;
