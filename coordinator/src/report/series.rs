//! Curves of a run, read from the journal once: at most so many points, whatever its length.

use std::collections::BTreeMap;
use std::path::Path;

use coordinator_core::record::Commit;
use coordinator_core::statistics::Statistics;
use coordinator_core::{Record, Setup};

use crate::journal::{JournalError, Records};

/// Points of a curve; neighbouring steps are taken together beyond that.
const POINTS_MAX: u64 = 1_000;
/// Events that are listed.
const EVENTS_MAX: usize = 200;

/// Several steps taken together.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub(super) step: u64,
    pub(super) total: Statistics,
    pub(super) gradient_norm: f64,
    pub(super) learning_rate: f64,
    from_ms: u64,
    to_ms: u64,
    commits: u64,
}

impl Bucket {
    /// Tokens a second; none for a bucket of one moment.
    pub(super) fn tokens_per_s(&self) -> Option<f64> {
        let seconds = self.to_ms.checked_sub(self.from_ms)? as f64 / 1000.0;
        (seconds > 0.0 && self.from_ms > 0).then(|| self.total.tokens as f64 / seconds)
    }

    /// Share of a stage's tokens that were predicted right.
    pub(super) fn accuracy(&self, stage: usize) -> Option<f64> {
        let of = self.total.stages[stage];
        (of.tokens > 0).then(|| of.correct as f64 / of.tokens as f64)
    }

    /// Mean over the bucket's steps.
    pub(super) fn norm(&self) -> f64 {
        self.gradient_norm / self.commits.max(1) as f64
    }
}

/// What the journal tells.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) buckets: Vec<Bucket>,
    pub(super) steps: u64,
    pub(super) first_ms: u64,
    pub(super) last_ms: u64,
    /// Microbatches that each worker computed.
    pub(super) workers: BTreeMap<String, u64>,
    /// Time and words, oldest first.
    pub(super) events: Vec<(u64, String)>,
    pub(super) more_events: u64,
    pub(super) ended: bool,
}

/// Reads the journal.
pub(super) fn read(run_dir: &Path, setup: &Setup) -> Result<History, JournalError> {
    let per_bucket = setup.schedule.steps().div_ceil(POINTS_MAX).max(1);
    let mut history = History::default();
    for record in Records::open(&run_dir.join("journal"))? {
        let now = history.last_ms;
        match record? {
            Record::Commit(commit) => history.commits(&commit, setup, per_bucket),
            Record::Epoch { epoch: 1, time_ms } => history.event(time_ms, "the run began".to_owned()),
            Record::Epoch { epoch, time_ms } => {
                let words = format!("the coordinator came back after step {} (epoch {epoch})", history.steps);
                history.event(time_ms, words);
            }
            Record::Retry(retry) => {
                history.event(now, format!("step {} was tried again: {}", retry.step, retry.reason))
            }
            Record::Class { words, .. } => history.event(now, format!("class of arithmetic: {words}")),
            Record::End { step } => {
                history.event(now, format!("the run ended with step {step}"));
                history.ended = true;
            }
            _ => {}
        }
    }
    Ok(history)
}

impl History {
    fn event(&mut self, time_ms: u64, words: String) {
        self.last_ms = self.last_ms.max(time_ms);
        self.first_ms = if self.first_ms == 0 { time_ms } else { self.first_ms };
        if self.events.len() < EVENTS_MAX { self.events.push((time_ms, words)) } else { self.more_events += 1 }
    }

    fn commits(&mut self, commit: &Commit, setup: &Setup, per_bucket: u64) {
        if self.buckets.last().is_none_or(|bucket| bucket.commits == per_bucket) {
            self.buckets.push(Bucket { from_ms: self.last_ms, ..Bucket::default() });
        }
        if let Some(bucket) = self.buckets.last_mut() {
            bucket.step = commit.step;
            bucket.commits += 1;
            bucket.to_ms = commit.time_ms;
            bucket.gradient_norm += f64::from_bits(commit.gradient_norm_bits);
            bucket.learning_rate = setup.learning_rate.at(commit.step);
            commit.microbatches.values().for_each(|part| bucket.total.add(&part.statistics));
        }
        for part in commit.microbatches.values() {
            *self.workers.entry(part.worker.clone()).or_default() += 1;
        }
        self.steps = commit.step;
        self.last_ms = self.last_ms.max(commit.time_ms);
    }
}
