//! `datasets parse`: published files to Parquet.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;

use super::progress::Progress;
use super::rows::create;
use super::{Failure, check_output};
use crate::parquet::WriteBehind;
use crate::sources::parse::{self, Options, ParseError, Sink, Summary};
use crate::sources::reasons::Reason;
use crate::sources::{Duplicate, Reject, Source, files};
use crate::trajectory::Trajectory;

/// Rows handed to the Parquet writer at once.
const ROWS: usize = 64;
/// So many rejects, and so many duplicates, are told where no file takes them.
const TOLD: u64 = 5;

/// Reads published files and writes trajectories.
///
/// Every record is kept, a duplicate, or rejected with a reason: read = kept + rejected + duplicates. A broken record is
/// never the end of the file (but for --strict). `.gz` and `.zst` are unpacked on the way. The reason codes are listed in
/// docs/operations.md and by --reasons.
#[derive(Debug, Args)]
pub struct Parse {
    /// The files' format. Without it each file's first records tell it, and it is said aloud.
    #[arg(long, value_enum)]
    source: Option<Source>,
    /// Files, folders (searched for .jsonl, .json, .parquet) or quoted patterns (`'data/*.jsonl'`). A file's name without
    /// endings is its split, in folders a part of the path called train, validation or test.
    #[arg(long, value_name = "PATH", num_args = 1.., required_unless_present = "reasons")]
    input: Vec<PathBuf>,
    /// The trajectories, as Parquet.
    #[arg(long, value_name = "FILE.parquet", required_unless_present = "reasons")]
    output: Option<PathBuf>,
    /// The rejected records, one JSON object a line: source, line, byte, reason, detail, snippet.
    #[arg(long, value_name = "FILE.jsonl")]
    rejects: Option<PathBuf>,
    /// The duplicates, one JSON object a line: source, line, byte, and the same of the first one.
    #[arg(long, value_name = "FILE.jsonl")]
    duplicates: Option<PathBuf>,
    /// The first reject ends the command with exit 1, and nothing is written.
    #[arg(long)]
    strict: bool,
    /// Refuses what VERIFY could recompute nothing of (reason nothing_to_check).
    #[arg(long)]
    checked_only: bool,
    /// Prints the counts as one JSON document.
    #[arg(long)]
    json: bool,
    /// Lists the reason codes with their meanings, and does nothing else.
    #[arg(long)]
    reasons: bool,
}

/// Runs the command.
pub fn run(arguments: &Parse) -> Result<(), Failure> {
    if arguments.reasons {
        Reason::ALL.iter().for_each(|reason| println!("{:<26} {}", reason.code(), reason.meaning()));
        return Ok(());
    }
    let output = arguments.output.as_deref().ok_or_else(|| Failure::usage(anyhow!("--output is missing")))?;
    let inputs = files::find(&arguments.input).map_err(|why| Failure::usage(anyhow!(why)))?;
    for path in [Some(output), arguments.rejects.as_deref(), arguments.duplicates.as_deref()].into_iter().flatten() {
        check_output(path)?;
    }
    let mut files = Files {
        writer: WriteBehind::create(output, &BTreeMap::new())?,
        rows: Vec::with_capacity(ROWS),
        rejects: arguments.rejects.as_deref().map(create).transpose()?,
        duplicates: arguments.duplicates.as_deref().map(create).transpose()?,
        told: [0; 2],
        source: None,
        progress: Progress::rows("records"),
    };
    let options = Options { source: arguments.source, strict: arguments.strict, checked_only: arguments.checked_only };
    let summary = parse::parse(&inputs, options, &mut files).map_err(|error| match error {
        ParseError::UnknownSource(_) => Failure::usage(error),
        other => Failure { code: 1, error: other.into() },
    })?;
    if !summary.counts.add_up() {
        return Err(anyhow!("the counts do not add up: {:?}; this is a fault of the parser", summary.counts).into());
    }
    files.finish(&metadata(&summary)?).with_context(|| format!("{}: cannot write", output.display()))?;
    if arguments.json {
        println!("{}", serde_json::to_string(&summary.counts)?);
    } else {
        print(&summary);
    }
    Ok(())
}

fn metadata(summary: &Summary) -> Result<BTreeMap<String, String>, Failure> {
    let of = |text: fn(Source) -> &'static str| {
        summary.sources.iter().map(|source| text(*source)).collect::<Vec<_>>().join(",")
    };
    Ok(BTreeMap::from([
        ("polya.source".to_owned(), of(Source::name)),
        ("polya.source_hash".to_owned(), format!("blake3:{}", summary.hash)),
        ("polya.parser".to_owned(), of(Source::version)),
        ("polya.counts".to_owned(), serde_json::to_string(&summary.counts)?),
    ]))
}

fn print(summary: &Summary) {
    let counts = &summary.counts;
    println!(
        "read {} = kept {} + rejected {} + duplicates {}",
        counts.read,
        counts.kept,
        counts.refused(),
        counts.duplicates
    );
    for (reason, number) in &counts.rejected {
        println!("  rejected, {reason}: {number}");
    }
    if summary.unchecked > 0 {
        let unchecked = summary.unchecked;
        println!("  kept, but VERIFY recomputes nothing: {unchecked} (--checked-only refuses them)");
    }
}

/// Where everything goes.
struct Files {
    writer: WriteBehind,
    rows: Vec<Trajectory>,
    rejects: Option<BufWriter<File>>,
    duplicates: Option<BufWriter<File>>,
    /// Rejects and duplicates told.
    told: [u64; 2],
    source: Option<Source>,
    progress: Progress,
}

impl Files {
    fn write_rows(&mut self) -> anyhow::Result<()> {
        Ok(self.writer.write(std::mem::take(&mut self.rows))?)
    }

    fn finish(mut self, metadata: &BTreeMap<String, String>) -> anyhow::Result<()> {
        self.write_rows()?;
        for file in [&mut self.rejects, &mut self.duplicates].into_iter().flatten() {
            file.flush()?;
        }
        Ok(self.writer.finish(metadata)?)
    }
}

fn line(file: &mut BufWriter<File>, row: &impl serde::Serialize) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *file, row)?;
    Ok(file.write_all(b"\n")?)
}

impl Sink for Files {
    fn file(&mut self, path: &Path, source: Source, told_by: Option<&'static str>) -> anyhow::Result<()> {
        let changed = self.source.replace(source) != Some(source);
        if let Some(told_by) = told_by.filter(|_| changed) {
            eprintln!("{}: read as {} ({told_by})", path.display(), source.name());
        }
        Ok(())
    }

    fn keep(&mut self, trajectory: Trajectory) -> anyhow::Result<()> {
        self.rows.push(trajectory);
        if self.rows.len() == ROWS { self.write_rows() } else { Ok(()) }
    }

    fn reject(&mut self, reject: Reject) -> anyhow::Result<()> {
        match &mut self.rejects {
            Some(file) => return line(file, &reject),
            None if self.told[0] < TOLD => {
                let place = &reject.place;
                eprintln!("{}, line {}: {}: {}", place.source, place.line, reject.reason, reject.detail);
            }
            None if self.told[0] == TOLD => eprintln!("more rejects follow; --rejects FILE.jsonl keeps them all"),
            None => {}
        }
        self.told[0] += 1;
        Ok(())
    }

    fn duplicate(&mut self, duplicate: Duplicate) -> anyhow::Result<()> {
        match &mut self.duplicates {
            Some(file) => return line(file, &duplicate),
            None if self.told[1] < TOLD => {
                let (place, first) = (&duplicate.place, &duplicate.first);
                eprintln!(
                    "{}, line {}: the problem of {}, line {}",
                    place.source, place.line, first.source, first.line
                );
            }
            None if self.told[1] == TOLD => {
                eprintln!("more duplicates follow; --duplicates FILE.jsonl keeps them all");
            }
            None => {}
        }
        self.told[1] += 1;
        Ok(())
    }

    fn progress(&mut self, records: u64) {
        self.progress.add(records);
    }
}
