//! The wire: messages and services of `polya.v1`, generated from `polya/v1/*.proto`. What they mean is said there and
//! in docs/architecture.md; this crate holds no behaviour.

mod state;
pub mod tls;

pub use state::{state_digest, state_digest_of_hashes};

/// Version of the protocol; coordinator and worker must agree.
pub const PROTOCOL_VERSION: u32 = 2;

/// A tensor without a known magnitude: it adds nothing to the sum.
pub const EXPONENT_UNKNOWN: i32 = i32::MIN;
/// Magnitude of a tensor whose gradient is zero everywhere.
pub const GRADIENT_ZERO: i32 = i32::MIN;
/// Magnitude of a tensor that holds a value that is not finite.
pub const GRADIENT_NOT_FINITE: i32 = i32::MAX;
/// Fixed-point unit of statistics: 2^-20.
pub const STATISTICS_UNIT: f64 = 1.0 / 1_048_576.0;

/// Exit codes of a worker, part of the contract with Kubernetes.
pub mod exit {
    /// The run is finished.
    pub const FINISHED: i32 = 0;
    /// Bad usage.
    pub const USAGE: i32 = 2;
    /// Left on purpose: signal, drain, dismissed.
    pub const LEFT: i32 = 75;
    /// Another class of processor.
    pub const OTHER_CLASS: i32 = 76;
    /// Refused for good: config, version.
    pub const REFUSED: i32 = 78;
}

/// Messages and services of version 1.
#[allow(missing_docs, clippy::all, reason = "generated code; the documentation stands in the .proto files")]
pub mod v1 {
    tonic::include_proto!("polya.v1");
}
