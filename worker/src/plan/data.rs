//! The tokens of a run's training data, and how they fill its microbatches.

use std::path::Path;

use anyhow::{Context, Result};
use coordinator_core::plan::schedule::{Cut, Length, SampleSummary, Schedule};
use polya_datasets::parquet;
use polya_datasets::prompt::PromptForm;
use polya_datasets::synthesize::{STEPS, synthesize};
use polya_datasets::tokens;
use tokenizers::Tokenizer;

use super::settings::Settings;

/// Built-in problems that are looked at; the rest is like them.
const BUILT_IN: u64 = 2000;

/// What the data says.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokens {
    /// Share of the token budget that no token fills.
    pub unused: f64,
    /// Optimiser steps of the run.
    pub steps: f64,
    /// Mean tokens of a sample, its shadow tag included.
    pub mean: f64,
    /// Mean of their squares.
    pub mean_square: f64,
    /// Longest sample.
    pub longest: f64,
    /// Share of tokens that are learned.
    pub learned: f64,
    /// Share of tokens from the VERIFY tag on.
    pub verified: f64,
}

/// Tokenises the training data (a sample of the built-in problems) and packs it as the run will.
pub fn tokens(settings: &Settings, tokenizer: &Tokenizer) -> Result<Tokens> {
    let tags = tokens::tags(tokenizer)?;
    let form = PromptForm::of_name(settings.text("data.prompt")?, Path::new(settings.text("base.path")?))?;
    let end = form.end(tokenizer)?;
    let path = settings.text("data.train")?;
    let (trajectories, represent) = match path {
        "" => {
            let count = settings.number("data.synthetic_count")?;
            let sample: Vec<_> = (0..BUILT_IN.min(count as u64)).map(|index| synthesize(1, index, STEPS)).collect();
            let represent = count / sample.len().max(1) as f64;
            (sample, represent)
        }
        path => {
            let train = parquet::read(Path::new(path))?;
            let held =
                if settings.text("data.holdout")?.is_empty() { settings.number("data.holdout_fraction")? } else { 0.0 };
            (train, 1.0 - held)
        }
    };
    let shadow = if settings.flag("adapter.verification")? { tags[3].line.len() - 1 } else { 0 };
    let (longest_kept, budget) =
        (settings.number("train.max_length")?, settings.number("batch.tokens_per_microbatch")?);
    let mut summaries = vec![];
    let (mut learned, mut verified) = (0usize, 0usize);
    for trajectory in &trajectories {
        let Ok(sample) = tokens::encode_as(&form, tokenizer, &tags[3], end, trajectory) else { continue };
        let packed = sample.ids.len() + shadow;
        if sample.ids.len() as f64 <= longest_kept && packed as f64 <= budget {
            learned += sample.learned();
            verified += sample.ids.len() - sample.verify_tag.start;
            summaries.push(SampleSummary {
                id: sample.id.clone(),
                tokens: packed as u32,
                learned: sample.learned() as u32,
            });
        }
    }
    let lengths: Vec<f64> = summaries.iter().map(|summary| f64::from(summary.tokens)).collect();
    let total: f64 = lengths.iter().sum();
    let cut = Cut {
        seed: settings.number("run.seed")? as u64,
        tokens_per_microbatch: budget as u32,
        microbatches_per_step: settings.number("batch.microbatches_per_step")? as u32,
    };
    let schedule = Schedule::new(summaries, cut, Length::Epochs(1))
        .with_context(|| if path.is_empty() { "the built-in problems".to_owned() } else { path.to_owned() })?;
    let by_epochs = schedule.steps() as f64 * represent * settings.number("train.epochs")?;
    let steps = settings.number("train.steps")?;
    Ok(Tokens {
        unused: schedule.unused(0, cut.tokens_per_microbatch),
        steps: if steps > 0.0 { steps } else { by_epochs.ceil() },
        mean: total / lengths.len() as f64,
        mean_square: lengths.iter().map(|length| length * length).sum::<f64>() / lengths.len() as f64,
        longest: lengths.iter().copied().fold(0.0, f64::max),
        learned: learned as f64 / total,
        verified: verified as f64 / total,
    })
}
