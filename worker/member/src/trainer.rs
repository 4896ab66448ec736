//! What a member of the fleet asks of the tensors. The state machine of this crate drives a [`Trainer`]; the worker
//! implements it on libtorch, a simulation on integers.

use polya_proto::v1::{
    Class, Continuation, Done, GenerateWork, Group, HoldoutWork, Lease, MicrobatchStatistics, Plan, Settings,
};

/// S_t: the fold of adapters and moments after a step.
pub type StateDigest = [u8; 32];

/// Why the trainer could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// The base, the settings or the device do not work here; nothing else will help.
    #[error("{0}")]
    Refused(String),
    /// The all-reduce failed: the staging copy is gone, the sum is kept.
    #[error("all-reduce in group {group:?}: {reason}")]
    Broken {
        /// Which group.
        group: Group,
        /// What the collective said.
        reason: String,
    },
    /// A state did not have the digest it should.
    #[error("state of step {step} has digest {actual}, not {expected}")]
    WrongState {
        /// Which step.
        step: u64,
        /// What was found, in hex.
        actual: String,
        /// What the journal says, in hex.
        expected: String,
    },
    /// Anything else ends the process.
    #[error("{0}")]
    Fatal(String),
}

/// Files of a state, in order: `reasoning/adapter_config.json`, `reasoning/adapter_model.safetensors`,
/// `verification/…` (where there is one), `optimizer.safetensors`.
pub type StateFiles = Vec<(String, Vec<u8>)>;

/// Rendezvous of one group, as `c10d::Store` wants it. Calls block; they come from the trainer's thread.
pub trait Rendezvous: Send + Sync {
    /// Sets a key.
    fn set(&self, key: &str, value: &[u8]) -> Result<(), String>;
    /// Waits for a key at most `wait_ms`.
    fn get(&self, key: &str, wait_ms: u64) -> Result<Option<Vec<u8>>, String>;
    /// Adds to a counter, gives the new value.
    fn add(&self, key: &str, amount: i64) -> Result<i64, String>;
}

/// The place of this worker in a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Membership {
    /// The group.
    pub group: Group,
    /// 0 to world size - 1.
    pub rank: u32,
    /// How many take part.
    pub world_size: u32,
    /// A host address of this worker that the others reach (the route to the coordinator).
    pub host: String,
}

/// What stands in the shadow after [`Trainer::reduce`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shadow {
    /// Digest D of the reduced sum.
    pub sum_digest: u64,
    /// S_t.
    pub state_digest: StateDigest,
    /// l2 norm before clipping.
    pub gradient_norm: f64,
    /// Digest of this worker's own sum, before the reduction.
    pub own_digest: u64,
}

/// Aborts the collective that a trainer is in, from another thread.
pub trait AbortHandle: Send + Sync {
    /// Makes a running all-reduce of `group` fail soon. Does nothing for another group.
    fn abort(&self, group: &Group);
}

/// Tensors behind a member. One thread owns it; every call blocks until done.
///
/// The committed state never changes but in [`Trainer::load`] and [`Trainer::flip`].
pub trait Trainer: Send {
    /// The class of this process's arithmetic: what it makes of a fixed microbatch on seeded adapters at the run's shapes.
    /// Asked once, before any state; the same on every machine whose results may be added to this one's.
    fn class(&mut self) -> Result<Class, TrainerError>;
    /// Makes the state of step 0 from the seed. Gives S_0.
    fn initial_state(&mut self) -> Result<StateDigest, TrainerError>;
    /// Replaces the state by the one in the files. Gives its digest; the caller compares.
    fn load(&mut self, step: u64, files: &StateFiles) -> Result<StateDigest, TrainerError>;
    /// The committed state as files, for a checkpoint or a peer.
    fn save(&self) -> Result<StateFiles, TrainerError>;
    /// Folds the committed state once more, from memory.
    fn committed_digest(&self) -> Result<StateDigest, TrainerError>;
    /// Forward, backward, quantise one microbatch under the plan. The gradient is held until kept or dropped.
    fn compute(&mut self, plan: &Plan, lease: &Lease) -> Result<Done, TrainerError>;
    /// Adds a computed microbatch to the local sum (R1).
    fn keep(&mut self, microbatch: u32) -> Result<(), TrainerError>;
    /// Throws a computed microbatch away.
    fn discard(&mut self, microbatch: u32);
    /// Clears the local sum and all held gradients: a new step, attempt, or Fence.
    fn clear(&mut self);
    /// All-reduces a staging copy of the sum, makes the optimiser step into the shadow. The sum stays.
    fn reduce(
        &mut self,
        plan: &Plan,
        membership: &Membership,
        rendezvous: std::sync::Arc<dyn Rendezvous>,
    ) -> Result<Shadow, TrainerError>;
    /// Makes the shadow the state (Commit) and clears the sum.
    fn flip(&mut self) -> Result<(), TrainerError>;
    /// A handle with which another thread aborts a running all-reduce.
    fn abort_handle(&self) -> std::sync::Arc<dyn AbortHandle>;
    /// Greedy continuations of prompts, adapters on or off.
    fn generate(&mut self, adapters: bool, work: &GenerateWork) -> Result<Vec<Continuation>, TrainerError>;
    /// Loss and accuracy by stage of one microbatch, no gradients.
    fn holdout(&mut self, adapters: bool, work: &HoldoutWork) -> Result<MicrobatchStatistics, TrainerError>;
}

/// Makes the trainer once the coordinator has said what the run is (model load happens here, once a process).
pub trait TrainerFactory: Send {
    /// Loads the base and builds the trainer.
    fn build(&self, settings: &Settings) -> Result<Box<dyn Trainer>, TrainerError>;
}
