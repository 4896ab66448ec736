//! What a run writes beside its state: progress, statistics, TensorBoard, the log.

pub mod log;
pub mod progress;
pub mod statistics;
pub mod tensorboard;
