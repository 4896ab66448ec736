//! The fold of the journal's records: what a coordinator must remember of them.
//!
//! It is lean: of the committed steps it keeps those since the oldest checkpoint that may still be loaded, so a run of any
//! length is resumed from few of them. It is written beside a sealed journal as a snapshot, and is derivable from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::event::Class;
use crate::plan::loss_scale::LossScale;
use crate::plan::stage_weights::Progress;
use crate::plan::{Plan, exponents};
use crate::record::{Commit, Record};
use crate::state::{Setup, plan_of};
use crate::statistics::Statistics;

/// Newest checkpoints whose later steps are remembered: more than are usually kept on disk, so that a damaged one has an
/// older one to fall back to.
const CHECKPOINTS_REMEMBERED: usize = 8;

/// What a replay must find again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub(crate) attempt: u32,
    pub(crate) scale_log2: i32,
    pub(crate) exponents: Vec<i32>,
    stage_weight_bits: [u32; 4],
    pub(crate) plan: Digest,
    pub(crate) sum_digest: u64,
    pub(crate) state: Digest,
}

/// Attempt of the open step, from Retry records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) number: u32,
    pub(crate) scale_log2: i32,
    pub(crate) exponents: Vec<i32>,
}

/// The fold of the journal's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Records folded so far.
    records: u64,
    /// The first record, if it is an Open.
    open: Option<Record>,
    /// Steps committed before the first of `commits`.
    forgotten: u64,
    commits: VecDeque<Committed>,
    pub(crate) retry: Option<Attempt>,
    pub(crate) magnitudes: Vec<i32>,
    scale: LossScale,
    progress: Progress,
    /// Classes of arithmetic that take part; the first is the run's.
    pub(crate) classes: Vec<Class>,
    /// The last step at which a comparison showed a worker's arithmetic to be right.
    pub(crate) checked: BTreeMap<String, u64>,
    /// Who computed something of the last step.
    pub(crate) last_workers: BTreeSet<String>,
    pub(crate) epoch: u64,
    pub(crate) ended: bool,
    /// The newest checkpoints and the hashes of their manifests; the shell takes out those that are not whole.
    checkpoints: BTreeMap<u64, Digest>,
    #[serde(skip)]
    remember: Remember,
}

/// Which committed steps are remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Remember {
    /// Those since the oldest of the newest checkpoints.
    #[default]
    Checkpoints,
    /// Those from this one on.
    From(u64),
}

impl Journal {
    /// The fold of no record. `scale_log2` is the loss scale at the start.
    pub fn new(scale_log2: i32) -> Self {
        Journal {
            records: 0,
            open: None,
            forgotten: 0,
            commits: VecDeque::new(),
            retry: None,
            magnitudes: vec![],
            scale: LossScale::starting_at(scale_log2),
            progress: Progress::default(),
            classes: vec![],
            checked: BTreeMap::new(),
            last_workers: BTreeSet::new(),
            epoch: 0,
            ended: false,
            checkpoints: BTreeMap::new(),
            remember: Remember::Checkpoints,
        }
    }

    /// The same, but it remembers every step from `step` on, and every checkpoint: for a replay from there.
    pub fn remembering_from(scale_log2: i32, step: u64) -> Self {
        Journal { remember: Remember::From(step), ..Journal::new(scale_log2) }
    }

    /// Last committed step.
    pub fn committed(&self) -> u64 {
        self.forgotten + self.commits.len() as u64
    }

    /// The step from which on commits are remembered.
    pub fn first_remembered(&self) -> u64 {
        self.forgotten + 1
    }

    /// Records folded so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The first record: what the run is.
    pub fn open(&self) -> Option<&Record> {
        self.open.as_ref()
    }

    /// S_t of a remembered step.
    pub fn state(&self, step: u64) -> Option<Digest> {
        self.commit(step).map(|commit| commit.state)
    }

    /// The last Epoch record's number.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The newest checkpoints: steps and the hashes of their manifests.
    pub fn checkpoints(&self) -> &BTreeMap<u64, Digest> {
        &self.checkpoints
    }

    /// Leaves only the checkpoints that may be loaded.
    pub fn retain_checkpoints(&mut self, mut is_good: impl FnMut(u64) -> bool) {
        self.checkpoints.retain(|step, _| is_good(*step));
    }

    /// log2 of the loss scale of the step after the last one, or of its next attempt.
    pub fn scale_log2(&self) -> i32 {
        self.retry.as_ref().map_or(self.scale.log2(), |retry| retry.scale_log2)
    }

    /// Classes of arithmetic that take part; the first is the run's.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Whether the run is finished.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Applies a durable record.
    pub fn fold(&mut self, setup: &Setup, record: &Record) {
        match record {
            Record::Open { .. } if self.records == 0 => self.open = Some(record.clone()),
            Record::Open { .. } => {}
            Record::Class { digest, words } => {
                self.classes.push(Class { digest: *digest, words: words.clone() });
            }
            Record::Epoch { epoch, .. } => self.epoch = *epoch,
            Record::Retry(retry) => {
                self.scale.retried(retry.scale_log2);
                self.retry = Some(Attempt {
                    number: retry.attempt,
                    scale_log2: retry.scale_log2,
                    exponents: retry.exponents.clone(),
                });
            }
            Record::Commit(commit) => self.fold_commit(setup, commit),
            Record::Checkpoint { step, manifest } => {
                self.checkpoints.insert(*step, *manifest);
                self.forget();
            }
            Record::End { .. } => self.ended = true,
        }
        self.records += 1;
    }

    fn fold_commit(&mut self, setup: &Setup, commit: &Commit) {
        let attempt = self.next_attempt(setup);
        self.commits.push_back(Committed {
            attempt: commit.attempt,
            scale_log2: attempt.scale_log2,
            exponents: attempt.exponents,
            stage_weight_bits: self.stage_weights(setup, commit.step).map(f32::to_bits),
            plan: commit.plan,
            sum_digest: commit.sum_digest,
            state: commit.state,
        });
        let mut total = Statistics::default();
        commit.microbatches.values().for_each(|part| total.add(&part.statistics));
        exponents::remember(&mut self.magnitudes, &total.magnitudes);
        self.retry = None;
        self.scale.committed();
        self.progress.committed(&total);
        self.last_workers = commit.microbatches.values().map(|part| part.worker.clone()).collect();
        for part in commit.microbatches.values() {
            if let Some(second) = &part.second {
                self.checked.extend([&part.worker, second].map(|worker| (worker.clone(), commit.step)));
            }
        }
        self.forget();
    }

    /// Drops the commits that no replay can need.
    fn forget(&mut self) {
        let oldest = match self.remember {
            Remember::From(step) => step,
            Remember::Checkpoints => {
                while self.checkpoints.len() > CHECKPOINTS_REMEMBERED {
                    self.checkpoints.pop_first();
                }
                let is_full = self.checkpoints.len() == CHECKPOINTS_REMEMBERED;
                self.checkpoints.keys().next().copied().filter(|_| is_full).unwrap_or(0)
            }
        };
        while self.forgotten + 1 < oldest && self.commits.pop_front().is_some() {
            self.forgotten += 1;
        }
    }

    /// What is recorded of a remembered step.
    pub(crate) fn commit(&self, step: u64) -> Option<&Committed> {
        self.commits.get(step.checked_sub(self.forgotten + 1)? as usize)
    }

    /// Attempt, scale and exponents of the step after the last committed one.
    pub(crate) fn next_attempt(&self, setup: &Setup) -> Attempt {
        if let Some(retry) = &self.retry {
            return retry.clone();
        }
        let bits = exponents::bits(setup.schedule.microbatches(self.committed() + 1).len() as u32);
        let exponents = self.magnitudes.iter().map(|&m| exponents::exponent(m, bits)).collect();
        Attempt { number: 0, scale_log2: self.scale.log2(), exponents }
    }

    /// The plan of a remembered step, or of the one after the last committed.
    pub fn plan(&self, setup: &Setup, step: u64) -> Plan {
        let attempt = match self.commit(step) {
            Some(done) => {
                Attempt { number: done.attempt, scale_log2: done.scale_log2, exponents: done.exponents.clone() }
            }
            None => self.next_attempt(setup),
        };
        plan_of(setup, step, attempt, self.stage_weights(setup, step))
    }

    /// The stage weights of a remembered step, or of the one after the last committed.
    pub fn stage_weights(&self, setup: &Setup, step: u64) -> [f32; 4] {
        match self.commit(step) {
            Some(done) => done.stage_weight_bits.map(f32::from_bits),
            None if setup.dynamic_weights => self.progress.weights(setup.stage_weights),
            None => setup.stage_weights,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::learning_rate::LearningRate;
    use crate::plan::schedule::{Cut, Length, SampleSummary, Schedule};
    use crate::record::{CommittedMicrobatch, Retry};

    const STEPS: u64 = 100;

    fn setup() -> Setup {
        let samples = (0..7).map(|i| SampleSummary { id: format!("s{i}"), tokens: 5, learned: 2 }).collect();
        let cut = Cut { seed: 3, tokens_per_microbatch: 5, microbatches_per_step: 2 };
        Setup {
            seed: 3,
            second_computation: 0,
            allow_mixed: false,
            schedule: Schedule::new(samples, cut, Length::Steps(STEPS)).unwrap(),
            learning_rate: LearningRate { peak: 1.0, minimum: 0.0, warmup_steps: 0, steps: STEPS },
            stage_weights: [1.0; 4],
            dynamic_weights: true,
            scale_log2: 0,
            checkpoint_every: 5,
            evaluation_every: 0,
            evaluate: false,
            holdout: false,
            min_workers: 1,
            failure_detection_ms: 1_000,
        }
    }

    fn digest(of: u64) -> Digest {
        Digest::of(&of.to_le_bytes())
    }

    /// Commits with moving magnitudes, a Retry now and then, a checkpoint every fifth step.
    fn records() -> Vec<Record> {
        let mut records = vec![Record::Epoch { epoch: 1, time_ms: 0 }];
        for step in 1..=STEPS {
            let again = step.is_multiple_of(7);
            if again {
                let (exponents, reason) = (vec![step as i32, 3], String::new());
                records.push(Record::Retry(Retry { step, attempt: 1, scale_log2: 0, exponents, reason }));
            }
            let statistics = Statistics { magnitudes: vec![-(step as i32 % 9), 2], ..Statistics::default() };
            let part = CommittedMicrobatch {
                digest: step,
                worker: "w0".to_owned(),
                second: Some("w1".to_owned()),
                statistics,
            };
            records.push(Record::Commit(Box::new(Commit {
                step,
                attempt: u32::from(again),
                time_ms: step,
                plan: digest(step),
                microbatches: BTreeMap::from([(0, part)]),
                sum_digest: step,
                state: digest(step + 1_000),
                gradient_norm_bits: 0,
            })));
            if step.is_multiple_of(5) {
                records.push(Record::Checkpoint { step, manifest: digest(step) });
            }
        }
        records
    }

    #[test]
    fn what_a_replay_from_a_remembered_checkpoint_needs_is_never_forgotten() {
        let (setup, mut lean, mut whole) = (setup(), Journal::new(0), Journal::remembering_from(0, 0));
        for record in records() {
            lean.fold(&setup, &record);
            whole.fold(&setup, &record);
            assert_eq!(lean.committed(), whole.committed());
            let from = lean.checkpoints().keys().next().copied().unwrap_or(1);
            for step in from..=lean.committed() {
                assert_eq!(lean.state(step), whole.state(step), "step {step}");
                assert_eq!(lean.plan(&setup, step), whole.plan(&setup, step), "step {step}");
            }
        }
        assert!(lean.commits.len() <= 5 * CHECKPOINTS_REMEMBERED + 1, "{} steps are remembered", lean.commits.len());
        assert_eq!(lean.state(lean.first_remembered() - 1), None);
        assert_eq!((whole.first_remembered(), whole.checkpoints().len() as u64), (1, STEPS / 5));
    }

    #[test]
    fn a_fold_survives_its_encoding() {
        let (setup, mut journal) = (setup(), Journal::new(0));
        records().iter().for_each(|record| journal.fold(&setup, record));
        let json = serde_json::to_vec(&journal).unwrap();
        assert_eq!(serde_json::from_slice::<Journal>(&json).unwrap(), journal);
    }
}
