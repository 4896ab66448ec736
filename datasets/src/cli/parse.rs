//! `datasets parse`: a published file to trajectories, with every record accounted for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::PathBuf;

use crate::parquet;
use crate::sources::{Parsed, gsm8k};
use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};

use super::{Failure, check_input, check_output};

/// A published format.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Source {
    /// JSON Lines with `question` and `answer`, calculator annotations in the answer.
    Gsm8k,
}

/// Reads a published file and writes trajectories.
///
/// Every record is kept, a duplicate, or rejected with a reason: read = kept + rejected + duplicates. A broken record is
/// never the end of the file.
#[derive(Debug, Args)]
pub struct Parse {
    /// The file's format.
    #[arg(long, value_enum)]
    source: Source,
    /// The file to read; its name without the ending is the split (`train`, `test`).
    #[arg(long, value_name = "PATH")]
    input: PathBuf,
    /// The trajectories, as Parquet.
    #[arg(long, value_name = "FILE.parquet")]
    output: PathBuf,
    /// The rejected records, one JSON object a line: source, line, byte, reason, detail, snippet.
    #[arg(long, value_name = "FILE.jsonl")]
    rejects: Option<PathBuf>,
    /// Prints the counts as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &Parse) -> Result<(), Failure> {
    check_input(&arguments.input)?;
    check_output(&arguments.output)?;
    arguments.rejects.as_deref().map(check_output).transpose()?;
    let name = arguments.input.display().to_string();
    let split = arguments.input.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let reader = BufReader::new(File::open(&arguments.input).with_context(|| format!("{name}: cannot open"))?);
    let parsed = match arguments.source {
        Source::Gsm8k => gsm8k::parse(reader, &name, &split).with_context(|| format!("{name}: cannot read"))?,
    };
    if !parsed.counts.add_up() {
        return Err(
            anyhow!("{name}: the counts do not add up: {:?}; this is a fault of the parser", parsed.counts).into()
        );
    }
    let metadata = BTreeMap::from([
        ("polya.source".to_owned(), "gsm8k".to_owned()),
        ("polya.source_hash".to_owned(), format!("blake3:{}", parsed.hash)),
        ("polya.parser".to_owned(), gsm8k::VERSION.to_owned()),
        ("polya.counts".to_owned(), serde_json::to_string(&parsed.counts)?),
    ]);
    parquet::write(&arguments.output, parsed.trajectories.iter(), &metadata)
        .with_context(|| format!("{}: cannot write", arguments.output.display()))?;
    if let Some(path) = &arguments.rejects {
        write_rejects(path, &parsed).with_context(|| format!("{}: cannot write", path.display()))?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&parsed.counts)?);
    } else {
        print(&parsed);
    }
    Ok(())
}

fn write_rejects(path: &std::path::Path, parsed: &Parsed) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for reject in &parsed.rejects {
        serde_json::to_writer(&mut file, reject)?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    Ok(())
}

fn print(parsed: &Parsed) {
    let counts = &parsed.counts;
    let rejected: u64 = counts.rejected.values().sum();
    println!("read {} = kept {} + rejected {rejected} + duplicates {}", counts.read, counts.kept, counts.duplicates);
    for (reason, number) in &counts.rejected {
        println!("  rejected, {reason}: {number}");
    }
}
