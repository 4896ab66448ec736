//! `datasets synthesize`: the built-in problems.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::output::Output;
use super::{Failure, check_output};
use crate::synthesize::{STEPS, synthesize as problem};

/// Problems made at once; memory does not grow with the file.
const CHUNK: u64 = 256;

/// What `datasets synthesize` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct SynthesizeArgs {
    /// File to write: .parquet, or .jsonl.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// How many problems.
    #[arg(long)]
    count: u64,
    /// Keys the problems; the same seed gives the same file.
    #[arg(long)]
    seed: u64,
    /// Calculations a problem: one number, or a range such as 1..6 (both ends included).
    #[arg(long, default_value = "1..6", value_parser = parse_steps)]
    steps: RangeInclusive<u32>,
}

fn parse_steps(text: &str) -> Result<RangeInclusive<u32>, String> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let number =
        |text: &str| text.trim_start_matches('=').parse::<u32>().map_err(|_| format!("`{text}` is not a number"));
    let range = number(low)?..=number(high)?;
    if range.is_empty() || !STEPS.contains(range.start()) || !STEPS.contains(range.end()) {
        return Err(format!("steps are between {} and {}", STEPS.start(), STEPS.end()));
    }
    Ok(range)
}

/// Runs it.
pub fn synthesize(args: &SynthesizeArgs) -> Result<(), Failure> {
    check_output(&args.output)?;
    let mut output = Output::create(&args.output)?;
    for start in (0..args.count).step_by(CHUNK as usize) {
        let indices = start..args.count.min(start + CHUNK);
        output.write(indices.into_par_iter().map(|index| problem(args.seed, index, args.steps.clone())).collect())?;
    }
    let metadata = BTreeMap::from([
        ("polya.source".to_owned(), format!("synthesize --seed {} --count {}", args.seed, args.count)),
        ("polya.kept".to_owned(), args.count.to_string()),
        ("polya.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    output.finish(&metadata)?;
    println!("{} problems written to {}", args.count, args.output.display());
    Ok(())
}
