//! A run that begins where another one stands: the same configuration, the adapters of its newest good checkpoint, and its
//! name in `run.parent`, which is part of what the journal binds. Optimiser and schedule begin anew.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use crate::checkpoints;
use crate::exit::ExitError;
use crate::journal::Records;

/// The configuration file of such a run, and the values that go before those of the command line.
pub fn configuration(parent: &Path, epochs: Option<u32>) -> Result<(PathBuf, Vec<String>), ExitError> {
    let path = parent.join("journal");
    if !path.is_file() {
        return Err(ExitError::usage(anyhow!("--from {}: no run here (no journal)", parent.display())));
    }
    let good = |step: &u64| checkpoints::verify(&checkpoints::folder(parent, *step)).ok();
    let newest = checkpoints::steps(parent).into_iter().rev().find_map(|step| good(&step));
    let (state, _) = newest
        .ok_or_else(|| ExitError::usage(anyhow!("--from {}: no good checkpoint to begin with", parent.display())))?;
    let mut records = Records::open(&path)?;
    for record in records.by_ref() {
        record?;
    }
    let head = records.head().map_or_else(String::new, |head| head.to_string());
    let folder = checkpoints::folder(parent, state.step);
    let folder = std::fs::canonicalize(&folder).with_context(|| folder.display().to_string())?;
    let mut sets = vec![
        format!("adapter.path={}", folder.display()),
        format!("run.parent=step {}, state {}, head of the chain {head}", state.step, state.state),
        "checkpoint.store=".to_owned(), // the parent's copy is the parent's
    ];
    if let Some(epochs) = epochs {
        sets.extend([format!("train.epochs={epochs}"), "train.steps=0".to_owned(), "train.warmup_steps=0".to_owned()]);
    }
    Ok((parent.join("run.toml"), sets))
}
