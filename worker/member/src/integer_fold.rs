//! A trainer without tensors, for simulations and tests: every gradient is a handful of integers drawn from (state,
//! samples, step, microbatch), so that the outcome depends on exactly what the real one depends on, and is exact.
//!
//! Two tensors of a few words. A gradient is a fixed-point number h * 2^-12; quantising it with the plan's exponent is a
//! shift. The all-reduce goes through the rendezvous alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use polya_proto::v1::{
    Class, Continuation, Done, GenerateWork, Group, HoldoutWork, Lease, MicrobatchStatistics, Plan, Sample, Settings,
    StageStatistics,
};
use polya_proto::{EXPONENT_UNKNOWN, GRADIENT_ZERO};

use crate::trainer::{
    AbortHandle, Membership, Rendezvous, Shadow, StateDigest, StateFiles, Trainer, TrainerError, TrainerFactory,
};

/// Tensors, and words in each.
const TENSORS: usize = 2;
const WORDS: usize = 4;
/// The one file of a state.
const FILE: &str = "optimizer.safetensors";
/// Binary digits after the point of a gradient.
const POINT: i32 = 12;
/// A waiting all-reduce looks at the abort this often.
const SLICE_MS: u64 = 20;
/// A peer that is silent for this long has broken the group.
const SILENCE_MS: u64 = 10_000;

type Words<T> = [T; TENSORS * WORDS];

/// See the module.
#[derive(Clone)]
pub struct IntegerFold {
    seed: u64,
    class: &'static str,
    state: Words<i64>,
    shadow: Option<Words<i64>>,
    computed: BTreeMap<u32, Words<i32>>,
    sum: Words<i32>,
    aborted: Aborted,
}

/// Builds [`IntegerFold`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct IntegerFoldFactory;

impl TrainerFactory for IntegerFoldFactory {
    fn build(&self, settings: &Settings) -> Result<Box<dyn Trainer>, TrainerError> {
        Ok(Box::new(IntegerFold::new(settings.seed)))
    }
}

/// Builds [`IntegerFold`]s that say they were of another class: another processor, seen from the wire.
#[derive(Debug, Clone, Copy)]
pub struct OtherClassFactory(pub &'static str);

impl TrainerFactory for OtherClassFactory {
    fn build(&self, settings: &Settings) -> Result<Box<dyn Trainer>, TrainerError> {
        Ok(Box::new(IntegerFold { class: self.0, ..IntegerFold::new(settings.seed) }))
    }
}

impl IntegerFold {
    /// A trainer of a run with this seed.
    pub fn new(seed: u64) -> IntegerFold {
        IntegerFold {
            seed,
            class: "integers",
            state: [0; TENSORS * WORDS],
            shadow: None,
            computed: BTreeMap::new(),
            sum: [0; TENSORS * WORDS],
            aborted: Aborted::default(),
        }
    }

    /// The gradient of a microbatch, h * 2^-12 each.
    fn gradient(&self, lease: &Lease) -> Words<i64> {
        let mut hash = blake3::Hasher::new();
        self.state.iter().for_each(|word| {
            hash.update(&word.to_le_bytes());
        });
        hash.update(&lease.step.to_le_bytes()).update(&lease.microbatch.to_le_bytes());
        for sample in &lease.samples {
            hash.update(sample.id.as_bytes()).update(&[0]);
            sample.ids.iter().chain(&sample.weight_bits).for_each(|word| {
                hash.update(&word.to_le_bytes());
            });
        }
        let mut bytes = hash.finalize_xof();
        std::array::from_fn(|_| {
            let mut word = [0; 2];
            bytes.fill(&mut word);
            i64::from(i16::from_le_bytes(word))
        })
    }
}

impl Trainer for IntegerFold {
    fn class(&mut self) -> Result<Class, TrainerError> {
        let digest = blake3::hash(self.class.as_bytes()).as_bytes().to_vec();
        Ok(Class { digest, words: self.class.to_owned() })
    }

    fn initial_state(&mut self) -> Result<StateDigest, TrainerError> {
        let mut bytes = blake3::Hasher::new().update(&self.seed.to_le_bytes()).finalize_xof();
        self.state = std::array::from_fn(|_| {
            let mut word = [0; 8];
            bytes.fill(&mut word);
            i64::from_le_bytes(word)
        });
        self.shadow = None;
        self.clear();
        Ok(fold(&self.state))
    }

    fn load(&mut self, step: u64, files: &StateFiles) -> Result<StateDigest, TrainerError> {
        let broken = || TrainerError::Fatal(format!("the files are no state of step {step}"));
        let [(_, data)] = &files[..] else { return Err(broken()) };
        let words: Vec<i64> =
            data.chunks_exact(8).filter_map(|word| word.try_into().ok().map(i64::from_le_bytes)).collect();
        self.state = words.try_into().map_err(|_| broken())?;
        self.shadow = None;
        self.clear();
        Ok(fold(&self.state))
    }

    fn save(&self) -> Result<StateFiles, TrainerError> {
        Ok(vec![(FILE.to_owned(), bytes(&self.state))])
    }

    fn committed_digest(&self) -> Result<StateDigest, TrainerError> {
        Ok(fold(&self.state))
    }

    fn compute(&mut self, plan: &Plan, lease: &Lease) -> Result<Done, TrainerError> {
        let gradient = self.gradient(lease);
        let limit = 1i64 << plan.bits.min(30);
        let quantised: Words<i32> = std::array::from_fn(|index| {
            let exponent = plan.exponents.get(index / WORDS).copied().unwrap_or(EXPONENT_UNKNOWN);
            quantise(gradient[index], exponent).clamp(-limit, limit) as i32
        });
        let magnitudes = gradient.chunks(WORDS).map(magnitude).collect();
        self.computed.insert(lease.microbatch, quantised);
        Ok(Done {
            step: lease.step,
            attempt: lease.attempt,
            microbatch: lease.microbatch,
            digest: digest(self.seed, &quantised),
            statistics: Some(MicrobatchStatistics { magnitudes, ..statistics(&lease.samples) }),
            gradient_norm_bits: if lease.measure { norm(&gradient) } else { 0 },
        })
    }

    fn keep(&mut self, microbatch: u32) -> Result<(), TrainerError> {
        let kept = self.computed.remove(&microbatch);
        let kept = kept.ok_or_else(|| TrainerError::Fatal(format!("microbatch {microbatch} is not here")))?;
        self.sum.iter_mut().zip(kept).for_each(|(sum, word)| *sum = sum.wrapping_add(word));
        Ok(())
    }

    fn discard(&mut self, microbatch: u32) {
        self.computed.remove(&microbatch);
    }

    fn clear(&mut self) {
        self.computed.clear();
        self.sum = [0; TENSORS * WORDS];
    }

    fn reduce(
        &mut self,
        plan: &Plan,
        membership: &Membership,
        rendezvous: Arc<dyn Rendezvous>,
    ) -> Result<Shadow, TrainerError> {
        let group = membership.group;
        let broken = |reason| TrainerError::Broken { group, reason };
        let mine: Vec<u8> = self.sum.iter().flat_map(|word| word.to_le_bytes()).collect();
        rendezvous.set(&format!("sum/{}", membership.rank), &mine).map_err(broken)?;
        let mut total: Words<i32> = [0; TENSORS * WORDS];
        for rank in 0..membership.world_size {
            let key = format!("sum/{rank}");
            let theirs = self.aborted.wait(&group, &*rendezvous, &key).map_err(broken)?;
            for (total, word) in total.iter_mut().zip(theirs.chunks_exact(4)) {
                *total = total.wrapping_add(word.try_into().map_or(0, i32::from_le_bytes));
            }
        }
        let rate = (plan.learning_rate_bits >> 40) as i64 | 1;
        let shadow = std::array::from_fn(|index| {
            let step = i64::from(total[index]).wrapping_mul(rate);
            self.state[index].wrapping_mul(3).wrapping_add(step).wrapping_add(plan.step as i64)
        });
        self.shadow = Some(shadow);
        let square: i64 = total.iter().map(|&word| i64::from(word >> 8).pow(2)).sum();
        Ok(Shadow {
            sum_digest: digest(self.seed, &total),
            state_digest: fold(&shadow),
            gradient_norm: (square as f64).sqrt(),
            own_digest: digest(self.seed, &self.sum),
        })
    }

    fn flip(&mut self) -> Result<(), TrainerError> {
        let shadow = self.shadow.take();
        self.state = shadow.ok_or_else(|| TrainerError::Fatal("nothing stands in the shadow".to_owned()))?;
        self.clear();
        Ok(())
    }

    fn abort_handle(&self) -> Arc<dyn AbortHandle> {
        Arc::new(self.aborted.clone())
    }

    fn generate(&mut self, adapters: bool, work: &GenerateWork) -> Result<Vec<Continuation>, TrainerError> {
        let state = if adapters { self.state[0] } else { 0 };
        let answer = |ids: &Vec<u32>| {
            let number = ids.iter().fold(state as u32, |hash, id| hash.wrapping_mul(31).wrapping_add(*id));
            Continuation { ids: vec![number % 1000], text: format!("{}", number % 1000) }
        };
        Ok(work.prompts.iter().map(|prompt| answer(&prompt.ids)).collect())
    }

    fn holdout(&mut self, _adapters: bool, work: &HoldoutWork) -> Result<MicrobatchStatistics, TrainerError> {
        Ok(statistics(&work.samples))
    }
}

/// The newest group that was aborted.
#[derive(Clone, Default)]
struct Aborted(Arc<Mutex<Option<(u64, u64)>>>);

impl Aborted {
    /// Waits for a key of the group until it is there, the group is aborted or the peer has been silent for too long.
    fn wait(&self, group: &Group, rendezvous: &dyn Rendezvous, key: &str) -> Result<Vec<u8>, String> {
        let started = std::time::Instant::now();
        loop {
            if self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|aborted| order(group) <= aborted) {
                return Err("aborted".to_owned());
            }
            if let Some(value) = rendezvous.get(key, SLICE_MS)? {
                return Ok(value);
            }
            if started.elapsed().as_millis() > u128::from(SILENCE_MS) {
                return Err(format!("nothing under {key} for {SILENCE_MS} ms"));
            }
        }
    }
}

impl AbortHandle for Aborted {
    fn abort(&self, group: &Group) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = (*newest).max(Some(order(group)));
    }
}

fn order(group: &Group) -> (u64, u64) {
    (group.epoch, group.generation)
}

/// round(h * 2^(e - 12)), ties away from zero; an unknown exponent adds nothing.
fn quantise(h: i64, exponent: i32) -> i64 {
    if exponent == EXPONENT_UNKNOWN {
        return 0;
    }
    let shift = exponent - POINT;
    if shift >= 0 {
        return h << shift.min(40);
    }
    let places = (-shift).min(62);
    let half = 1i64 << (places - 1);
    if h >= 0 { (h + half) >> places } else { -((-h + half) >> places) }
}

/// The smallest m with |g| < 2^m for all g = h * 2^-12.
fn magnitude(words: &[i64]) -> i32 {
    match words.iter().map(|h| h.unsigned_abs()).max() {
        None | Some(0) => GRADIENT_ZERO,
        Some(largest) => (u64::BITS - largest.leading_zeros()) as i32 - POINT,
    }
}

/// l2 norm of a gradient h * 2^-12, f64 bits.
fn norm(words: &[i64]) -> u64 {
    let square: i64 = words.iter().map(|h| h * h).sum();
    ((square as f64).sqrt() / f64::from(1 << POINT)).to_bits()
}

/// sum(r_i * q_i) mod 2^64: linear, so the digest of a sum is the sum of the digests.
fn digest(seed: u64, words: &Words<i32>) -> u64 {
    let mut bytes = blake3::Hasher::new().update(b"r").update(&seed.to_le_bytes()).finalize_xof();
    words.iter().fold(0, |sum, &word| {
        let mut r = [0; 8];
        bytes.fill(&mut r);
        sum.wrapping_add(u64::from_le_bytes(r).wrapping_mul(i64::from(word) as u64))
    })
}

/// S_t: the coordinator folds the same from the file of a checkpoint.
fn fold(state: &Words<i64>) -> StateDigest {
    polya_proto::state_digest([(FILE, bytes(state).as_slice())])
}

fn bytes(state: &Words<i64>) -> Vec<u8> {
    state.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Counts by stage; every second token is right, a token costs one nat.
fn statistics(samples: &[Sample]) -> MicrobatchStatistics {
    let mut stages = vec![StageStatistics::default(); 4];
    for sample in samples {
        for &stage in &sample.stages {
            if let Some(of) = stages.get_mut(usize::from(stage)) {
                of.tokens += 1;
                of.loss += 1 << 20;
                of.correct += of.tokens % 2;
                if !sample.corrective {
                    of.clean_tokens += 1;
                    of.clean_loss += 1 << 20;
                }
            }
        }
    }
    MicrobatchStatistics {
        stages,
        transition: 0,
        samples: samples.len() as u32,
        tokens: samples.iter().map(|sample| sample.ids.len() as u64).sum(),
        magnitudes: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_sum_is_the_sum_of_the_digests() {
        let mut trainer = IntegerFold::new(7);
        trainer.initial_state().unwrap();
        let plan = Plan { step: 1, bits: 28, exponents: vec![20, EXPONENT_UNKNOWN], ..Plan::default() };
        let mut expected = 0u64;
        for microbatch in 0..4 {
            let done = trainer.compute(&plan, &Lease { step: 1, microbatch, ..Lease::default() }).unwrap();
            expected = expected.wrapping_add(done.digest);
            trainer.keep(microbatch).unwrap();
        }
        assert_eq!(digest(7, &trainer.sum), expected);
        assert!(trainer.sum[..WORDS].iter().all(|&word| word != 0));
        assert!(trainer.sum[WORDS..].iter().all(|&word| word == 0), "an unknown exponent adds nothing");
    }

    #[test]
    fn quantising_rounds_half_away_from_zero() {
        for (h, exponent, q) in
            [(3, 12, 3), (3, 14, 12), (3, 11, 2), (-3, 11, -2), (1, 10, 0), (2, 10, 1), (-2, 10, -1)]
        {
            assert_eq!(quantise(h, exponent), q, "h {h}, exponent {exponent}");
        }
        assert_eq!(magnitude(&[0, 0]), GRADIENT_ZERO);
        assert_eq!(magnitude(&[4095, -1]), 0);
        assert_eq!(magnitude(&[-4096]), 1);
    }
}
