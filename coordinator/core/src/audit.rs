//! The proof from records alone: contiguous steps, each sample once an epoch, no holdout sample, sums that add up.
//!
//! The schedule is recomputed from configuration and data; the journal's plan hash binds each step to its sample ids. The
//! records are taken one by one, so a journal of any length needs the memory of one epoch's counts.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::fold::Journal;
use crate::record::{Commit, Record};
use crate::state::Setup;

/// What the records prove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Committed steps.
    pub steps: u64,
    /// Samples counted over all committed steps.
    pub samples: u64,
    /// Finished epochs.
    pub epochs: u64,
    /// Samples that were committed more than once in an epoch.
    pub duplicates: u64,
    /// Samples of finished epochs that were never committed in it.
    pub missing: u64,
    /// Holdout samples that were trained on.
    pub holdout_leaks: u64,
    /// Microbatches that were computed a second time by another worker, for comparison.
    pub recomputed: u64,
    /// Classes of arithmetic that took part, with their words; more than one only where the run allowed it.
    pub classes: Vec<(Digest, String)>,
    /// The last committed step and its S_t.
    pub last: Option<(u64, Digest)>,
    /// The journal's checkpoints by step: hash of the manifest, and S_t where the step was committed.
    pub checkpoints: BTreeMap<u64, (Digest, Option<Digest>)>,
    /// The run has its End record.
    pub ended: bool,
    /// Everything that does not hold, in words; at most [`FAULTS_MAX`].
    pub faults: Vec<String>,
    /// Faults beyond those.
    pub more_faults: u64,
}

/// Faults that are told in words.
pub const FAULTS_MAX: usize = 100;

impl Audit {
    fn fault(&mut self, words: String) {
        if self.faults.len() < FAULTS_MAX { self.faults.push(words) } else { self.more_faults += 1 }
    }
}

/// Takes a journal's records once, in order.
#[derive(Debug)]
pub struct Auditor<'a> {
    setup: &'a Setup,
    holdout: &'a BTreeSet<String>,
    journal: Journal,
    /// How often each sample was committed in the present epoch.
    seen: Vec<u32>,
    report: Audit,
}

impl<'a> Auditor<'a> {
    /// `holdout` are the ids that must never be trained on.
    pub fn new(setup: &'a Setup, holdout: &'a BTreeSet<String>) -> Self {
        let seen = vec![0; setup.schedule.samples().len()];
        Auditor { setup, holdout, journal: Journal::new(setup.scale_log2), seen, report: Audit::default() }
    }

    /// The next record. Gives the step and its S_t where it commits the step that is due.
    pub fn take(&mut self, record: &Record) -> Option<(u64, Digest)> {
        let before = self.report.steps;
        let index = self.journal.records();
        let is_open = matches!(record, Record::Open { .. });
        match (index, is_open) {
            (0, false) => self.report.fault("the journal does not begin with Open".to_owned()),
            (1.., true) => self.report.fault(format!("record {index}: a second Open")),
            _ => {}
        }
        match record {
            Record::Open { steps, samples, .. } => self.opens(*steps, *samples),
            Record::Class { digest, words } => self.report.classes.push((*digest, words.clone())),
            Record::Epoch { epoch, .. } => {
                let last = self.journal.epoch();
                if *epoch <= last {
                    self.report.fault(format!("record {index}: coordinator epoch {epoch} after {last}"));
                }
            }
            Record::Retry(retry) => {
                let expected = (self.journal.committed() + 1, self.journal.next_attempt(self.setup).number + 1);
                if (retry.step, retry.attempt) != expected {
                    self.report.fault(format!("record {index}: Retry of step {} is out of order", retry.step));
                }
            }
            Record::Commit(commit) => self.commits(commit),
            Record::Checkpoint { step, manifest } => {
                if *step > self.journal.committed() {
                    self.report.fault(format!("record {index}: a checkpoint of step {step}, which is not committed"));
                }
                self.report.checkpoints.insert(*step, (*manifest, self.journal.state(*step)));
            }
            Record::End { step } => {
                self.report.ended = true;
                let steps = self.setup.schedule.steps();
                if *step != steps || *step != self.journal.committed() {
                    self.report.fault(format!("the run ends at step {step} of {steps}"));
                }
            }
        }
        self.journal.fold(self.setup, record);
        self.report.last.filter(|_| self.report.steps > before)
    }

    /// What the records prove.
    pub fn finish(mut self) -> Audit {
        if self.journal.records() == 0 {
            self.report.fault("the journal holds no record".to_owned());
        }
        self.report
    }

    fn opens(&mut self, steps: u64, samples: u64) {
        let schedule = &self.setup.schedule;
        let (expected_steps, expected_samples) = (schedule.steps(), schedule.samples().len() as u64);
        if (steps, samples) != (expected_steps, expected_samples) {
            self.report.fault(format!(
                "the journal is of {steps} steps over {samples} samples, configuration and data give {expected_steps} \
                 over {expected_samples}"
            ));
        }
    }

    fn commits(&mut self, commit: &Commit) {
        let (step, schedule, report) = (commit.step, &self.setup.schedule, &mut self.report);
        if report.classes.is_empty() {
            report.fault(format!("step {step} is committed before any class of arithmetic was written down"));
        }
        let expected = self.journal.committed() + 1;
        if step != expected || step > schedule.steps() {
            return report.fault(format!("step {step} is committed where step {expected} should be"));
        }
        if self.journal.plan(self.setup, step).hash != commit.plan {
            report.fault(format!("step {step}: the plan of configuration and data is not the committed one"));
        }
        let microbatches = schedule.microbatches(step);
        if !commit.microbatches.keys().copied().eq(0..microbatches.len() as u32) {
            report.fault(format!("step {step}: not each microbatch stands once in the commit"));
        }
        let sum = commit.microbatches.values().fold(0u64, |sum, part| sum.wrapping_add(part.digest));
        if sum != commit.sum_digest {
            report.fault(format!("step {step}: the microbatches' digests do not add up to the sum's"));
        }
        for (k, part) in &commit.microbatches {
            if part.second.as_ref() == Some(&part.worker) {
                report.fault(format!("step {step}, microbatch {k}: {} checked itself", part.worker));
            }
            report.recomputed += u64::from(part.second.is_some());
        }
        for &index in microbatches.iter().flatten() {
            let seen = &mut self.seen[index as usize];
            *seen += 1;
            report.samples += 1;
            report.duplicates += u64::from(*seen > 1);
            report.holdout_leaks += u64::from(self.holdout.contains(&schedule.samples()[index as usize].id));
        }
        let (epoch, last_of_epoch) = schedule.epoch_of(step);
        if last_of_epoch {
            report.missing += self.seen.iter().filter(|count| **count == 0).count() as u64;
            report.epochs = epoch + 1;
            self.seen.fill(0);
        }
        report.steps += 1;
        report.last = Some((step, commit.state));
    }
}
