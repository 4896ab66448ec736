//! Judged texts as Parquet, one row a text.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, UInt64Array};
use parquet::arrow::ArrowWriter;

use super::{PromptSet, Row};
use crate::parquet::ParquetError;
use crate::scores::stages;

/// Writes the rows under a temporary name that is renamed at the end. `step` is the state that was scored.
pub fn write_rows(path: &Path, step: u64, rows: &[Row]) -> Result<(), ParquetError> {
    let io = |error| ParquetError::Io { path: path.to_owned(), error };
    let damaged = |reason: String| ParquetError::Damaged { path: path.to_owned(), reason };
    let batch = batch(step, rows).map_err(|error| damaged(error.to_string()))?;
    let temporary = path.with_extension("tmp");
    let file = File::create(&temporary).map_err(io)?;
    let write = || {
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None)?;
        writer.write(&batch)?;
        writer.close()
    };
    write().map_err(|error: parquet::errors::ParquetError| damaged(error.to_string()))?;
    std::fs::rename(&temporary, path).map_err(io)
}

fn batch(step: u64, rows: &[Row]) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let text = |of: &dyn Fn(&Row) -> String| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row))).collect::<StringArray>())
    };
    RecordBatch::try_from_iter([
        ("step", Arc::new(UInt64Array::from(vec![step; rows.len()])) as ArrayRef),
        ("set", text(&|row| row.set.name().to_owned())),
        ("id", text(&|row| row.id.clone())),
        ("prompt", text(&|row| row.prompt.clone())),
        ("text", text(&|row| row.text.clone())),
        ("understand", text(&|row| stage(row, 0))),
        ("plan", text(&|row| stage(row, 1))),
        ("execute", text(&|row| stage(row, 2))),
        ("verify", text(&|row| stage(row, 3))),
        ("answer", Arc::new(rows.iter().map(|row| row.answer.clone()).collect::<StringArray>())),
        ("right", Arc::new(rows.iter().map(|row| Some(row.right)).collect::<BooleanArray>())),
        ("rfs", Arc::new(rows.iter().map(|row| row.verdict["rfs"]["f1"].as_f64()).collect::<Float64Array>())),
        ("verdict", text(&|row| row.verdict.to_string())),
    ])
}

/// A stage of what stands after generating; probes and controls have the first ones in their prompt.
fn stage(row: &Row, stage: usize) -> String {
    let whole = format!("{}{}", if row.set == PromptSet::Problem { "" } else { &row.prompt }, row.text);
    stages::parse(&whole)[stage].clone().map(|range| whole[range].to_owned()).unwrap_or_default()
}
