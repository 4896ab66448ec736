//! `datasets inject`: planted errors and their controls.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Failure, write_trajectories};
use crate::parquet;
use crate::plant::{KINDS, plant, twin};
use crate::synthesize::Random;

/// What `datasets inject` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct InjectArgs {
    /// Parquet of right trajectories.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// File to write: .parquet, or .jsonl.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Share of the trajectories in which an error is planted, 0 to 1.
    #[arg(long)]
    rate: f64,
    /// Kinds of error, separated by commas [default: all].
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(KINDS))]
    kinds: Vec<String>,
    /// Keep the right trajectory beside each planted one, as its control.
    #[arg(long)]
    twins: bool,
    /// Keys choice and errors.
    #[arg(long)]
    seed: u64,
}

/// Runs it.
pub fn inject(args: &InjectArgs) -> Result<(), Failure> {
    if !(0.0..=1.0).contains(&args.rate) {
        return Err(Failure::usage(anyhow::anyhow!("--rate {} is not between 0 and 1", args.rate)));
    }
    let kinds: Vec<&str> =
        if args.kinds.is_empty() { KINDS.to_vec() } else { args.kinds.iter().map(String::as_str).collect() };
    let input = parquet::read(&args.input)?;
    let mut output = Vec::with_capacity(input.len());
    let (mut planted, mut refused) = (0, BTreeMap::<String, u64>::new());
    for (index, trajectory) in (0u64..).zip(&input) {
        if !Random::new([args.seed, index, 0x5241_5445]).chance(args.rate) {
            output.push(trajectory.clone());
            continue;
        }
        match plant(trajectory, &kinds, args.seed) {
            Ok(wrong) => {
                planted += 1;
                output.push(wrong);
                if args.twins {
                    output.push(twin(trajectory));
                }
            }
            Err(error) => {
                *refused.entry(error.to_string()).or_default() += 1;
                output.push(trajectory.clone());
            }
        }
    }
    let metadata = BTreeMap::from([
        ("polya.source".to_owned(), format!("inject --rate {} --seed {}", args.rate, args.seed)),
        ("polya.planted".to_owned(), planted.to_string()),
        ("polya.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    write_trajectories(&args.output, &output, &metadata)?;
    println!("{} trajectories read, an error planted in {planted}, {} written", input.len(), output.len());
    for (reason, count) in refused {
        println!("  {count} stay as they are: {reason}");
    }
    Ok(())
}
