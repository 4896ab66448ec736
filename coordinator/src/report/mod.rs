//! `coordinator report DIR`: one page about a run, with nothing to load from elsewhere.
//!
//! Curves, pace and events come from the journal, scores from `evaluation/`, and the last section is the audit.

mod chart;
mod page;
mod series;

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::audit::{self, proof::Proof};
use crate::config::{self, Config};
use crate::exit::ExitError;
use crate::journal;
use crate::run_data;
use crate::setup::{open_record, setup};
use series::History;

/// Everything on the page.
struct Report {
    config: Config,
    run: String,
    history: History,
    /// Step and loss on the holdout, nats a token.
    holdout: Vec<(f64, f64)>,
    /// `evaluation/final.json`, once it is there.
    scores: Option<Value>,
    proof: Proof,
}

/// Runs the command; gives the exit code: 1 where the audit does not hold.
pub fn run(run_dir: &Path) -> Result<u8, ExitError> {
    journal::of_run(run_dir)?;
    let (config, _) = config::of_run_toml(&run_dir.join("run.toml"), &[]).map_err(ExitError::usage)?;
    let data = run_data::load(&config)?;
    let setup = setup(&config, &data)?;
    let open = open_record(&config, &data, &setup)?;
    let report = Report {
        run: run_dir.display().to_string(),
        history: series::read(run_dir, &setup)?,
        holdout: holdout(run_dir),
        scores: json(&run_dir.join("evaluation/final.json")),
        proof: audit::prove(run_dir, &setup, &data, &open, |_, _| Ok(()))?,
        config,
    };
    let path = run_dir.join("report.html");
    let temporary = run_dir.join(".report.html");
    std::fs::write(&temporary, page::page(&report)).with_context(|| temporary.display().to_string())?;
    std::fs::rename(&temporary, &path).with_context(|| path.display().to_string())?;
    println!("{}", path.display());
    Ok(u8::from(!report.proof.holds()))
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// The holdout's loss at each checkpoint, in order of steps.
fn holdout(run_dir: &Path) -> Vec<(f64, f64)> {
    let entries = std::fs::read_dir(run_dir.join("evaluation")).into_iter().flatten().flatten();
    let is_holdout = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("holdout-");
    let point = |entry: std::fs::DirEntry| {
        let json = json(&entry.path())?;
        Some((json["step"].as_f64()?, json["holdout_loss"].as_f64()?))
    };
    let mut points: Vec<(f64, f64)> = entries.filter(is_holdout).filter_map(point).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}
