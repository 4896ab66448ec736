//! A trainer that watches its own commits: when a state becomes this worker's, the journal must hold it already (I5, I9),
//! and it must be that of the undisturbed run (I4). A witness that sees anything else panics, and its worker's end tells.

use std::path::PathBuf;
use std::sync::Arc;

use coordinator_core::Digest;
use polya_proto::v1::{
    Class, Continuation, Done, GenerateWork, HoldoutWork, Lease, MicrobatchStatistics, Plan, Settings,
};
use polya_tests::fleet::commits;
use worker_member::integer_fold::IntegerFoldFactory;
use worker_member::trainer::{
    AbortHandle, Membership, Rendezvous, Shadow, StateDigest, StateFiles, Trainer, TrainerError, TrainerFactory,
};

/// Builds witnesses over the exact integer fold.
#[derive(Debug, Clone)]
pub(crate) struct WitnessFactory {
    /// The run's directory.
    pub(crate) dir: PathBuf,
    /// S_1, S_2, … of the undisturbed run; empty while that one itself runs.
    pub(crate) expected: Arc<Vec<Digest>>,
}

impl TrainerFactory for WitnessFactory {
    fn build(&self, settings: &Settings) -> Result<Box<dyn Trainer>, TrainerError> {
        let inner = IntegerFoldFactory.build(settings)?;
        Ok(Box::new(Witness { inner, journal: self.clone(), step: 0 }))
    }
}

struct Witness {
    inner: Box<dyn Trainer>,
    journal: WitnessFactory,
    /// The step in the shadow.
    step: u64,
}

impl Witness {
    fn assert_is_durable(&self, state: Digest) {
        let step = self.step;
        let durable = commits(&self.journal.dir).into_iter().find(|commit| commit.step == step);
        assert_eq!(durable.map(|commit| commit.state), Some(state), "step {step}: told before it was durable");
        let expected = self.journal.expected.get(step as usize - 1);
        assert!(expected.is_none_or(|expected| *expected == state), "step {step}: another state than undisturbed");
    }
}

impl Trainer for Witness {
    fn class(&mut self) -> Result<Class, TrainerError> {
        self.inner.class()
    }

    fn initial_state(&mut self) -> Result<StateDigest, TrainerError> {
        self.inner.initial_state()
    }

    fn load(&mut self, step: u64, files: &StateFiles) -> Result<StateDigest, TrainerError> {
        self.inner.load(step, files)
    }

    fn save(&self) -> Result<StateFiles, TrainerError> {
        self.inner.save()
    }

    fn committed_digest(&self) -> Result<StateDigest, TrainerError> {
        self.inner.committed_digest()
    }

    fn compute(&mut self, plan: &Plan, lease: &Lease) -> Result<Done, TrainerError> {
        self.inner.compute(plan, lease)
    }

    fn keep(&mut self, microbatch: u32) -> Result<(), TrainerError> {
        self.inner.keep(microbatch)
    }

    fn discard(&mut self, microbatch: u32) {
        self.inner.discard(microbatch);
    }

    fn clear(&mut self) {
        self.inner.clear();
    }

    fn reduce(
        &mut self,
        plan: &Plan,
        membership: &Membership,
        rendezvous: Arc<dyn Rendezvous>,
    ) -> Result<Shadow, TrainerError> {
        self.step = plan.step;
        self.inner.reduce(plan, membership, rendezvous)
    }

    fn flip(&mut self) -> Result<(), TrainerError> {
        self.inner.flip()?;
        self.assert_is_durable(Digest(self.inner.committed_digest()?));
        Ok(())
    }

    fn abort_handle(&self) -> Arc<dyn AbortHandle> {
        self.inner.abort_handle()
    }

    fn generate(&mut self, adapters: bool, work: &GenerateWork) -> Result<Vec<Continuation>, TrainerError> {
        self.inner.generate(adapters, work)
    }

    fn holdout(&mut self, adapters: bool, work: &HoldoutWork) -> Result<MicrobatchStatistics, TrainerError> {
        self.inner.holdout(adapters, work)
    }
}
