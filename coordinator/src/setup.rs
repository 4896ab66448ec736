//! What a run is: the core's constants and the Open record, from configuration and data.

use std::path::Path;

use coordinator_core::plan::learning_rate::LearningRate;
use coordinator_core::plan::loss_scale;
use coordinator_core::plan::schedule::{Cut, Length, Schedule};
use coordinator_core::record::{RECORD_VERSION, Record};
use coordinator_core::{Digest, Setup};

use crate::config::{self, Config};
use crate::exit::ExitError;
use crate::run_data::RunData;

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
        seed: config.run.seed,
        second_computation: config.run.second_computation,
        allow_mixed: config.run.allow_mixed,
        schedule,
        learning_rate: LearningRate {
            peak: config.train.learning_rate,
            minimum: config.train.minimum_learning_rate.min(config.train.learning_rate),
            warmup_steps,
            steps,
        },
        stage_weights: [weights.understand, weights.plan, weights.execute, weights.verify],
        dynamic_weights: config.loss.mode == "dynamic",
        // CUDA computes in fp16.
        scale_log2: if config.worker.device == "cuda" { loss_scale::START_LOG2 } else { 0 },
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
        software: concat!("polya ", env!("CARGO_PKG_VERSION")).to_owned(),
    })
}

/// Hash of what the run begins with: the base, and the adapters where there are some.
fn base_digest(config: &Config) -> Result<Digest, ExitError> {
    let base = match config.base.path.as_str() {
        "" => Digest::of(b"built-in"),
        path => folder_digest("base.path", Path::new(path))?,
    };
    if config.adapter.path.is_empty() {
        return Ok(base);
    }
    let adapters = Path::new(&config.adapter.path);
    let folders = ["", "reasoning", "verification"].map(|name| adapters.join(name));
    let mut digests = base.0.to_vec();
    for folder in folders.iter().filter(|folder| folder.join("adapter_config.json").is_file()) {
        digests.extend(folder_digest("adapter.path", folder)?.0);
    }
    if digests.len() == base.0.len() {
        let reason = format!(
            "adapter.path: {}: no adapter_config.json here, in reasoning/ or in verification/",
            adapters.display()
        );
        return Err(ExitError::usage(anyhow::anyhow!(reason)));
    }
    Ok(Digest::of(&digests))
}

/// Hash of a folder's configuration, tokenizer and weights.
fn folder_digest(key: &str, folder: &Path) -> Result<Digest, ExitError> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .map_err(|error| ExitError::usage(anyhow::anyhow!("{key}: {}: {error}", folder.display())))?
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
