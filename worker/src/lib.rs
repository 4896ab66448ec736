//! The data plane: model, adapters, exact sums, collectives and generation on libtorch.

pub mod adamw;
pub mod adapters;
pub mod bench;
pub mod builtin;
pub mod cli;
pub mod collectives;
mod cpu;
pub mod decode;
pub mod device;
pub mod evaluate;
pub mod export;
pub mod fetch;
pub mod ffi;
pub mod formats;
pub mod generate;
pub mod import;
pub mod kernels;
pub mod logits;
pub mod model;
pub mod plan;
pub mod pretrain;
pub mod quantization;
pub mod selftest;
pub mod step;
pub mod trainer;
