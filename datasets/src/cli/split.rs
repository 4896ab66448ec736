//! `datasets split`: a holdout by problem and near-duplicate cluster.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;

use super::progress::Progress;
use super::{Failure, check_input, check_output};
use crate::parquet::{self, Trajectories, Writer};
use crate::split::{BANDS, Sides, Splitter};
use crate::trajectory::Trajectory;

/// Rows that are written at once.
const ROWS: usize = 512;
/// Below this similarity too many pairs would be missed.
const SIMILARITY_MIN: f64 = 0.2;

/// Splits a file by problem: the same problem, however it is typed, never lands on both sides, nor do near-duplicates.
///
/// Each source gives its share of problems to the holdout, to the nearest whole number or, where whole clusters do not
/// fit, less than a cluster below it. The seed gives the order in which problems are taken; the order of rows does not
/// matter. A cluster that is larger than a source's share stays in training.
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
    /// Share of each source's problems that goes to the holdout, 0 to 1.
    #[arg(long, value_name = "X")]
    fraction: f64,
    /// Another seed is another split.
    #[arg(long, value_name = "S")]
    seed: u64,
    /// Similarity from which two problems stay on one side: the share of three-word sequences that they have in
    /// common, 0.2 to 1; numbers count as words. `off` or 0: only the same problem does.
    #[arg(long, value_name = "T", default_value = "0.8", allow_negative_numbers = true, value_parser = parse_similarity)]
    near_duplicates: Similarity,
    /// Prints the counts as one JSON document.
    #[arg(long)]
    json: bool,
}

/// A similarity, or none.
type Similarity = Option<f64>;

fn parse_similarity(text: &str) -> Result<Similarity, String> {
    let number = if text == "off" { Ok(0.0) } else { text.parse::<f64>() };
    match number {
        Ok(0.0) => Ok(None),
        Ok(number) if (SIMILARITY_MIN..=1.0).contains(&number) => Ok(Some(number)),
        _ => Err(format!("give a number from {SIMILARITY_MIN} to 1, or `off`")),
    }
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
    let sides = divide(arguments).with_context(|| format!("{name}: cannot read"))?;
    write(arguments, &sides)?;
    report(arguments, &sides);
    Ok(())
}

/// Reads the questions and decides about each row.
fn divide(arguments: &Split) -> anyhow::Result<Sides> {
    let mut splitter = Splitter::new(arguments.seed, arguments.near_duplicates);
    let (rows, questions) = parquet::questions(&arguments.input)?;
    let progress = Progress::new("questions read", rows);
    for question in questions {
        let question = question?;
        splitter.push(&question.question, &question.source)?;
        progress.tick();
    }
    let progress = Progress::new("bands compared", u64::from(BANDS));
    Ok(splitter.split(arguments.fraction, &mut || progress.tick()))
}

/// Copies each row to its side.
fn write(arguments: &Split, sides: &Sides) -> Result<(), Failure> {
    let input = &arguments.input;
    let hash = hash_of(input).with_context(|| format!("{}: cannot read", input.display()))?;
    let held = sides.holdout.iter().filter(|held| **held).count();
    let side = |path: &Path, name: &str, kept: usize| -> Result<Side, Failure> {
        let near = arguments.near_duplicates.map_or("off".to_owned(), |similarity| similarity.to_string());
        let metadata = BTreeMap::from([
            ("polya.source_hash".to_owned(), format!("blake3:{hash}")),
            ("polya.parser".to_owned(), "split-2".to_owned()),
            ("polya.counts".to_owned(), serde_json::json!({ "read": sides.holdout.len(), "kept": kept }).to_string()),
            (
                "polya.split".to_owned(),
                format!("{name}, fraction {}, seed {}, near duplicates {near}", arguments.fraction, arguments.seed),
            ),
        ]);
        let writer = Writer::create(path, &metadata).with_context(|| format!("{}: cannot write", path.display()))?;
        Ok(Side { writer, rows: Vec::with_capacity(ROWS) })
    };
    let mut train = side(&arguments.train, "train", sides.holdout.len() - held)?;
    let mut holdout = side(&arguments.holdout, "holdout", held)?;
    let progress = Progress::new("rows written", sides.holdout.len() as u64);
    let mut is_held = sides.holdout.iter();
    for trajectory in Trajectories::open(input)? {
        let changed = || anyhow!("{}: the file grew while it was read; run again", input.display());
        let side = if *is_held.next().ok_or_else(changed)? { &mut holdout } else { &mut train };
        side.push(trajectory?)?;
        progress.tick();
    }
    if is_held.next().is_some() {
        return Err(anyhow!("{}: the file shrank while it was read; run again", input.display()).into());
    }
    train.finish()?;
    holdout.finish()?;
    Ok(())
}

fn hash_of(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

struct Side {
    writer: Writer,
    rows: Vec<Trajectory>,
}

impl Side {
    fn push(&mut self, row: Trajectory) -> Result<(), parquet::ParquetError> {
        self.rows.push(row);
        if self.rows.len() == ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), parquet::ParquetError> {
        self.writer.write(&self.rows.iter().collect::<Vec<_>>())?;
        self.rows.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(), parquet::ParquetError> {
        self.flush()?;
        self.writer.finish()
    }
}

fn report(arguments: &Split, sides: &Sides) {
    let read = sides.holdout.len();
    let holdout = sides.holdout.iter().filter(|held| **held).count();
    let train = read - holdout;
    if arguments.json {
        let report = serde_json::json!({
            "read": read, "train": train, "holdout": holdout,
            "problems": sides.problems, "clusters": sides.clusters, "largest_cluster": sides.largest,
            "near_duplicates": arguments.near_duplicates, "sources": sides.sources,
        });
        println!("{report}");
    } else {
        println!("read {read} = train {train} + holdout {holdout}");
        println!("  {} problems in {} clusters, the largest has {}", sides.problems, sides.clusters, sides.largest);
        for (source, counts) in &sides.sources {
            println!("  {source}: {} of {} problems held out", counts.holdout, counts.problems);
        }
    }
    for (source, counts) in &sides.sources {
        let share = arguments.fraction * counts.problems as f64;
        if share - counts.holdout as f64 > 1.0 + share / 10.0 {
            eprintln!(
                "warning: {source}: {} problems are held out where {share:.0} were asked for, because its \
                 near-duplicates stay together; raise --near-duplicates, or turn it off",
                counts.holdout
            );
        }
    }
}
