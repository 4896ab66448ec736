//! `datasets convert`: Parquet to JSON Lines or back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use super::rows::create;
use super::{Failure, check_input, check_output};
use crate::parquet::{Trajectories, WriteBehind};
use crate::sources::lines::{LINE_MAX, Lines};
use crate::trajectory::Trajectory;

/// Rows handed to the Parquet writer at once; memory does not grow with the file.
const ROWS: usize = 512;

/// Convert trajectories between Parquet and JSON Lines, by the names' endings.
///
/// JSON Lines have one trajectory a line, with the Parquet's columns as keys; `--canonical` adds `text`, what a model
/// learns, and `stage_spans`, the byte range of each stage in it.
#[derive(Debug, Clone, clap::Args)]
pub struct ConvertArgs {
    /// .parquet or .jsonl.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// .jsonl or .parquet.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Adds text and stage_spans to JSON Lines.
    #[arg(long)]
    canonical: bool,
}

/// Runs it.
pub fn convert(args: &ConvertArgs) -> Result<(), Failure> {
    check_input(&args.input)?;
    check_output(&args.output)?;
    let rows = match (ending(&args.input), ending(&args.output)) {
        ("parquet", "jsonl") => to_json_lines(args)?,
        ("jsonl", "parquet") => to_parquet(args)?,
        (from, to) => {
            let why = anyhow!("cannot convert .{from} to .{to}: give a .parquet and a .jsonl, either way round");
            return Err(Failure::usage(why));
        }
    };
    println!("{rows} trajectories");
    Ok(())
}

fn ending(path: &Path) -> &str {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or_default()
}

fn to_json_lines(args: &ConvertArgs) -> Result<usize, Failure> {
    let trajectories = Trajectories::open(&args.input)?;
    let mut output = create(&args.output)?;
    let mut rows = 0;
    for trajectory in trajectories {
        let trajectory = trajectory?;
        let mut row = serde_json::to_value(&trajectory)?;
        if args.canonical {
            let canonical = trajectory.canonical();
            row["stage_spans"] = canonical.stages.map(|span| serde_json::json!([span.start, span.end])).to_vec().into();
            row["text"] = canonical.text.into();
        }
        serde_json::to_writer(&mut output, &row)?;
        output.write_all(b"\n")?;
        rows += 1;
    }
    output.flush()?;
    Ok(rows)
}

fn to_parquet(args: &ConvertArgs) -> Result<usize, Failure> {
    let name = args.input.display();
    let input = File::open(&args.input).with_context(|| format!("{name}: cannot read"))?;
    let mut lines = Lines::new(BufReader::new(input));
    let mut output = WriteBehind::create(&args.output, &BTreeMap::new())?;
    let (mut trajectories, mut rows): (Vec<Trajectory>, usize) = (vec![], 0);
    while let Some(line) = lines.next_line().with_context(|| format!("{name}: cannot read"))? {
        if line.bytes.trim_ascii().is_empty() {
            continue;
        }
        let place = format!("{name}, line {}", line.number);
        if line.length > LINE_MAX as u64 {
            return Err(anyhow!("{place}: {} bytes, {LINE_MAX} are the limit", line.length).into());
        }
        trajectories.push(serde_json::from_slice(&line.bytes).with_context(|| format!("{place}: no trajectory"))?);
        rows += 1;
        if trajectories.len() == ROWS {
            output.write(std::mem::take(&mut trajectories))?;
        }
    }
    output.write(trajectories)?;
    output.finish(&BTreeMap::from([
        ("polya.source".to_owned(), "jsonl".to_owned()),
        ("polya.source_hash".to_owned(), format!("blake3:{}", lines.hash())),
        ("polya.parser".to_owned(), "convert-1".to_owned()),
        ("polya.counts".to_owned(), serde_json::json!({ "read": rows, "kept": rows }).to_string()),
    ]))?;
    Ok(rows)
}
