//! Trajectories to a file that appears whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::Result as LibraryResult;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use super::ParquetError;
use super::group::{GROUP_BYTES, Group, Groups, PIECE_BYTES, TEXT_COLUMNS, text_bytes};
use super::schema::schema;
use super::texts::{PAGE_BYTES, Packer};
use crate::trajectory::Trajectory;

/// Rows written at once; memory does not grow with the file.
const ROWS: usize = 256;
/// Bytes written at once: the library writes few, and the system takes its time for each call.
const WRITTEN: usize = 1 << 18;

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
    writer: SerializedFileWriter<BufWriter<File>>,
    groups: Groups,
    group: Option<Group>,
    packer: Packer,
    /// Makes durable what is written, while more is made: the end waits for the rest only.
    syncing: Option<JoinHandle<std::io::Result<()>>>,
    is_finished: bool,
}

impl Writer {
    /// Begins a file.
    pub fn create(path: &Path, metadata: &BTreeMap<String, String>) -> Result<Self, ParquetError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let io = |error| ParquetError::Io { path: path.to_owned(), error };
        let pairs = metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
        let file = File::create(&temporary).map_err(io)?;
        let writer = file.try_clone().map_err(io).and_then(|copy| {
            ArrowWriter::try_new(BufWriter::with_capacity(WRITTEN, copy), schema(), Some(properties(pairs)))
                .and_then(ArrowWriter::into_serialized_writer)
                .map_err(|error| ParquetError::Damaged { path: path.to_owned(), reason: error.to_string() })
        });
        match writer {
            Ok((writer, factory)) => Ok(Writer {
                path: path.to_owned(),
                temporary,
                file,
                groups: Groups::new(factory, writer.schema_descr().columns()),
                writer,
                group: None,
                packer: Packer::new(),
                syncing: None,
                is_finished: false,
            }),
            Err(error) => {
                // The error that matters is the first one; a temporary file that stays harms nobody.
                let _ = std::fs::remove_file(&temporary);
                Err(error)
            }
        }
    }

    /// Adds rows, best some hundreds at once.
    pub fn write(&mut self, rows: &[&Trajectory]) -> Result<(), ParquetError> {
        let mut rows = rows;
        while !rows.is_empty() {
            let mut bytes = 0;
            let fits = |row: &&&Trajectory| {
                bytes += text_bytes(row);
                bytes <= PIECE_BYTES
            };
            let (piece, rest) = rows.split_at(rows.iter().take_while(fits).count().max(1));
            self.write_piece(piece).map_err(|error| self.damaged(&error))?;
            rows = rest;
        }
        Ok(())
    }

    fn write_piece(&mut self, rows: &[&Trajectory]) -> LibraryResult<()> {
        let group = match &mut self.group {
            Some(group) => group,
            none => none.insert(self.groups.begin(self.writer.flushed_row_groups().len())?),
        };
        group.write(rows, &mut self.packer)?;
        if group.bytes() < GROUP_BYTES {
            return Ok(());
        }
        self.end_group()?;
        if self.syncing.as_ref().is_none_or(JoinHandle::is_finished) {
            self.synced()?;
            let file = self.file.try_clone()?;
            self.syncing = Some(std::thread::spawn(move || file.sync_data()));
        }
        Ok(())
    }

    /// Waits until nothing more is made durable.
    fn synced(&mut self) -> std::io::Result<()> {
        let syncing = self.syncing.take();
        syncing.map_or(Ok(()), |thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    }

    fn end_group(&mut self) -> LibraryResult<()> {
        match self.group.take() {
            Some(group) => group.finish(&mut self.writer, &mut self.packer),
            None => Ok(()),
        }
    }

    /// Adds to the file's metadata what is known only now.
    pub fn add_metadata(&mut self, metadata: &BTreeMap<String, String>) {
        for (key, value) in metadata {
            self.writer.append_key_value_metadata(KeyValue::new(key.clone(), value.clone()));
        }
    }

    /// Completes the file, makes it durable and gives it its name.
    pub fn finish(mut self) -> Result<(), ParquetError> {
        self.end_group().and_then(|()| self.writer.finish()).map_err(|error| self.damaged(&error))?;
        let path = self.path.clone();
        let io = |error| ParquetError::Io { path: path.clone(), error };
        self.synced().and_then(|()| self.file.sync_all()).map_err(io)?;
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

fn properties(metadata: Vec<KeyValue>) -> WriterProperties {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_key_value_metadata(Some(metadata));
    let plain = TEXT_COLUMNS.into_iter();
    plain.fold(properties, |properties, (name, _)| properties.set_column_dictionary_enabled(name.into(), false)).build()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, RecordBatch, StringArray};

    use super::super::group::array;
    use super::*;
    use crate::synthesize::{STEPS, synthesize};

    /// The same by the library alone.
    fn by_the_library(path: &Path, rows: &[Trajectory]) {
        let rows: Vec<&Trajectory> = rows.iter().collect();
        let column = |name: &String| -> ArrayRef {
            match TEXT_COLUMNS.iter().find(|(text, _)| text == name) {
                Some((_, of)) => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| of(row)))),
                None => array(name, &rows),
            }
        };
        let columns = schema().fields().iter().map(|field| column(field.name())).collect();
        let batch = RecordBatch::try_new(schema(), columns).unwrap();
        let properties = properties(vec![KeyValue::new("a".to_owned(), "b".to_owned())]);
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn a_file_is_what_the_library_makes_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let [ours, theirs] = ["ours", "theirs"].map(|name| folder.path().join(name));
        for count in [0, 1, 150] {
            let mut rows: Vec<Trajectory> = (0..count).map(|index| synthesize(1, index, STEPS)).collect();
            rows.iter_mut().take(1).for_each(|row| row.question = "Số 🍎\u{0}\n".repeat(20));
            rows.iter_mut().skip(1).take(3).for_each(|row| row.plan = String::new());
            write(&ours, &rows, &BTreeMap::from([("a".to_owned(), "b".to_owned())])).unwrap();
            by_the_library(&theirs, &rows);
            assert!(std::fs::read(&ours).unwrap() == std::fs::read(&theirs).unwrap(), "{count} rows");
        }
    }
}
