//! A member whose gradients are one hash, and what all of them share: the all-reduce, and the clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use polya_proto::v1::{
    Class, Continuation, Done, GenerateWork, Group, HoldoutWork, Lease, MicrobatchStatistics, Plan, Settings,
    StageStatistics,
};
use worker_member::trainer::{
    AbortHandle, Membership, Rendezvous, Shadow, StateDigest, StateFiles, Trainer, TrainerError, TrainerFactory,
};

use crate::watch;

/// The one file of a state.
const FILE: &str = "optimizer.safetensors";
/// Steps after the first Commit that are not measured.
const WARM_UP: u64 = 5;
/// Tensors that a microbatch says the magnitude of.
const TENSORS: usize = 8;
/// A worker does not wait longer for the others.
const SILENCE: Duration = Duration::from_secs(60);

/// What all members of one run share.
#[derive(Default)]
pub(crate) struct Shared {
    groups: Mutex<BTreeMap<(u64, u64), Sum>>,
    times: Mutex<Times>,
}

#[derive(Default)]
struct Sum {
    digest: u64,
    waiting: Vec<mpsc::Sender<u64>>,
}

#[derive(Default)]
struct Times {
    /// When the last worker had the sum of a step.
    reduced: BTreeMap<u64, Instant>,
    /// From there to each worker's flip.
    latencies: Vec<Duration>,
    /// The first flip of each step.
    flipped: BTreeMap<u64, Instant>,
    /// The coordinator's processor seconds when the warm-up was over, and at last.
    processor: Option<(f64, f64)>,
    memory_mib: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Adds a sum to the group's, and waits for the others. Each is woken by itself: 512 threads that were woken together
    /// would queue for one lock.
    fn all_reduce(&self, step: u64, membership: &Membership, digest: u64) -> Result<u64, String> {
        let key = (membership.group.epoch, membership.group.generation);
        let mut groups = locked(&self.groups);
        let sum = groups.entry(key).or_default();
        sum.digest = sum.digest.wrapping_add(digest);
        if sum.waiting.len() + 1 < membership.world_size as usize {
            let (whole, waits) = mpsc::channel();
            sum.waiting.push(whole);
            drop(groups);
            return waits.recv_timeout(SILENCE).map_err(|_| "another worker did not come".to_owned());
        }
        let sum = groups.remove(&key).unwrap_or_default();
        groups.retain(|group, _| *group > key);
        drop(groups);
        locked(&self.times).reduced.insert(step, Instant::now());
        for waiting in sum.waiting {
            // Who has given up meanwhile has said so.
            let _ = waiting.send(sum.digest);
        }
        Ok(sum.digest)
    }

    fn flipped(&self, step: u64) {
        let now = Instant::now();
        let mut times = locked(&self.times);
        if let Some(reduced) = times.reduced.get(&step).copied().filter(|_| step > WARM_UP) {
            times.latencies.push(now - reduced);
        }
        times.flipped.entry(step).or_insert(now);
    }

    /// Looks at the coordinator from outside.
    pub(crate) fn look(&self, pid: u32) {
        let (Some(seconds), Some(mib)) = (watch::processor_seconds(pid), watch::peak_mib(pid)) else { return };
        let mut times = locked(&self.times);
        times.memory_mib = mib;
        if times.flipped.keys().next_back().is_some_and(|step| *step >= WARM_UP) {
            let first = times.processor.map_or(seconds, |(first, _)| first);
            times.processor = Some((first, seconds));
        }
    }

    /// One row of the table.
    pub(crate) fn row(&self, workers: u32, microbatches: u32) -> Result<String> {
        let mut times = locked(&self.times);
        let measured: Vec<Instant> = times.flipped.range(WARM_UP..).map(|(_, at)| *at).collect();
        let (first, last) = measured.first().zip(measured.last()).context("no step was measured")?;
        let (steps, seconds) = ((measured.len() - 1) as f64, (*last - *first).as_secs_f64());
        let (from, to) = times.processor.context("the coordinator was gone before it was looked at")?;
        // Plan, Reduce, Commit; Ready, Idle; Lease, Done, Keep.
        let messages = steps * f64::from(5 * workers + 3 * microbatches);
        let memory = times.memory_mib;
        times.latencies.sort_unstable();
        let at = |share: f64| {
            let index = (share * (times.latencies.len().saturating_sub(1)) as f64) as usize;
            times.latencies.get(index).map_or(f64::NAN, |latency| 1e3 * latency.as_secs_f64())
        };
        Ok(format!(
            "| {workers} | {microbatches} | {:.1} | {:.2}, {:.2} | {:.0} | {memory} |",
            steps / seconds,
            at(0.5),
            at(0.99),
            messages / (to - from).max(0.01)
        ))
    }
}

/// Builds members.
pub(crate) struct Factory(pub(crate) Arc<Shared>);

impl TrainerFactory for Factory {
    fn build(&self, _settings: &Settings) -> Result<Box<dyn Trainer>, TrainerError> {
        Ok(Box::new(Member {
            shared: self.0.clone(),
            state: 0,
            step: 0,
            shadow: None,
            computed: BTreeMap::new(),
            sum: 0,
        }))
    }
}

struct Member {
    shared: Arc<Shared>,
    state: u64,
    step: u64,
    shadow: Option<(u64, u64)>,
    computed: BTreeMap<u32, u64>,
    sum: u64,
}

fn hash(words: &[u64]) -> StateDigest {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    *blake3::hash(&bytes).as_bytes()
}

/// S_t: the coordinator folds the same from the file of a checkpoint.
fn state_digest(state: u64) -> StateDigest {
    polya_proto::state_digest([(FILE, state.to_le_bytes().as_slice())])
}

fn word(digest: StateDigest) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| digest[index]))
}

impl Trainer for Member {
    fn class(&mut self) -> Result<Class, TrainerError> {
        Ok(Class { digest: hash(&[0]).to_vec(), words: "hashes".to_owned() })
    }

    fn committed_digest(&self) -> Result<StateDigest, TrainerError> {
        Ok(state_digest(self.state))
    }

    fn initial_state(&mut self) -> Result<StateDigest, TrainerError> {
        (self.state, self.step) = (1, 0);
        Ok(state_digest(self.state))
    }

    fn load(&mut self, step: u64, files: &StateFiles) -> Result<StateDigest, TrainerError> {
        let bytes = files.first().and_then(|(_, bytes)| bytes.as_slice().try_into().ok());
        let bytes = bytes.ok_or_else(|| TrainerError::Fatal("no state".to_owned()))?;
        (self.state, self.step) = (u64::from_le_bytes(bytes), step);
        Ok(state_digest(self.state))
    }

    fn save(&self) -> Result<StateFiles, TrainerError> {
        Ok(vec![(FILE.to_owned(), self.state.to_le_bytes().to_vec())])
    }

    fn compute(&mut self, _plan: &Plan, lease: &Lease) -> Result<Done, TrainerError> {
        let digest = word(hash(&[self.state, lease.step, u64::from(lease.microbatch)]));
        self.computed.insert(lease.microbatch, digest);
        Ok(Done {
            step: lease.step,
            attempt: lease.attempt,
            microbatch: lease.microbatch,
            digest,
            statistics: Some(statistics(lease.samples.len(), vec![0; TENSORS])),
            ..Done::default()
        })
    }

    fn keep(&mut self, microbatch: u32) -> Result<(), TrainerError> {
        let kept = self.computed.remove(&microbatch);
        self.sum = self.sum.wrapping_add(kept.ok_or_else(|| TrainerError::Fatal("not computed here".to_owned()))?);
        Ok(())
    }

    fn discard(&mut self, microbatch: u32) {
        self.computed.remove(&microbatch);
    }

    fn clear(&mut self) {
        self.computed.clear();
        self.sum = 0;
    }

    fn reduce(
        &mut self,
        plan: &Plan,
        membership: &Membership,
        _rendezvous: Arc<dyn Rendezvous>,
    ) -> Result<Shadow, TrainerError> {
        let broken = |reason| TrainerError::Broken { group: membership.group, reason };
        let sum_digest = self.shared.all_reduce(plan.step, membership, self.sum).map_err(broken)?;
        let next = word(hash(&[self.state, sum_digest, plan.step]));
        self.shadow = Some((next, plan.step));
        Ok(Shadow { sum_digest, state_digest: state_digest(next), gradient_norm: 1.0, own_digest: self.sum })
    }

    fn flip(&mut self) -> Result<(), TrainerError> {
        let shadow = self.shadow.take().ok_or_else(|| TrainerError::Fatal("nothing in the shadow".to_owned()))?;
        (self.state, self.step) = shadow;
        self.clear();
        self.shared.flipped(self.step);
        Ok(())
    }

    fn abort_handle(&self) -> Arc<dyn AbortHandle> {
        Arc::new(NoAbort)
    }

    fn generate(&mut self, _adapters: bool, work: &GenerateWork) -> Result<Vec<Continuation>, TrainerError> {
        Ok(work.prompts.iter().map(|_| Continuation::default()).collect())
    }

    fn holdout(&mut self, _adapters: bool, work: &HoldoutWork) -> Result<MicrobatchStatistics, TrainerError> {
        Ok(statistics(work.samples.len(), vec![]))
    }
}

/// The all-reduce here ends by itself.
struct NoAbort;

impl AbortHandle for NoAbort {
    fn abort(&self, _group: &Group) {}
}

fn statistics(samples: usize, magnitudes: Vec<i32>) -> MicrobatchStatistics {
    let stages = vec![StageStatistics { tokens: 1, ..StageStatistics::default() }; 4];
    MicrobatchStatistics { stages, samples: samples as u32, tokens: 4, magnitudes, ..MicrobatchStatistics::default() }
}
