//! The history of one sample: when, by whom and with which weight it was computed and committed, epoch by epoch.

use std::fmt;
use std::path::Path;

use anyhow::anyhow;
use coordinator_core::record::Commit;
use coordinator_core::{Journal, Record, Setup};
use polya_proto::v1;
use serde_json::{Value, json};

use crate::exit::ExitError;
use crate::journal::Records;
use crate::run_data::RunData;
use crate::time::utc;

const STAGES: [&str; 4] = ["understand", "plan", "execute", "verify"];

/// What happened to one sample.
#[derive(Debug)]
pub(super) struct History {
    sample: String,
    holdout: bool,
    /// Learned tokens by stage.
    tokens: [u64; 4],
    /// As configured.
    stage_weights: [f32; 4],
    is_dynamic: bool,
    commits: Vec<Committed>,
    /// Epochs that are finished.
    epochs: u64,
}

#[derive(Debug)]
struct Committed {
    epoch: u64,
    step: u64,
    attempt: u32,
    time_ms: u64,
    microbatch: u32,
    worker: String,
    /// Who computed it again and found the same.
    second: Option<String>,
    /// Samples of the step: each one has the same share.
    samples: u64,
    /// Of that step.
    stage_weights: [f32; 4],
}

/// Reads the journal once.
pub(super) fn history(journal: &Path, id: &str, setup: &Setup, data: &RunData) -> Result<History, ExitError> {
    let index = data.samples.iter().position(|sample| sample.id == id);
    let holdout = data.holdout_ids.contains(id);
    if index.is_none() && !holdout {
        let reason = format!("--explain {id}: neither the training nor the holdout data of this run has such a sample");
        return Err(ExitError::usage(anyhow!(reason)));
    }
    let tokens = index.map_or([0; 4], |index| learned(&data.samples[index]));
    let (sample, stage_weights, is_dynamic) = (id.to_owned(), setup.stage_weights, setup.dynamic_weights);
    let mut history = History { sample, holdout, tokens, stage_weights, is_dynamic, commits: vec![], epochs: 0 };
    let mut fold = Journal::new(setup.scale_log2);
    for record in Records::open(journal)? {
        let record = record?;
        let weights = fold.stage_weights(setup, fold.committed() + 1);
        fold.fold(setup, &record);
        let Record::Commit(commit) = record else { continue };
        history.commits.extend(index.and_then(|index| committed(&commit, index as u32, setup, weights)));
        let (epoch, is_last) = setup.schedule.epoch_of(commit.step);
        history.epochs = if is_last { epoch + 1 } else { history.epochs };
    }
    Ok(history)
}

fn committed(commit: &Commit, index: u32, setup: &Setup, stage_weights: [f32; 4]) -> Option<Committed> {
    let microbatches = setup.schedule.microbatches(commit.step);
    let microbatch = microbatches.iter().position(|samples| samples.contains(&index))? as u32;
    let part = commit.microbatches.get(&microbatch)?;
    Some(Committed {
        epoch: setup.schedule.epoch_of(commit.step).0 + 1,
        step: commit.step,
        attempt: commit.attempt,
        time_ms: commit.time_ms,
        microbatch,
        worker: part.worker.clone(),
        second: part.second.clone(),
        samples: microbatches.iter().map(|samples| samples.len() as u64).sum(),
        stage_weights,
    })
}

/// Learned tokens of each stage.
fn learned(sample: &v1::Sample) -> [u64; 4] {
    let is_learned = |at: &usize| sample.weight_bits.get(*at).is_none_or(|bits| f32::from_bits(*bits) != 0.0);
    let mut tokens = [0; 4];
    for at in (0..sample.stages.len()).filter(is_learned) {
        if let Some(count) = tokens.get_mut(usize::from(sample.stages[at])) {
            *count += 1;
        }
    }
    tokens
}

impl History {
    pub(super) fn json(&self) -> Value {
        let by_stage = |of: &dyn Fn(usize) -> Value| -> Value {
            STAGES.iter().enumerate().map(|(stage, name)| ((*name).to_owned(), of(stage))).collect()
        };
        let committed = |commit: &Committed| {
            json!({
                "epoch": commit.epoch, "step": commit.step, "attempt": commit.attempt, "time_ms": commit.time_ms,
                "microbatch": commit.microbatch, "worker": commit.worker,
                "second_worker": commit.second, "samples_in_step": commit.samples,
                "weight": 1.0 / commit.samples as f64,
                "stage_weights": by_stage(&|stage| commit.stage_weights[stage].into()),
            })
        };
        json!({
            "sample": self.sample, "holdout": self.holdout, "finished_epochs": self.epochs,
            "learned_tokens": by_stage(&|stage| self.tokens[stage].into()),
            "stage_weights": by_stage(&|stage| self.stage_weights[stage].into()),
            "committed": self.commits.iter().map(committed).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.holdout {
            return writeln!(f, "{}: a sample of the holdout, never part of a step", self.sample);
        }
        let stage =
            |stage: usize| format!("{} {} tokens at {}", STAGES[stage], self.tokens[stage], self.stage_weights[stage]);
        writeln!(f, "{}: {}", self.sample, [0, 1, 2, 3].map(stage).join(", "))?;
        for commit in &self.commits {
            let Committed { epoch, step, attempt, time_ms, microbatch, worker, second, samples, stage_weights } =
                commit;
            let second = second.as_ref().map_or(String::new(), |second| format!(" and again by {second}"));
            let again = if *attempt > 0 { format!(", attempt {attempt}") } else { String::new() };
            let stages = if self.is_dynamic { format!(", its stages {stage_weights:?}") } else { String::new() };
            writeln!(
                f,
                "epoch {epoch}: step {step}{again}, microbatch {microbatch}, computed by {worker}{second}, committed {}, weight \
                 1/{samples} of the step{stages}",
                utc(*time_ms)
            )?;
        }
        let count = self.commits.len();
        writeln!(f, "committed {count} times; {} epochs are finished", self.epochs)
    }
}
