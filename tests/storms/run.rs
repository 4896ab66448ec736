//! The runs that storms go over: four kinds, each with the states that it makes undisturbed.

use std::path::Path;

use coordinator::config::{self, Config};
use coordinator::journal::Records;
use coordinator::setup::setup;
use coordinator_core::audit::Auditor;
use coordinator_core::{Digest, Record};

/// Steps of each.
pub(crate) const STEPS: u64 = 30;

/// Values of all kinds. A worker's silence is noticed soon, since a storm waits for it again and again.
const ALL: [&str; 5] = [
    "data.synthetic_count=80",
    "batch.tokens_per_microbatch=600",
    "train.max_length=500",
    "evaluation.samples=0",
    "failure_detection=250ms",
];

/// What differs: how a step is cut, how much is computed twice, how often the state is saved and the holdout measured.
const KINDS: [&[&str]; 4] = [
    &["run.seed=1", "batch.microbatches_per_step=4", "run.second_computation=0", "checkpoint.every=0"],
    &["run.seed=2", "batch.microbatches_per_step=8", "run.second_computation=1", "checkpoint.every=7"],
    &[
        "run.seed=3",
        "batch.microbatches_per_step=5",
        "run.second_computation=4",
        "run.min_workers=2",
        "checkpoint.every=4",
    ],
    &[
        "run.seed=4",
        "batch.microbatches_per_step=3",
        "run.second_computation=64",
        "checkpoint.every=10",
        "checkpoint.keep=1",
    ],
];

/// How many kinds there are.
pub(crate) const COUNT: usize = KINDS.len();

/// The configuration of a kind.
pub(crate) fn config_of(kind: usize) -> Config {
    config(&[&[format!("train.steps={STEPS}").as_str()], KINDS[kind]].concat())
}

/// The values of all kinds and these.
pub(crate) fn config(more: &[&str]) -> Config {
    let sets: Vec<String> = ALL.iter().chain(more).map(|set| (*set).to_owned()).collect();
    config::load(None, &sets).unwrap().config
}

/// Proves a finished run from its journal and data (I1, I2, I3); gives S_1, S_2, …
pub(crate) fn proven_states(dir: &Path, config: &Config) -> Result<Vec<Digest>, String> {
    let data = coordinator::run_data::load(config).map_err(|error| format!("{error:#}"))?;
    let setup = setup(config, &data).map_err(|exit| format!("{:#}", exit.error))?;
    let mut auditor = Auditor::new(&setup, &data.holdout_ids);
    let records = Records::open(&dir.join("journal")).map_err(|error| error.to_string())?;
    let records: Vec<Record> = records.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let states = records.iter().filter_map(|record| Some(auditor.take(record)?.1)).collect();
    let report = auditor.finish();
    let counts = (report.steps, report.ended, report.duplicates, report.missing, report.holdout_leaks);
    if counts != (STEPS, true, 0, 0, 0) || !report.faults.is_empty() {
        return Err(format!("steps, ended, duplicates, missing, leaks: {counts:?}; {:?}", report.faults));
    }
    Ok(states)
}
