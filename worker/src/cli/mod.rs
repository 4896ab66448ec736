//! The commands of `worker`.

pub mod bench;
pub mod devices;
pub mod evaluate;
pub mod export;
pub mod fetch;
pub mod generate;
pub mod import;
pub mod join;
pub mod logits;
pub mod model;
pub mod plan;
pub mod pretrain;
pub mod selftest;
pub mod solve;

/// Something that the command line or a path can put right: exit 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);
