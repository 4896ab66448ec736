//! What happens to the coordinator: everything that can go wrong is one of these.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::record::Record;
use crate::statistics::Statistics;

/// A worker's stream, numbered by the shell; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection(pub u64);

/// A state that somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Committed step.
    pub step: u64,
    /// S_step.
    pub state: Digest,
}

/// A class of arithmetic: what a worker's kernels make of a fixed microbatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Of the gradients.
    pub digest: Digest,
    /// libtorch, processor, device, driver, threads: for people.
    pub words: String,
}

/// A microbatch is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Step.
    pub step: u64,
    /// Attempt.
    pub attempt: u32,
    /// Which one.
    pub microbatch: u32,
    /// Linear digest of its quantised gradient.
    pub digest: u64,
    /// Statistics and magnitudes.
    pub statistics: Statistics,
}

/// A row of the table that goes with a reduction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// Which microbatch.
    pub microbatch: u32,
    /// Whose sum holds it.
    pub worker: String,
    /// Its digest.
    pub digest: u64,
    /// Its statistics.
    pub statistics: Statistics,
    /// Who computed it a second time and found the same.
    pub second: Option<String>,
}

/// The step stands in a worker's shadow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Step.
    pub step: u64,
    /// Attempt.
    pub attempt: u32,
    /// Digest of the reduced sum.
    pub sum_digest: u64,
    /// S_t.
    pub state: Digest,
    /// l2 norm of the gradient, f64 bits.
    pub gradient_norm_bits: u64,
    /// Digest of its own sum before the reduction.
    pub own_digest: u64,
    /// The reduction's table.
    pub table: Vec<Owned>,
}

/// A worker presents itself and what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// Unique in the run.
    pub worker: String,
    /// Higher for each life and each fence of that worker.
    pub incarnation: u64,
    /// Where peers fetch state from.
    pub peer_address: String,
    /// The state it holds, if any.
    pub held: Option<Held>,
    /// Step it works on; 0 for none.
    pub step: u64,
    /// Attempt of that step.
    pub attempt: u32,
    /// Hash of that plan.
    pub plan: Option<Digest>,
    /// Microbatches in its sum.
    pub kept: Vec<Done>,
    /// What stands in its shadow.
    pub ready: Option<Ready>,
    /// Its class, once it is built.
    pub class: Option<Class>,
}

/// A group of one coordinator epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Coordinator epoch.
    pub epoch: u64,
    /// Counts groups within it.
    pub generation: u64,
}

/// What a connected worker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Here I am.
    Hello(Box<Hello>),
    /// It is built, and this is what its arithmetic makes of the fixed microbatch.
    Class(Class),
    /// A microbatch is computed.
    Done(Done),
    /// The all-reduce failed; the sum is kept.
    Broken(Group),
    /// The shadow holds the step.
    Ready(Ready),
    /// It holds this state now.
    Idle(Held),
    /// Its committed state, folded once more from memory.
    Rechecked(Held),
    /// A unit of evaluation is done (its result is the shell's).
    EvaluationDone(u64),
    /// It lives.
    Heartbeat,
    /// It leaves on purpose.
    Left(String),
    /// It cannot go on, and says why.
    Failed(String),
}

/// Everything that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A worker said something.
    Said(Connection, Report),
    /// A stream ended.
    Disconnected(Connection),
    /// A record is durable. Records become durable in the order of their [`crate::action::Action::Append`].
    Appended(Record),
    /// A checkpoint is complete on disk.
    CheckpointWritten {
        /// Of which step.
        step: u64,
        /// Hash of its manifest.
        manifest: Digest,
    },
    /// A checkpoint could not be written (the uploader died); it will be tried again at the next boundary.
    CheckpointLost {
        /// Of which step.
        step: u64,
    },
    /// The state that a worker sent for a checkpoint is not the committed one.
    CheckpointWrong {
        /// Of which step.
        step: u64,
        /// Who sent it.
        worker: String,
        /// What it folds to.
        state: Digest,
    },
    /// The shell has cut an evaluation into units.
    EvaluationPlanned {
        /// How many.
        units: u64,
    },
    /// The scores of the evaluation are written.
    EvaluationScored,
    /// Somebody wants the run to save and stop.
    Drain,
    /// Somebody wants this worker to leave at the next boundary.
    Dismiss(String),
    /// Time has passed.
    Tick,
}
