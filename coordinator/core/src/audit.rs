//! The proof from records alone: contiguous steps, each sample once an epoch, no holdout sample, sums that add up.
//!
//! The schedule is recomputed from configuration and data; the journal's plan hash binds each step to its sample ids.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::record::{Commit, Record};
use crate::state::{Setup, State};

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
    /// S_t of each committed step.
    pub digests: Vec<(u64, Digest)>,
    /// Manifest hashes of the journal's checkpoints.
    pub checkpoints: BTreeMap<u64, Digest>,
    /// The run has its End record.
    pub ended: bool,
    /// Everything that does not hold, in words.
    pub faults: Vec<String>,
}

/// Reads the records once, in order. `holdout` are the ids that must never be trained on.
pub fn audit(setup: Setup, records: &[Record], holdout: &BTreeSet<String>) -> Audit {
    let mut report = Audit::default();
    let mut state = State::new(setup, &[], BTreeSet::new(), BTreeSet::new());
    let mut seen: Vec<u32> = vec![0; state.setup.schedule.samples().len()];
    let mut last_epoch_record = 0;
    for (index, record) in records.iter().enumerate() {
        match record {
            Record::Open { steps, samples, .. } => {
                if index != 0 {
                    report.faults.push(format!("record {index}: a second Open"));
                }
                let schedule = &state.setup.schedule;
                if (*steps, *samples) != (schedule.steps(), schedule.samples().len() as u64) {
                    report.faults.push(format!(
                        "the journal is of {steps} steps over {samples} samples, configuration and data give {} over {}",
                        schedule.steps(),
                        schedule.samples().len()
                    ));
                }
            }
            Record::Epoch { epoch, .. } => {
                if *epoch <= last_epoch_record {
                    report.faults.push(format!("record {index}: coordinator epoch {epoch} after {last_epoch_record}"));
                }
                last_epoch_record = *epoch;
            }
            Record::Retry(retry) => {
                let expected = (state.journal.committed() + 1, state.next_attempt().number + 1);
                if (retry.step, retry.attempt) != expected {
                    report.faults.push(format!("record {index}: Retry of step {} is out of order", retry.step));
                }
            }
            Record::Commit(commit) => commit_holds(&state, commit, &mut seen, holdout, &mut report),
            Record::Checkpoint { step, manifest } => {
                if *step > state.journal.committed() {
                    report.faults.push(format!("record {index}: a checkpoint of step {step}, which is not committed"));
                }
                report.checkpoints.insert(*step, *manifest);
            }
            Record::End { step } => {
                report.ended = true;
                if *step != state.setup.schedule.steps() || *step != state.journal.committed() {
                    report.faults.push(format!("the run ends at step {step} of {}", state.setup.schedule.steps()));
                }
            }
        }
        state.fold(record);
    }
    if !matches!(records.first(), Some(Record::Open { .. })) {
        report.faults.push("the journal does not begin with Open".to_owned());
    }
    report
}

fn commit_holds(state: &State, commit: &Commit, seen: &mut [u32], holdout: &BTreeSet<String>, report: &mut Audit) {
    let step = commit.step;
    let expected = state.journal.committed() + 1;
    if step != expected || step > state.setup.schedule.steps() {
        return report.faults.push(format!("step {step} is committed where step {expected} should be"));
    }
    let plan = state.plan(step);
    if plan.hash != commit.plan {
        report.faults.push(format!("step {step}: the plan of configuration and data is not the committed one"));
    }
    let schedule = &state.setup.schedule;
    let microbatches = schedule.microbatches(step);
    if !commit.microbatches.keys().copied().eq(0..microbatches.len() as u32) {
        report.faults.push(format!("step {step}: not each microbatch stands once in the commit"));
    }
    let sum = commit.microbatches.values().fold(0u64, |sum, part| sum.wrapping_add(part.digest));
    if sum != commit.sum_digest {
        report.faults.push(format!("step {step}: the microbatches' digests do not add up to the sum's"));
    }
    let (epoch, last_of_epoch) = schedule.epoch_of(step);
    for &index in microbatches.iter().flatten() {
        report.samples += 1;
        seen[index as usize] += 1;
        report.duplicates += u64::from(seen[index as usize] > 1);
        report.holdout_leaks += u64::from(holdout.contains(&schedule.samples()[index as usize].id));
    }
    if last_of_epoch {
        report.missing += seen.iter().filter(|count| **count == 0).count() as u64;
        report.epochs = epoch + 1;
        seen.fill(0);
    }
    report.steps += 1;
    report.digests.push((step, commit.state));
}
