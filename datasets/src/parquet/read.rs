//! A file to trajectories, batch by batch.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{Array, RecordBatch, StringArray, StructArray};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::ParquetError;
use crate::trajectory::{Planted, SpanWeight, Trajectory};

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<Trajectory>, ParquetError> {
    Trajectories::open(path)?.collect()
}

/// The file's own metadata.
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>, ParquetError> {
    let builder = builder(path)?;
    let pairs = builder.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    Ok(pairs.into_iter().map(|pair| (pair.key, pair.value.unwrap_or_default())).collect())
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, ParquetError> {
    let file = File::open(path).map_err(|error| ParquetError::Io { path: path.to_owned(), error })?;
    ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|error| ParquetError::Damaged { path: path.to_owned(), reason: error.to_string() })
}

/// What a split needs of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The problem.
    pub question: String,
    /// Where it comes from.
    pub source: String,
}

/// How many rows a file says it has, and their questions one after the other; no other column is read.
pub fn questions(
    path: &Path,
) -> Result<(u64, impl Iterator<Item = Result<Question, ParquetError>> + use<>), ParquetError> {
    let builder = builder(path)?;
    let count = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let columns = ProjectionMask::columns(builder.parquet_schema(), ["question", "source"]);
    let batches = builder.with_projection(columns).build().map_err(|error| damaged(path, &error))?;
    let path = path.to_owned();
    let of_batch = move |batch: Result<RecordBatch, arrow_schema::ArrowError>| {
        let rows = batch.map_err(|error| damaged(&path, &error)).and_then(|batch| {
            let text = |name| {
                text_column(&batch, name).map_err(|(column, reason)| ParquetError::Column {
                    path: path.clone(),
                    column,
                    reason,
                })
            };
            let (question, source) = (text("question")?, text("source")?);
            let row = |index: usize| {
                Ok(Question { question: question.value(index).to_owned(), source: source.value(index).to_owned() })
            };
            Ok((0..batch.num_rows()).map(row).collect::<Vec<_>>())
        });
        rows.unwrap_or_else(|error| vec![Err(error)])
    };
    Ok((count, batches.flat_map(of_batch)))
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> ParquetError {
    ParquetError::Damaged { path: path.to_owned(), reason: error.to_string() }
}

/// Trajectories of a file, one after the other.
pub struct Trajectories {
    path: PathBuf,
    batches: ParquetRecordBatchReader,
    rows: std::vec::IntoIter<Trajectory>,
}

impl Trajectories {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, ParquetError> {
        let batches = builder(path)?
            .build()
            .map_err(|error| ParquetError::Damaged { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Trajectories { path: path.to_owned(), batches, rows: Vec::new().into_iter() })
    }
}

impl Iterator for Trajectories {
    type Item = Result<Trajectory, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            let batch = match self.batches.next()? {
                Ok(batch) => batch,
                Err(error) => {
                    return Some(Err(ParquetError::Damaged { path: self.path.clone(), reason: error.to_string() }));
                }
            };
            match rows(&batch) {
                Ok(rows) => self.rows = rows.into_iter(),
                Err((column, reason)) => {
                    return Some(Err(ParquetError::Column { path: self.path.clone(), column, reason }));
                }
            }
        }
    }
}

type Wrong = (&'static str, String);

fn rows(batch: &RecordBatch) -> Result<Vec<Trajectory>, Wrong> {
    let text = |name| text_column(batch, name);
    let [id, source, split, question] = ["id", "source", "split", "question"].map(text);
    let [understand, plan, execute, verify] = ["understand", "plan", "execute", "verify"].map(text);
    let [answer, language, meta] = ["answer", "language", "meta"].map(text);
    let (id, source, split, question) = (id?, source?, split?, question?);
    let (understand, plan, execute, verify) = (understand?, plan?, execute?, verify?);
    let (answer, language, meta) = (answer?, language?, meta?);
    let corrective = column(batch, "corrective")?;
    let corrective = corrective.as_boolean_opt().ok_or(("corrective", "it is not boolean".to_owned()))?;
    let planted = planted_column(batch)?;
    let weights = weights_column(batch)?;
    let row = |((index, planted), weights): ((usize, Option<Planted>), Option<Vec<SpanWeight>>)| {
        let of = |array: &StringArray| array.value(index).to_owned();
        Trajectory {
            id: of(&id),
            source: of(&source),
            split: of(&split),
            question: of(&question),
            understand: of(&understand),
            plan: of(&plan),
            execute: of(&execute),
            verify: of(&verify),
            answer: of(&answer),
            language: of(&language),
            corrective: corrective.value(index),
            planted,
            weights,
            meta: of(&meta),
        }
    };
    Ok(planted.into_iter().enumerate().zip(weights).map(row).collect())
}

fn column<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<&'a dyn Array, Wrong> {
    let array = batch.column_by_name(name).ok_or((name, "it is missing".to_owned()))?;
    Ok(array.as_ref())
}

/// A text column without nulls, whichever of Arrow's text types another tool chose.
fn text_column(batch: &RecordBatch, name: &'static str) -> Result<StringArray, Wrong> {
    let array = column(batch, name)?;
    if array.null_count() > 0 {
        return Err((name, format!("{} rows are null", array.null_count())));
    }
    if let Some(text) = array.as_string_opt::<i32>() {
        return Ok(text.clone());
    }
    if let Some(text) = array.as_string_opt::<i64>() {
        return Ok(text.iter().collect());
    }
    if let Some(text) = array.as_string_view_opt() {
        return Ok(text.iter().collect());
    }
    Err((name, format!("its type is {}, not text", array.data_type())))
}

fn planted_column(batch: &RecordBatch) -> Result<Vec<Option<Planted>>, Wrong> {
    const NAME: &str = "planted";
    let array = column(batch, NAME)?;
    let array = array.as_struct_opt().ok_or((NAME, "it is not a struct".to_owned()))?;
    let [kind, right, wrong] = ["kind", "right", "wrong"].map(|field| text_field(array, field));
    let (kind, right, wrong) = (kind?, right?, wrong?);
    let calculation = array.column_by_name("calculation").and_then(|c| c.as_primitive_opt::<UInt32Type>().cloned());
    let calculation = calculation.ok_or((NAME, "its field `calculation` is not uint32".to_owned()))?;
    let row = |index: usize| {
        (!array.is_null(index)).then(|| Planted {
            kind: kind.value(index).to_owned(),
            calculation: calculation.value(index),
            right: right.value(index).to_owned(),
            wrong: wrong.value(index).to_owned(),
        })
    };
    Ok((0..array.len()).map(row).collect())
}

fn text_field(array: &StructArray, field: &str) -> Result<StringArray, Wrong> {
    let text = array.column_by_name(field).and_then(|column| column.as_string_opt::<i32>().cloned());
    text.ok_or(("planted", format!("its field `{field}` is not text")))
}

fn weights_column(batch: &RecordBatch) -> Result<Vec<Option<Vec<SpanWeight>>>, Wrong> {
    const NAME: &str = "weights";
    let array = column(batch, NAME)?;
    let list = array.as_list_opt::<i32>().ok_or((NAME, "it is not a list".to_owned()))?;
    let spans = |index: usize| -> Result<Option<Vec<SpanWeight>>, Wrong> {
        if list.is_null(index) {
            return Ok(None);
        }
        let values = list.value(index);
        let wrong = || (NAME, "its items are not {start, end, weight}".to_owned());
        let items = values.as_struct_opt().ok_or_else(wrong)?;
        let number =
            |field| items.column_by_name(field).and_then(|c| c.as_primitive_opt::<UInt32Type>()).ok_or_else(wrong);
        let (start, end) = (number("start")?, number("end")?);
        let weight = items.column_by_name("weight").and_then(|c| c.as_primitive_opt::<Float32Type>());
        let weight = weight.ok_or_else(wrong)?;
        let span = |i| SpanWeight { start: start.value(i), end: end.value(i), weight: weight.value(i) };
        Ok(Some((0..items.len()).map(span).collect()))
    };
    (0..list.len()).map(spans).collect()
}
