//! What the coordinator does: the shell executes these, in order, and decides nothing.

use crate::digest::Digest;
use crate::event::{Connection, Group, Owned};
use crate::plan::Plan;
use crate::record::Record;

/// What an evaluation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Scores of the bare base, once a run.
    Base,
    /// Loss on the holdout, to find the best checkpoint.
    Holdout,
    /// Scores on the way.
    Interval,
    /// Scores at the end.
    Final,
}

/// A message to one worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Accepted.
    Welcome,
    /// Refused for good, with the exit code it shall use.
    Refuse {
        /// Why.
        reason: String,
        /// Exit code of the worker.
        exit_code: i32,
    },
    /// Make (step 0) or load the state of a checkpoint.
    Load {
        /// Which step.
        step: u64,
        /// Its digest, once known.
        state: Option<Digest>,
    },
    /// Copy a state from a peer.
    Fetch {
        /// Which step.
        step: u64,
        /// Its digest.
        state: Digest,
        /// The peer.
        peer_address: String,
    },
    /// Work on this step.
    Plan {
        /// The plan.
        plan: Plan,
        /// The result is compared with the journal.
        replay: bool,
    },
    /// Compute this microbatch; the shell adds its samples.
    Lease {
        /// Step.
        step: u64,
        /// Attempt.
        attempt: u32,
        /// Microbatch.
        microbatch: u32,
    },
    /// Add it to the sum.
    Keep {
        /// Step.
        step: u64,
        /// Attempt.
        attempt: u32,
        /// Microbatch.
        microbatch: u32,
    },
    /// Throw it away.
    Drop {
        /// Step.
        step: u64,
        /// Attempt.
        attempt: u32,
        /// Microbatch.
        microbatch: u32,
    },
    /// All-reduce.
    Reduce {
        /// In this group.
        group: Group,
        /// Step.
        step: u64,
        /// Attempt.
        attempt: u32,
        /// Place in the group.
        rank: u32,
        /// Size of the group.
        world_size: u32,
        /// Who holds what.
        table: Vec<Owned>,
    },
    /// Stop waiting in this group.
    Abort(Group),
    /// The step is durable.
    Commit {
        /// Step.
        step: u64,
        /// S_t.
        state: Digest,
    },
    /// Upload the state of this step.
    Save {
        /// Step.
        step: u64,
    },
    /// Compute a unit of evaluation; the shell adds its content.
    Evaluate {
        /// Unit.
        unit: u64,
    },
    /// Go.
    Leave {
        /// Why.
        reason: String,
        /// Exit code of the worker.
        exit_code: i32,
    },
    /// Fold the committed state once more.
    Recheck,
    /// Clear the sum, come again with a new incarnation.
    Fence {
        /// Why.
        reason: String,
        /// The new one must be higher than this.
        incarnation: u64,
    },
}

/// How a run ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// All steps are committed and scored.
    Finished,
    /// Saved, to be resumed.
    Drained,
    /// Stopped with the culprit named.
    Stopped(String),
}

/// An effect.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Tell a worker.
    Send(Connection, Order),
    /// End a stream: a newer one of the same worker is here.
    Close(Connection, String),
    /// End a stream whose worker hangs; a local process behind it is killed, which brings a replacement.
    Kill(Connection, String),
    /// Start one more worker, where workers can be started here: somebody must decide between two.
    Recruit,
    /// Write a record, make it durable, then report [`crate::event::Event::Appended`] (R3).
    Append(Record),
    /// Cut an evaluation into units and report [`crate::event::Event::EvaluationPlanned`].
    PlanEvaluation {
        /// What for.
        purpose: Purpose,
        /// On the state of which step.
        step: u64,
    },
    /// All units are there: score them and report [`crate::event::Event::EvaluationScored`].
    ScoreEvaluation,
    /// The evaluation was given up; its units are void.
    DropEvaluation,
    /// A worker is lost; say so.
    Note(String),
    /// The run is over.
    End(End),
}
