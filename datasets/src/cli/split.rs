//! `datasets split`: a holdout by problem.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::parquet;
use crate::split::is_holdout;
use anyhow::{Context, anyhow};
use clap::Args;

use super::{Failure, check_input, check_output};

/// Splits a file by problem: the same problem, however it is typed, never lands on both sides.
///
/// The side of a problem is a hash of its normalised question and the seed, so that it does not depend on the other
/// rows or their order.
#[derive(Debug, Args)]
pub struct Split {
    /// Trajectories, as Parquet.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// The training side.
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// The holdout side.
    #[arg(long, value_name = "FILE")]
    holdout: PathBuf,
    /// Share of the problems that go to the holdout, 0 to 1.
    #[arg(long, value_name = "X")]
    fraction: f64,
    /// Another seed is another split.
    #[arg(long, value_name = "S")]
    seed: u64,
    /// Prints the counts as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &Split) -> Result<(), Failure> {
    if !(0.0..=1.0).contains(&arguments.fraction) {
        return Err(Failure::usage(anyhow!("--fraction {}: give a number from 0 to 1", arguments.fraction)));
    }
    if arguments.train == arguments.holdout {
        return Err(Failure::usage(anyhow!("--train and --holdout name the same file; give two")));
    }
    check_input(&arguments.input)?;
    check_output(&arguments.train)?;
    check_output(&arguments.holdout)?;
    let name = arguments.input.display();
    let all = parquet::read(&arguments.input).with_context(|| format!("{name}: cannot read"))?;
    let input_hash = blake3::hash(&std::fs::read(&arguments.input).with_context(|| format!("{name}: cannot read"))?);
    let held = |trajectory: &crate::trajectory::Trajectory| {
        is_holdout(&trajectory.question, arguments.seed, arguments.fraction)
    };
    let (holdout, train): (Vec<_>, Vec<_>) = all.iter().partition(|trajectory| held(trajectory));
    for (path, side, rows) in [(&arguments.train, "train", &train), (&arguments.holdout, "holdout", &holdout)] {
        let metadata = BTreeMap::from([
            ("polya.source_hash".to_owned(), format!("blake3:{}", input_hash.to_hex())),
            ("polya.parser".to_owned(), "split-1".to_owned()),
            ("polya.counts".to_owned(), serde_json::json!({ "read": all.len(), "kept": rows.len() }).to_string()),
            ("polya.split".to_owned(), format!("{side}, fraction {}, seed {}", arguments.fraction, arguments.seed)),
        ]);
        parquet::write(path, rows.iter().copied(), &metadata)
            .with_context(|| format!("{}: cannot write", path.display()))?;
    }
    let (read, train, holdout) = (all.len(), train.len(), holdout.len());
    if arguments.json {
        println!("{}", serde_json::json!({ "read": read, "train": train, "holdout": holdout }));
    } else {
        println!("read {read} = train {train} + holdout {holdout}");
    }
    Ok(())
}
