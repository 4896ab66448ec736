//! `datasets contamination`: holdout questions that training data has seen.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;

use super::progress::Progress;
use super::texts::for_each;
use super::{Failure, check_input, check_output};
use crate::contamination::{Holdout, Report, Text};

/// Pairs that are printed for people.
const PRINTED: usize = 5;

/// Looks for the holdout's questions in training data: thirteen words in a row that a training question or solution has
/// too, whatever the case and punctuation.
///
/// A holdout question of fewer than thirteen words counts only if a training question is the same problem. Files are
/// Parquet, or JSON Lines (.jsonl) with `question` or `problem` and, for solutions, any of `understand`, `plan`,
/// `execute`, `verify`, `answer`, `solution`. The exit code is 0 whatever is found; with --strict it is 1 if anything is.
#[derive(Debug, Args)]
pub struct Contamination {
    /// The data to train on.
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// The data to score on.
    #[arg(long, value_name = "FILE")]
    holdout: PathBuf,
    /// Writes the whole report, as JSON.
    #[arg(long, value_name = "FILE.json")]
    output: Option<PathBuf>,
    /// How many pairs the report lists; the counts are always complete.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pairs: usize,
    /// Exit code 1 if a holdout question is contaminated.
    #[arg(long)]
    strict: bool,
    /// Prints the whole report as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &Contamination) -> Result<(), Failure> {
    check_input(&arguments.train)?;
    check_input(&arguments.holdout)?;
    arguments.output.as_deref().map(check_output).transpose()?;
    let report = check(arguments)?;
    let text = serde_json::to_string_pretty(&report)? + "\n";
    if let Some(path) = &arguments.output {
        std::fs::write(path, &text).with_context(|| format!("{}: cannot write", path.display()))?;
    }
    if arguments.json {
        print!("{text}");
    } else {
        print(arguments, &report);
    }
    if arguments.strict && report.holdout.contaminated > 0 {
        let (counts, name) = (report.holdout, arguments.holdout.display());
        let found = format!("{name}: {} of {} questions stand in the training data", counts.contaminated, counts.rows);
        return Err(anyhow!("{found}; drop these rows on one side").into());
    }
    Ok(())
}

fn check(arguments: &Contamination) -> anyhow::Result<Report> {
    let mut holdout = Holdout::new();
    for_each(&arguments.holdout, |row| holdout.push(&row.id, &row.question))?;
    let mut check = holdout.check(arguments.pairs);
    let progress = Progress::rows("training rows read");
    for_each(&arguments.train, |row| {
        let solution: Vec<Text<'_>> = row.solution.iter().map(|(field, text)| (*field, text.as_str())).collect();
        check.push(&row.id, &row.question, &solution);
        progress.tick();
    })?;
    Ok(check.report())
}

fn print(arguments: &Contamination, report: &Report) {
    let files = [("holdout", &arguments.holdout, report.holdout), ("train", &arguments.train, report.train)];
    for (side, path, counts) in files {
        let (found, rows, share) = (counts.contaminated, counts.rows, 100.0 * counts.share);
        println!("{side} {}: {found} of {rows} contaminated ({share:.2} %)", path.display());
    }
    println!(
        "  {} holdout questions have fewer than {} words and are compared whole",
        report.short, report.ngram_words
    );
    for pair in report.pairs.iter().take(PRINTED) {
        let (train, holdout) = (&pair.train, &pair.holdout);
        println!(
            "  {} {}, word {} = {} {}, word {}: \"{}\"",
            train.id, train.field, train.word, holdout.id, holdout.field, holdout.word, pair.ngram
        );
    }
    if report.pairs.len() > PRINTED || report.more_pairs {
        println!("  … and more; --output FILE.json lists them");
    }
}
