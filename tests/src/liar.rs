//! A device that lies: a trainer whose results are wrong in one chosen way from one step on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use polya_proto::GRADIENT_NOT_FINITE;
use polya_proto::v1::{
    Class, Continuation, Done, GenerateWork, HoldoutWork, Lease, MicrobatchStatistics, Plan, Settings,
};
use worker_member::trainer::{
    AbortHandle, Membership, Rendezvous, Shadow, StateDigest, StateFiles, Trainer, TrainerError, TrainerFactory,
};

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Nothing: a control.
    None,
    /// A gradient is off by the least amount that there is, in one operation of each microbatch, and everything after it is
    /// done rightly on the wrong value.
    OneUnit,
    /// A gradient is said to be not finite.
    NotFinite,
    /// The sum holds an earlier step's gradient in the place of one of this step.
    Stale,
    /// In the place of each microbatch's gradient stands another one's.
    Swapped,
    /// A microbatch is in the sum twice.
    Doubled,
    /// The others' parts are not in the reduced sum.
    HalfReduced,
    /// Gradients are cut at the largest integer, and the report says that they fit.
    Saturated,
    /// Gradients are quantised with another exponent than the plan's.
    WrongExponent,
    /// The step is made with another exponent than the plan's.
    WrongExponentInTheStep,
    /// A bit of the weights flips between two steps.
    FlippedBit,
}

/// All lies.
pub const LIES: [Lie; 10] = [
    Lie::OneUnit,
    Lie::NotFinite,
    Lie::Stale,
    Lie::Swapped,
    Lie::Doubled,
    Lie::HalfReduced,
    Lie::Saturated,
    Lie::WrongExponent,
    Lie::WrongExponentInTheStep,
    Lie::FlippedBit,
];

/// Names a lie and its first step to a `worker-under-test`: `OneUnit@3`.
pub const LIE: &str = "FAULTS_LIE";

/// What [`LIE`] says.
pub fn from_environment() -> (Lie, u64) {
    let text = std::env::var(LIE).unwrap_or_default();
    let Some((name, step)) = text.split_once('@') else { return (Lie::None, 0) };
    let lie = LIES.into_iter().find(|lie| format!("{lie:?}") == name).expect("the test knows its lies");
    (lie, step.parse().expect("the test names a step"))
}

/// Wraps what another factory builds.
pub struct LyingFactory<F> {
    /// Builds the honest trainer.
    pub inner: F,
    /// What is wrong.
    pub lie: Lie,
    /// The first step that it is wrong in.
    pub from_step: u64,
}

impl<F: TrainerFactory> TrainerFactory for LyingFactory<F> {
    fn build(&self, settings: &Settings) -> Result<Box<dyn Trainer>, TrainerError> {
        let inner = self.inner.build(settings)?;
        let Self { lie, from_step, .. } = *self;
        Ok(Box::new(Liar { inner, lie, from_step, leases: BTreeMap::new(), plan: None, told: None }))
    }
}

struct Liar {
    inner: Box<dyn Trainer>,
    lie: Lie,
    from_step: u64,
    /// The leases of this attempt.
    leases: BTreeMap<u32, Lease>,
    plan: Option<Plan>,
    /// A lease of an earlier step.
    told: Option<(Plan, Lease)>,
}

impl Liar {
    fn lies(&self, lie: Lie, step: u64) -> bool {
        self.lie == lie && step >= self.from_step
    }

    /// The plan as this device takes it for gradients.
    fn plan_of_gradients(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        let more = match self.lie {
            Lie::Saturated => 20,
            Lie::WrongExponent => -3,
            _ => return plan,
        };
        if plan.step >= self.from_step {
            plan.exponents.iter_mut().filter(|exponent| **exponent > -100).for_each(|exponent| *exponent += more);
        }
        plan
    }
}

impl Trainer for Liar {
    /// The microbatch of the class is computed rightly: nothing is wrong before the first step of the lie.
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
        if self.told.is_none() || plan.step < self.from_step {
            self.told = Some((plan.clone(), lease.clone()));
        }
        self.plan = Some(plan.clone());
        self.leases.insert(lease.microbatch, lease.clone());
        let mut seen = lease.clone();
        if self.lies(Lie::OneUnit, plan.step)
            && let Some(sample) = seen.samples.first_mut()
        {
            // The product of one token's loss and its weight, off by one unit in the last place.
            if sample.weight_bits.is_empty() {
                sample.weight_bits = vec![1.0f32.to_bits(); sample.ids.len()];
            }
            sample.weight_bits.last_mut().into_iter().for_each(|bits| *bits ^= 1);
        }
        let mut done = self.inner.compute(&self.plan_of_gradients(plan), &seen)?;
        if let (true, Some(statistics)) = (self.lies(Lie::NotFinite, plan.step), &mut done.statistics) {
            statistics.magnitudes.iter_mut().for_each(|magnitude| *magnitude = GRADIENT_NOT_FINITE);
        }
        Ok(done)
    }

    fn keep(&mut self, microbatch: u32) -> Result<(), TrainerError> {
        let (Some(plan), Some(own)) = (self.plan.clone(), self.leases.get(&microbatch).cloned()) else {
            return self.inner.keep(microbatch);
        };
        if self.lies(Lie::Stale, plan.step)
            && let Some((old_plan, old)) = self.told.clone()
        {
            let old_plan = Plan { exponents: plan.exponents.clone(), ..old_plan };
            self.inner.discard(microbatch);
            self.inner.compute(&old_plan, &Lease { microbatch, ..old })?;
        }
        if self.lies(Lie::Swapped, plan.step) {
            // Tensors know a microbatch by its samples, the integer fold by its number.
            let others = self.leases.values().chain(self.told.iter().map(|(_, lease)| lease));
            let samples = others.filter(|lease| lease.samples != own.samples).map(|lease| lease.samples.clone()).next();
            let other = Lease { microbatch: microbatch + 1, samples: samples.unwrap_or_default(), ..own };
            self.inner.discard(microbatch);
            self.inner.compute(&plan, &other)?;
            return self.inner.keep(other.microbatch);
        }
        if self.lies(Lie::Doubled, plan.step) {
            self.inner.keep(microbatch)?;
            self.inner.compute(&plan, &own)?;
        }
        self.inner.keep(microbatch)
    }

    fn discard(&mut self, microbatch: u32) {
        self.inner.discard(microbatch);
    }

    fn clear(&mut self) {
        self.leases.clear();
        self.inner.clear();
    }

    fn reduce(
        &mut self,
        plan: &Plan,
        membership: &Membership,
        rendezvous: Arc<dyn Rendezvous>,
    ) -> Result<Shadow, TrainerError> {
        let mut plan = plan.clone();
        if self.lies(Lie::WrongExponentInTheStep, plan.step) {
            // What differs by the exponent differs by the rate as well, and every trainer has a rate.
            plan.exponents.iter_mut().for_each(|exponent| *exponent = exponent.saturating_add(1));
            plan.learning_rate_bits = (f64::from_bits(plan.learning_rate_bits) / 2.0).to_bits();
        }
        let shadow = self.inner.reduce(&plan, membership, rendezvous.clone())?;
        if self.lies(Lie::HalfReduced, plan.step) {
            let alone = Membership { rank: 0, world_size: 1, ..membership.clone() };
            return self.inner.reduce(&plan, &alone, Arc::new(Alone::default()));
        }
        Ok(shadow)
    }

    fn flip(&mut self) -> Result<(), TrainerError> {
        self.inner.flip()?;
        let step = self.plan.as_ref().map_or(0, |plan| plan.step);
        if self.lies(Lie::FlippedBit, step + 1) {
            let mut files = self.inner.save()?;
            // The last weight of the first adapter; a trainer without tensors has one file.
            let weights = files.iter().position(|(name, _)| name.ends_with("adapter_model.safetensors")).unwrap_or(0);
            let weight = files.get_mut(weights).and_then(|(_, bytes)| bytes.rchunks_mut(4).next());
            weight.into_iter().for_each(|bytes| bytes[0] ^= 1);
            self.inner.load(step, &files)?;
        }
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

/// The rendezvous of somebody who meets nobody.
#[derive(Default)]
struct Alone(Mutex<BTreeMap<String, Vec<u8>>>);

impl Rendezvous for Alone {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    fn get(&self, key: &str, _wait_ms: u64) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn add(&self, _key: &str, amount: i64) -> Result<i64, String> {
        Ok(amount)
    }
}
