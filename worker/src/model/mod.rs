//! One implementation of Qwen2 and Llama: configuration, weights, packed forward.

pub mod batch;
pub mod config;
pub mod placement;
pub mod rotary;
pub mod shapes;
pub mod transformer;

pub use batch::{PackedBatch, Segment};
pub use config::ModelConfig;
pub use placement::Placement;
pub use transformer::{Adapters, FrozenWeight, Pass, ProjectionKind, Site, Transformer};
