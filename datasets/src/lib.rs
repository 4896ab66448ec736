//! Sources to trajectories to Parquet; stages, answers, derivations and scores. Knows no tensors and no network.

pub mod trajectory;
