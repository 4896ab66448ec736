//! Rows of any Parquet file as JSON objects, so that other people's columns go the way of JSON Lines.

use std::fs::File;
use std::path::Path;

use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde_json::Value;

/// Rows one after the other.
pub struct Rows {
    batches: ParquetRecordBatchReader,
    rows: std::vec::IntoIter<Value>,
}

impl Rows {
    /// Opens a file. Errors are sentences of the Parquet reader.
    pub fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
        let batches = builder.with_batch_size(512).build().map_err(|error| error.to_string())?;
        Ok(Rows { batches, rows: Vec::new().into_iter() })
    }

    /// The next row; none at the end. Columns that are null are left out.
    pub fn next_row(&mut self) -> Result<Option<Value>, String> {
        loop {
            if let Some(row) = self.rows.next() {
                return Ok(Some(row));
            }
            let Some(batch) = self.batches.next() else { return Ok(None) };
            let batch = batch.map_err(|error| error.to_string())?;
            let mut writer = arrow_json::ArrayWriter::new(Vec::new());
            writer.write(&batch).and_then(|()| writer.finish()).map_err(|error| error.to_string())?;
            let rows: Vec<Value> = serde_json::from_slice(&writer.into_inner()).map_err(|error| error.to_string())?;
            self.rows = rows.into_iter();
        }
    }
}

/// Whether the first bytes are those of a Parquet file.
pub fn is_parquet(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"PAR1"
}
