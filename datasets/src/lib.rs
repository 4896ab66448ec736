//! Sources to trajectories to Parquet; stages, answers, derivations and scores. Knows no tensors and no network.

pub mod calculation;
pub mod synthesize;
pub mod tokenizer;
pub mod tokens;
pub mod trajectory;
