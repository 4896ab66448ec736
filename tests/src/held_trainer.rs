//! A trainer that can be held and slowed down: the real one behind [`Points`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use polya_proto::v1::{
    Class, Continuation, Done, GenerateWork, HoldoutWork, Lease, MicrobatchStatistics, Plan, Settings,
};
use worker_member::trainer::{
    AbortHandle, Membership, Rendezvous, Shadow, StateDigest, StateFiles, Trainer, TrainerError, TrainerFactory,
};

use crate::points::Points;

/// How many times as long as it takes a microbatch shall take.
pub const SLOWNESS: &str = "FAULTS_SLOWNESS";

/// Wraps what another factory builds.
pub struct HeldFactory<F> {
    /// Builds the real trainer.
    pub inner: F,
    /// Where to stand still.
    pub points: Arc<Points>,
}

impl<F: TrainerFactory> TrainerFactory for HeldFactory<F> {
    fn build(&self, settings: &Settings) -> Result<Box<dyn Trainer>, TrainerError> {
        let inner = self.inner.build(settings)?;
        let slowness = std::env::var(SLOWNESS).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        Ok(Box::new(HeldTrainer { inner, points: self.points.clone(), slowness, step: 0, saves: AtomicU64::new(0) }))
    }
}

struct HeldTrainer {
    inner: Box<dyn Trainer>,
    points: Arc<Points>,
    slowness: u32,
    /// The step in work, or of the state.
    step: u64,
    saves: AtomicU64,
}

impl Trainer for HeldTrainer {
    fn class(&mut self) -> Result<Class, TrainerError> {
        self.inner.class()
    }

    /// `initial@0`: built and compared, but without a state to work on.
    fn initial_state(&mut self) -> Result<StateDigest, TrainerError> {
        self.points.reach("initial", 0);
        self.inner.initial_state()
    }

    fn load(&mut self, step: u64, files: &StateFiles) -> Result<StateDigest, TrainerError> {
        self.step = step;
        self.inner.load(step, files)
    }

    /// `save@n`: the n-th time, for a peer or for a checkpoint.
    fn save(&self) -> Result<StateFiles, TrainerError> {
        self.points.reach("save", self.saves.fetch_add(1, Ordering::Relaxed) + 1);
        self.inner.save()
    }

    fn committed_digest(&self) -> Result<StateDigest, TrainerError> {
        self.inner.committed_digest()
    }

    /// `compute@n`: before the forward pass of a microbatch of step n.
    fn compute(&mut self, plan: &Plan, lease: &Lease) -> Result<Done, TrainerError> {
        self.step = plan.step;
        self.points.reach("compute", plan.step);
        let started = Instant::now();
        let done = self.inner.compute(plan, lease);
        std::thread::sleep(started.elapsed() * (self.slowness - 1));
        done
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

    /// `sum@n`: this worker's part of step n is done. `reduce@n`: in the all-reduce of step n, when this worker first asks
    /// for another one.
    fn reduce(
        &mut self,
        plan: &Plan,
        membership: &Membership,
        rendezvous: Arc<dyn Rendezvous>,
    ) -> Result<Shadow, TrainerError> {
        self.step = plan.step;
        self.points.reach("sum", plan.step);
        let held = HeldRendezvous { inner: rendezvous, points: self.points.clone(), step: plan.step };
        self.inner.reduce(plan, membership, Arc::new(held))
    }

    /// `flip@n`: Commit(n) is here, the state is still that of n - 1.
    fn flip(&mut self) -> Result<(), TrainerError> {
        self.points.reach("flip", self.step);
        self.inner.flip()
    }

    fn abort_handle(&self) -> Arc<dyn AbortHandle> {
        self.inner.abort_handle()
    }

    fn generate(&mut self, adapters: bool, work: &GenerateWork) -> Result<Vec<Continuation>, TrainerError> {
        self.evaluates(adapters);
        self.inner.generate(adapters, work)
    }

    fn holdout(&mut self, adapters: bool, work: &HoldoutWork) -> Result<MicrobatchStatistics, TrainerError> {
        self.evaluates(adapters);
        self.inner.holdout(adapters, work)
    }
}

impl HeldTrainer {
    /// `evaluate@n`: while the trained model is scored, or its loss measured, on the state of step n.
    fn evaluates(&self, adapters: bool) {
        if adapters {
            self.points.reach("evaluate", self.step);
        }
    }
}

struct HeldRendezvous {
    inner: Arc<dyn Rendezvous>,
    points: Arc<Points>,
    step: u64,
}

impl Rendezvous for HeldRendezvous {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), String> {
        self.inner.set(key, value)
    }

    fn get(&self, key: &str, wait_ms: u64) -> Result<Option<Vec<u8>>, String> {
        self.points.reach("reduce", self.step);
        self.inner.get(key, wait_ms)
    }

    fn add(&self, key: &str, amount: i64) -> Result<i64, String> {
        self.inner.add(key, amount)
    }
}
