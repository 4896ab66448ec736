//! JSON Lines in, the same lines with more keys out.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde_json::{Map, Value};

use super::{Failure, check_input, check_output};
use crate::sources::lines::{LINE_MAX, Lines};

/// The two files of such a command.
#[derive(Debug, Clone, clap::Args)]
pub struct RowFiles {
    /// JSON Lines to read.
    #[arg(long, value_name = "FILE.jsonl")]
    input: PathBuf,
    /// JSON Lines to write: the same rows in the same order, each with the verdict added.
    #[arg(long, value_name = "FILE.jsonl")]
    output: PathBuf,
}

/// Sends each row through `judge`, which adds to it. A line that is no JSON object, or of which `judge` says why it
/// cannot be judged, ends the command with that line's number.
pub fn annotate(
    files: &RowFiles,
    mut judge: impl FnMut(&mut Map<String, Value>) -> Result<(), String>,
) -> Result<(), Failure> {
    check_input(&files.input)?;
    check_output(&files.output)?;
    let name = files.input.display();
    let input = File::open(&files.input).with_context(|| format!("{name}: cannot read"))?;
    let mut lines = Lines::new(BufReader::new(input));
    let mut output = create(&files.output)?;
    while let Some(line) = lines.next_line().with_context(|| format!("{name}: cannot read"))? {
        if line.bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let place = format!("{name}, line {}", line.number);
        if line.length > LINE_MAX as u64 {
            return Err(anyhow!("{place}: {} bytes, {LINE_MAX} are the limit", line.length).into());
        }
        let mut row: Map<String, Value> =
            serde_json::from_slice(&line.bytes).with_context(|| format!("{place}: not a JSON object"))?;
        judge(&mut row).map_err(|why| anyhow!("{place}: {why}"))?;
        serde_json::to_writer(&mut output, &row)?;
        output.write_all(b"\n")?;
    }
    output.flush()?;
    Ok(())
}

/// A new file.
pub fn create(path: &Path) -> Result<BufWriter<File>, Failure> {
    Ok(BufWriter::new(File::create(path).with_context(|| format!("{}: cannot write", path.display()))?))
}

/// A text of the row; a number counts as its text.
pub fn text(row: &Map<String, Value>, name: &str) -> Result<String, String> {
    match row.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(_) => Err(format!("`{name}` is neither a text nor a number")),
        None => Err(format!("there is no `{name}`")),
    }
}

/// The row's language, `en` if it has none.
pub fn language(row: &Map<String, Value>) -> Result<String, String> {
    if row.get("language").is_none_or(Value::is_null) { Ok("en".to_owned()) } else { text(row, "language") }
}
