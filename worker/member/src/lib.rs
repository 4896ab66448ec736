//! A member of the fleet: joins a run, obeys the protocol, drives a [`trainer::Trainer`]. Knows no tensors and no run
//! directory.
//!
//! Three parts: `machine` decides (pure), `session` is the network half (one task), `job` the trainer's own thread.
//! A worker that loses its coordinator parks: it keeps model, sum and READY, and presents them when it is back.

use std::future::Future;
use std::time::Duration;

mod connect;
pub mod integer_fold;
mod job;
mod link;
mod machine;
mod peer;
mod rendezvous;
mod session;
pub mod trainer;
mod transfer;

use trainer::TrainerFactory;

/// What a worker needs to know to join.
#[derive(Clone)]
pub struct MemberOptions {
    /// `host:port`.
    pub coordinator: String,
    /// The join token, if the run has one.
    pub token: Option<String>,
    /// The fleet's certificates, if it has some.
    pub tls: Option<polya_proto::tls::Credentials>,
    /// Unique in the run.
    pub worker: String,
    /// Higher for each life of the same worker.
    pub incarnation: u64,
    /// Where others reach this machine; by default its address on the way to the coordinator.
    pub host: Option<String>,
    /// How long to live without a coordinator; by default what the coordinator says, 10 minutes until it does.
    pub park_limit: Option<Duration>,
    /// libtorch and processor, for the class at the door.
    pub software: String,
    /// `cuda` or `cpu`: what this worker could compute on.
    pub device: String,
}

/// How a worker's life ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Part of the contract: see [`polya_proto::exit`]; anything else is a crash.
    pub exit_code: i32,
    /// Why, for people.
    pub reason: String,
}

/// Joins the run and works until it is finished, this worker is told to go, or `shutdown` gives a reason to.
///
/// The trainer is built once, on its own thread, when the coordinator has said what the run is. That thread may still be
/// at work when this returns: the process is to be ended, not to wait for it.
pub async fn run_member(
    options: MemberOptions,
    factory: Box<dyn TrainerFactory>,
    shutdown: impl Future<Output = String>,
) -> Outcome {
    match session::Session::new(options, factory) {
        Ok(session) => session.run(shutdown).await,
        Err(reason) => Outcome { exit_code: polya_proto::exit::USAGE, reason },
    }
}
