//! Sources to trajectories to Parquet; stages, answers, derivations and scores. Knows no tensors and no network.

pub mod arithmetic;
pub mod cli;
pub mod compose;
pub mod contamination;
pub mod evaluation;
pub mod graph;
pub mod parquet;
pub mod plant;
pub mod scores;
pub mod sources;
pub mod split;
pub mod stats;
pub mod synthesize;
pub mod tokenizer;
pub mod tokens;
pub mod trajectory;
pub mod words;
