//! `coordinator audit`: proves from journal and data alone that every sample counted once, and names what does not hold.

use std::path::Path;

use coordinator_core::audit::Audit;
use coordinator_core::plan::learning_rate::LearningRate;
use coordinator_core::plan::schedule::{Cut, Length, Schedule};
use coordinator_core::record::{RECORD_VERSION, Record};
use coordinator_core::{Digest, Setup};

use crate::checkpoints;
use crate::config::{self, Config};
use crate::exit::ExitError;
use crate::journal;
use crate::run_data::{self, RunData};

/// The core's constants of a run.
pub fn setup(config: &Config, data: &RunData) -> Result<Setup, ExitError> {
    let cut = Cut {
        seed: config.run.seed,
        tokens_per_microbatch: config.batch.tokens_per_microbatch,
        microbatches_per_step: config.batch.microbatches_per_step,
    };
    let length = match config.train.steps {
        0 => Length::Epochs(config.train.epochs),
        steps => Length::Steps(steps),
    };
    let schedule = Schedule::new(data.summaries.clone(), cut, length).map_err(ExitError::usage)?;
    let steps = schedule.steps();
    let warmup_steps = match config.train.warmup_steps {
        0 => (steps / 10).min(300),
        steps => steps,
    };
    let weights = &config.loss.weights;
    Ok(Setup {
        schedule,
        learning_rate: LearningRate {
            peak: config.train.learning_rate,
            minimum: config.train.minimum_learning_rate.min(config.train.learning_rate),
            warmup_steps,
            steps,
        },
        stage_weights: [weights.understand, weights.plan, weights.execute, weights.verify],
        scale_log2: 0,
        checkpoint_every: config.checkpoint.every,
        evaluation_every: config.evaluation.every,
        evaluate: config.evaluation.samples > 0,
        holdout: !data.holdout.is_empty(),
        min_workers: config.run.min_workers,
        failure_detection_ms: config.failure_detection_ms(),
    })
}

/// The Open record of a run: what a resumed or audited run must be again.
pub fn open_record(config: &Config, data: &RunData, setup: &Setup) -> Result<Record, ExitError> {
    Ok(Record::Open {
        version: RECORD_VERSION,
        config: Digest::of(config::outcome_text(config).as_bytes()),
        data: data.digest,
        base: base_digest(config)?,
        samples: setup.schedule.samples().len() as u64,
        steps: setup.schedule.steps(),
    })
}

/// Hash of the base's configuration, tokenizer and weights; of its name where it is built in.
fn base_digest(config: &Config) -> Result<Digest, ExitError> {
    if config.base.path.is_empty() {
        return Ok(Digest::of(b"built-in"));
    }
    let folder = Path::new(&config.base.path);
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .map_err(|error| ExitError::usage(anyhow::anyhow!("base.path: {}: {error}", folder.display())))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors" || e == "json"))
        .collect();
    names.sort();
    let mut hasher = blake3::Hasher::new();
    for path in names {
        hasher.update(path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default());
        let mut file = std::fs::File::open(&path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        let mut of_file = blake3::Hasher::new();
        std::io::copy(&mut file, &mut of_file).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        hasher.update(of_file.finalize().as_bytes());
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}

/// Runs the command; gives the exit code.
pub fn run(run_dir: &Path, as_json: bool) -> Result<u8, ExitError> {
    let journal_path = run_dir.join("journal");
    if !journal_path.is_file() {
        let reason = anyhow::anyhow!("{}: no journal here; is it a run directory?", run_dir.display());
        return Err(ExitError::usage(reason));
    }
    let mut faults = vec![];
    let (report, head, chain_ok) = match journal::read(&journal_path) {
        Ok(contents) => {
            let (config, _) = config::of_run_toml(&run_dir.join("run.toml"), &[]).map_err(ExitError::usage)?;
            let data = run_data::load(&config)?;
            let setup = setup(&config, &data)?;
            if let Some(open) = contents.records.first()
                && *open != open_record(&config, &data, &setup)?
            {
                faults.push("configuration, data or base are not those of the journal".to_owned());
            }
            let report = coordinator_core::audit::audit(setup, &contents.records, &data.holdout_ids);
            (report, Some(contents.head), true)
        }
        Err(error) => {
            faults.push(error.to_string());
            (Audit::default(), None, false)
        }
    };
    let checkpoint_faults = checkpoint_faults(run_dir, &report);
    let checkpoints_ok = chain_ok && checkpoint_faults.is_empty();
    faults.extend(report.faults.iter().cloned());
    faults.extend(checkpoint_faults);
    let counts_hold = report.duplicates == 0 && report.missing == 0 && report.holdout_leaks == 0;
    let holds = chain_ok && checkpoints_ok && counts_hold && faults.is_empty();
    if as_json {
        let digests: Vec<_> =
            report.digests.iter().map(|(step, digest)| serde_json::json!({ "step": step, "digest": digest })).collect();
        let json = serde_json::json!({
            "steps": report.steps, "samples": report.samples, "epochs": report.epochs,
            "duplicates": report.duplicates, "missing": report.missing, "holdout_leaks": report.holdout_leaks,
            "recomputed": report.recomputed, "chain_ok": chain_ok, "checkpoints_ok": checkpoints_ok,
            "digests": digests, "digest": report.digests.last().map(|(_, digest)| digest),
            "head": head, "ended": report.ended, "faults": faults,
        });
        println!("{json:#}");
    } else {
        println!("steps {}, samples {}, finished epochs {}", report.steps, report.samples, report.epochs);
        println!(
            "duplicates {}, missing {}, holdout leaks {}",
            report.duplicates, report.missing, report.holdout_leaks
        );
        println!("hash chain {}, checkpoints {}", word(chain_ok), word(checkpoints_ok));
        if let Some((step, digest)) = report.digests.last() {
            println!("state after step {step}: {digest}");
        }
        head.into_iter().for_each(|head| println!("head of the hash chain: {head}"));
        faults.iter().for_each(|fault| println!("FAULT: {fault}"));
        println!("{}", if holds { "proven" } else { "NOT proven" });
    }
    Ok(u8::from(!holds))
}

fn word(ok: bool) -> &'static str {
    if ok { "whole" } else { "DAMAGED" }
}

/// Every checkpoint on disk that the journal knows must be whole and hold the committed state.
fn checkpoint_faults(run_dir: &Path, report: &Audit) -> Vec<String> {
    let mut faults = vec![];
    for (step, expected) in &report.checkpoints {
        let folder = checkpoints::folder(run_dir, *step);
        if !folder.exists() {
            continue; // pruned: checkpoint.keep
        }
        match checkpoints::verify(&folder) {
            Ok((_, manifest)) if manifest != *expected => {
                faults.push(format!("{}: its manifest is not the journal's", folder.display()));
            }
            Ok((state, _)) => {
                let committed = report.digests.iter().find(|(at, _)| at == step).map(|(_, digest)| *digest);
                if committed != Some(state.state) {
                    faults.push(format!("{}: its state is not the committed one", folder.display()));
                }
            }
            Err(error) if !folder.exists() => drop(error), // pruned meanwhile by a live run
            Err(error) => faults.push(error.to_string()),
        }
    }
    faults
}
