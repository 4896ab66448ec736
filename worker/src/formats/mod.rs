//! What the ecosystem reads and writes.

pub mod huggingface;
pub mod peft;
