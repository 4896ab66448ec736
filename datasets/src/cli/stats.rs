//! `datasets stats`: how many rows, and how long their stages are.

use std::path::PathBuf;

use anyhow::{Context, anyhow};

use super::{Failure, check_input, check_output};
use crate::parquet::Trajectories;
use crate::stats::{self, Collector, Lengths};
use crate::tokenizer;
use crate::tokens;
use crate::trajectory::{Stage, Trajectory};

/// Count rows by source and measure how long the stages are.
///
/// Lengths are bytes; with --tokenizer they are that model's tokens, tags and the end-of-text token included.
#[derive(Debug, Clone, clap::Args)]
pub struct StatsArgs {
    /// Parquet of trajectories; several may be given.
    #[arg(long, value_name = "FILE.parquet", required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// A model's tokenizer.json (or .json.gz).
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Prints the figures and histograms as one JSON document.
    #[arg(long)]
    json: bool,
    /// Also draws the histograms.
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
}

/// Runs it.
pub fn stats(args: &StatsArgs) -> Result<(), Failure> {
    args.input.iter().try_for_each(|path| check_input(path))?;
    args.tokenizer.as_deref().map(check_input).transpose()?;
    args.svg.as_deref().map(check_output).transpose()?;
    let (unit, measure): (_, Measure) = match &args.tokenizer {
        None => ("bytes", Box::new(|trajectory| Ok(stats::bytes(trajectory)))),
        Some(path) => ("tokens", Box::new(in_tokens(path)?)),
    };
    let mut collector = Collector::default();
    for path in &args.input {
        for trajectory in Trajectories::open(path)? {
            let trajectory = trajectory?;
            collector.add(&trajectory, measure(&trajectory)?);
        }
    }
    let statistics = collector.finish(unit);
    if let Some(path) = &args.svg {
        let picture = stats::draw(&statistics).map_err(|why| anyhow!("the histograms cannot be drawn: {why}"))?;
        std::fs::write(path, picture).with_context(|| format!("{}: cannot write", path.display()))?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&statistics)?);
    } else {
        print!("{}", stats::table(&statistics));
    }
    Ok(())
}

type Measure = Box<dyn Fn(&Trajectory) -> anyhow::Result<Lengths>>;

fn in_tokens(path: &std::path::Path) -> anyhow::Result<impl Fn(&Trajectory) -> anyhow::Result<Lengths> + use<>> {
    let tokenizer = tokenizer::open(path)?;
    let tags = tokens::tags(&tokenizer)?;
    let end = tokens::end_of_text(&tokenizer)?;
    Ok(move |trajectory: &Trajectory| {
        let sample = tokens::encode(&tokenizer, &tags[Stage::Verify.index()], end, trajectory)?;
        let count = |stage| sample.stages.iter().filter(|of| **of == stage).count() as u32;
        let [u, p, e, v] = Stage::ALL.map(|stage| count(Some(stage)));
        Ok([count(None), u, p, e, v, sample.ids.len() as u32])
    })
}
