//! What the ecosystem reads and writes.

pub mod adapter_folder;
mod bitsandbytes;
pub mod gguf_writer;
pub mod huggingface;
pub mod peft;
pub mod safetensors;
