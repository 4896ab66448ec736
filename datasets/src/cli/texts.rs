//! Questions and solutions of a file, row by row: trajectories as Parquet, or JSON Lines as published sets have them.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use crate::parquet::Trajectories;
use crate::sources::lines::{LINE_MAX, Line, Lines};
use crate::trajectory::Stage;

/// Fields of JSON Lines in which a solution may stand.
const SOLUTION: [&str; 6] = ["understand", "plan", "execute", "verify", "answer", "solution"];

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Texts {
    /// The row's id, or its number.
    pub(super) id: String,
    /// The problem.
    pub(super) question: String,
    /// The rest, by field.
    pub(super) solution: Vec<(&'static str, String)>,
}

/// Calls `row` with each row in order; the file's name decides how it is read, `.jsonl` or Parquet.
pub(super) fn for_each(path: &Path, mut row: impl FnMut(Texts)) -> anyhow::Result<()> {
    if path.extension().is_none_or(|extension| extension != "jsonl") {
        for trajectory in Trajectories::open(path)? {
            let t = trajectory?;
            let fields = ["understand", "plan", "execute", "verify"];
            let solution = fields.into_iter().zip(Stage::ALL).map(|(field, stage)| (field, t.stage(stage).to_owned()));
            row(Texts { solution: solution.collect(), id: t.id, question: t.question });
        }
        return Ok(());
    }
    let name = path.display();
    let mut lines = Lines::new(BufReader::new(File::open(path).with_context(|| format!("{name}: cannot open"))?));
    while let Some(line) = lines.next_line().with_context(|| format!("{name}: cannot read"))? {
        row(of_line(&line).with_context(|| format!("{name}: line {}", line.number))?);
    }
    Ok(())
}

fn of_line(line: &Line) -> anyhow::Result<Texts> {
    if line.length > LINE_MAX as u64 {
        bail!("it has {} bytes, {LINE_MAX} are the limit", line.length);
    }
    let bytes = line.bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line.bytes);
    let value: Value = serde_json::from_slice(bytes).context("it is no JSON object; correct or drop it")?;
    let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let question = text("question").or_else(|| text("problem"));
    Ok(Texts {
        question: question.ok_or_else(|| anyhow!("no text in `question` or `problem`; correct or drop it"))?,
        id: text("id").or_else(|| text("unique_id")).unwrap_or_else(|| (line.number - 1).to_string()),
        solution: SOLUTION.into_iter().filter_map(|field| text(field).map(|text| (field, text))).collect(),
    })
}
