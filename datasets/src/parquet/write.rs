//! Trajectories to a file that appears whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{Float32Builder, ListBuilder, StringBuilder, StructBuilder, UInt32Builder};
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, StructArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::ParquetError;
use super::schema::{TEXTS, planted, schema, span, span_item};
use crate::trajectory::Trajectory;

/// Rows written at once; memory does not grow with the file.
const ROWS: usize = 256;

/// A row group has no more encoded bytes, so that what a writer holds does not grow with the file.
const GROUP_BYTES: usize = 2 << 20;
/// Bytes of a page: small, so that it is packed while rows are made and not all at the end.
const PAGE_BYTES: usize = 1 << 16;

/// Columns whose values repeat so seldom that a dictionary of them costs time and saves nothing.
const ALL_DIFFERENT: [&str; 6] = ["id", "question", "understand", "plan", "execute", "verify"];

/// Writes the trajectories with file metadata, under a temporary name that is renamed at the end.
pub fn write<'a>(
    path: &Path,
    trajectories: impl IntoIterator<Item = &'a Trajectory>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), ParquetError> {
    let mut writer = Writer::create(path, metadata)?;
    let mut rows: Vec<&Trajectory> = Vec::with_capacity(ROWS);
    for trajectory in trajectories {
        rows.push(trajectory);
        if rows.len() == ROWS {
            writer.write(&rows)?;
            rows.clear();
        }
    }
    writer.write(&rows)?;
    writer.finish()
}

/// A file that is being written. It has a temporary name until it is finished; one that is dropped before is removed.
pub struct Writer {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    writer: ArrowWriter<File>,
    is_finished: bool,
}

impl Writer {
    /// Begins a file.
    pub fn create(path: &Path, metadata: &BTreeMap<String, String>) -> Result<Self, ParquetError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let io = |error| ParquetError::Io { path: path.to_owned(), error };
        let pairs = metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_bytes(Some(GROUP_BYTES))
            .set_data_page_size_limit(PAGE_BYTES)
            .set_key_value_metadata(Some(pairs));
        let properties = ALL_DIFFERENT
            .into_iter()
            .fold(properties, |properties, name| properties.set_column_dictionary_enabled(name.into(), false))
            .build();
        let file = File::create(&temporary).map_err(io)?;
        let writer = file.try_clone().map_err(io).and_then(|copy| {
            ArrowWriter::try_new(copy, schema(), Some(properties))
                .map_err(|error| ParquetError::Damaged { path: path.to_owned(), reason: error.to_string() })
        });
        match writer {
            Ok(writer) => Ok(Writer { path: path.to_owned(), temporary, file, writer, is_finished: false }),
            Err(error) => {
                // The error that matters is the first one; a temporary file that stays harms nobody.
                let _ = std::fs::remove_file(&temporary);
                Err(error)
            }
        }
    }

    /// Adds rows, best some thousands at once.
    pub fn write(&mut self, rows: &[&Trajectory]) -> Result<(), ParquetError> {
        if rows.is_empty() {
            return Ok(());
        }
        let batch = batch(rows).map_err(|error| self.damaged(&error))?;
        self.writer.write(&batch).map_err(|error| self.damaged(&error))
    }

    /// Adds to the file's metadata what is known only now.
    pub fn add_metadata(&mut self, metadata: &BTreeMap<String, String>) {
        for (key, value) in metadata {
            self.writer.append_key_value_metadata(KeyValue::new(key.clone(), value.clone()));
        }
    }

    /// Completes the file, makes it durable and gives it its name.
    pub fn finish(mut self) -> Result<(), ParquetError> {
        self.writer.finish().map_err(|error| self.damaged(&error))?;
        let io = |error| ParquetError::Io { path: self.path.clone(), error };
        self.file.sync_all().map_err(io)?;
        std::fs::rename(&self.temporary, &self.path).map_err(io)?;
        self.is_finished = true;
        Ok(())
    }

    fn damaged(&self, error: &dyn std::fmt::Display) -> ParquetError {
        ParquetError::Damaged { path: self.path.clone(), reason: error.to_string() }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_finished {
            // Nobody waits for the answer; a temporary file that stays harms nobody.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

fn batch(rows: &[&Trajectory]) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let text = |of: fn(&Trajectory) -> &str| -> ArrayRef {
        let bytes = rows.iter().map(|row| of(row).len()).sum();
        let mut builder = StringBuilder::with_capacity(rows.len(), bytes);
        rows.iter().for_each(|row| builder.append_value(of(row)));
        Arc::new(builder.finish())
    };
    let texts: [fn(&Trajectory) -> &str; TEXTS.len()] = [
        |t| &t.id,
        |t| &t.source,
        |t| &t.split,
        |t| &t.question,
        |t| &t.understand,
        |t| &t.plan,
        |t| &t.execute,
        |t| &t.verify,
        |t| &t.answer,
        |t| &t.language,
    ];
    let mut columns: Vec<ArrayRef> = texts.into_iter().map(text).collect();
    columns.push(Arc::new(rows.iter().map(|row| Some(row.corrective)).collect::<BooleanArray>()));
    columns.push(planted_column(rows));
    columns.push(weights_column(rows));
    columns.push(text(|t| &t.meta));
    RecordBatch::try_new(schema(), columns)
}

fn planted_column(rows: &[&Trajectory]) -> ArrayRef {
    if rows.iter().all(|row| row.planted.is_none()) {
        return Arc::new(StructArray::new_null(planted(), rows.len()));
    }
    let mut builder = StructBuilder::from_fields(planted(), rows.len());
    for row in rows {
        let planted = row.planted.as_ref();
        let texts = [(0, planted.map(|p| &p.kind)), (2, planted.map(|p| &p.right)), (3, planted.map(|p| &p.wrong))];
        for (index, value) in texts {
            let field = builder.field_builder::<StringBuilder>(index).expect("the schema says text");
            field.append_value(value.map_or("", String::as_str));
        }
        let field = builder.field_builder::<UInt32Builder>(1).expect("the schema says an integer");
        field.append_value(planted.map_or(0, |planted| planted.calculation));
        builder.append(planted.is_some());
    }
    Arc::new(builder.finish())
}

fn weights_column(rows: &[&Trajectory]) -> ArrayRef {
    let mut builder = ListBuilder::new(StructBuilder::from_fields(span(), 0)).with_field(span_item());
    for row in rows {
        for weight in row.weights.iter().flatten() {
            let values = builder.values();
            values.field_builder::<UInt32Builder>(0).expect("the schema says an integer").append_value(weight.start);
            values.field_builder::<UInt32Builder>(1).expect("the schema says an integer").append_value(weight.end);
            values.field_builder::<Float32Builder>(2).expect("the schema says a float").append_value(weight.weight);
            values.append(true);
        }
        builder.append(row.weights.is_some());
    }
    Arc::new(builder.finish())
}
