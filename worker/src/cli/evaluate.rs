//! `worker evaluate`: a model's scores on a file of trajectories.

use std::path::PathBuf;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use polya_datasets::evaluation::write_rows;
use polya_datasets::parquet;

use super::model::{ModelArgs, PromptArgs};
use crate::evaluate::{Options, evaluate as scores_of};

/// What `worker evaluate` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct EvaluateArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// How questions are asked.
    #[command(flatten)]
    pub prompt: PromptArgs,
    /// Parquet of trajectories that the model has not learned.
    #[arg(long, value_name = "FILE.parquet")]
    pub data: PathBuf,
    /// Problems, probes (one error planted) and controls to score, each at most so many [default: all].
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// Longest answer in tokens.
    #[arg(long, default_value_t = 512)]
    pub max_tokens: usize,
    /// Rows decoded together.
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Chooses the planted errors and drives the bootstrap of the intervals.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Also write every text with its verdict.
    #[arg(long, value_name = "FILE.parquet")]
    pub output: Option<PathBuf>,
    /// Print one JSON document: the figures as in evaluation/final.json, and the holdout loss.
    #[arg(long)]
    pub json: bool,
}

/// Runs it.
pub fn evaluate(args: &EvaluateArgs) -> Result<()> {
    let trajectories = parquet::read(&args.data)?;
    if trajectories.is_empty() {
        bail!("{}: there is no trajectory in it", args.data.display());
    }
    let form = args.prompt.of(&args.model)?;
    let (base, adapters) = args.model.load()?;
    let options = Options {
        samples: args.samples.unwrap_or(trajectories.len()),
        max_tokens: args.max_tokens,
        batch: args.batch,
        seed: args.seed,
    };
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} texts, {eta} left") {
        bar.set_style(style);
    }
    let scores = scores_of(&base, adapters.as_ref(), (&form, &trajectories), options, |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    if let Some(path) = &args.output {
        write_rows(path, 0, &scores.rows)?;
    }
    if args.json {
        let mut json = serde_json::to_value(&scores.summary)?;
        json["holdout_loss"] = serde_json::json!(scores.holdout_loss);
        println!("{json:#}");
        return Ok(());
    }
    println!("{} problems, 95 % intervals", scores.summary.n);
    for (name, figure) in scores.summary.figures() {
        println!("{name:<27}  {figure}");
    }
    if let Some(loss) = scores.holdout_loss {
        println!("{:<27}  {loss:.4} nats", "loss a token");
    }
    Ok(())
}
