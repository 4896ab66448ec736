//! Sources to trajectories to Parquet; stages, answers, derivations and scores. Knows no tensors, and sockets only in
//! `teach`, `fetch` and `network`, behind the cargo feature of that name.

pub mod arithmetic;
mod blanks;
pub mod cli;
pub mod compose;
pub mod contamination;
pub mod evaluation;
#[cfg(feature = "network")]
pub mod fetch;
pub mod graph;
#[cfg(feature = "network")]
pub mod network;
mod nfc;
pub mod parquet;
pub mod plant;
pub mod prompt;
pub mod scores;
pub mod sources;
pub mod split;
pub mod stats;
pub mod synthesize;
#[cfg(feature = "network")]
pub mod teach;
pub mod tokenizer;
pub mod tokens;
pub mod trajectory;
pub mod words;
