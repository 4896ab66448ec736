//! The commands of `worker`.

pub mod bench;
pub mod generate;
pub mod import;
pub mod join;
pub mod pretrain;
pub mod solve;
