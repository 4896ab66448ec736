//! Trajectories in Parquet, one row a sample, as pyarrow, pandas, polars and DuckDB read it.

mod behind;
mod group;
mod read;
mod schema;
mod texts;
mod write;

use std::path::PathBuf;

pub use behind::WriteBehind;
pub use read::{Question, Trajectories, metadata, questions, read};
pub use write::{Writer, write};

/// A Parquet file that cannot be read or written; names the file.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    /// The file cannot be opened, created or renamed.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Its bytes are not Parquet, or damaged.
    #[error("{path}: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// A column is missing, of another type, or holds a null that it must not.
    #[error("{path}: column `{column}`: {reason}")]
    Column {
        /// Which file.
        path: PathBuf,
        /// Which column.
        column: &'static str,
        /// What is wrong.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow_array::cast::AsArray;
    use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelector};
    use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};

    use super::*;
    use crate::synthesize::{STEPS, synthesize};
    use crate::trajectory::{Planted, SpanWeight, Trajectory};

    fn samples() -> Vec<Trajectory> {
        let mut samples: Vec<Trajectory> = (0..300).map(|index| synthesize(1, index, STEPS)).collect();
        samples[1].planted =
            Some(Planted { kind: "arithmetic".into(), calculation: 2, right: "7".into(), wrong: "8".into() });
        samples[1].corrective = true;
        samples[2].weights = Some(vec![SpanWeight { start: 3, end: 9, weight: 0.5 }]);
        samples[3].weights = Some(vec![]);
        samples[4].question = "Số táo 🍎\u{2028} \"\u{0}\"".into();
        samples
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let counts = BTreeMap::from([("polya.read".to_owned(), "300".to_owned())]);
        let samples = samples();
        write(&path, samples.iter(), &counts).unwrap();
        assert_eq!(read(&path).unwrap(), samples);
        assert_eq!(metadata(&path).unwrap().get("polya.read").map(String::as_str), Some("300"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn pages_and_groups_of_any_number_hold_their_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let mut rows: Vec<Trajectory> = (0..9_000).map(|index| synthesize(1, index, STEPS)).collect();
        // One text larger than a page, one larger than a group.
        rows[5].question = "Số 🍎 ".repeat(20_000);
        rows[4_000].verify = (0..500_000).map(|number| format!("{number} ")).collect();
        write(&path, &rows, &BTreeMap::new()).unwrap();
        assert!(read(&path).unwrap() == rows);
        let file = std::fs::File::open(&path).unwrap();
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
        assert!(metadata.num_row_groups() > 1);
        for group in metadata.row_groups() {
            let mut places = group.columns().iter().map(|column| column.offset_index_offset().unwrap());
            assert!(places.all(|place| place > 0), "each column says where its pages are");
        }
        // A reader that goes by the pages finds the rows, too.
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let few = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).unwrap();
        let skipped = vec![RowSelector::skip(8_000), RowSelector::select(3)];
        let few = few.with_row_selection(skipped.into()).build().unwrap().next().unwrap().unwrap();
        let plans = few.column_by_name("plan").unwrap().as_string::<i32>();
        assert!(plans.iter().flatten().eq(rows[8_000..8_003].iter().map(|row| row.plan.as_str())));
    }

    #[test]
    fn damage_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path, samples().iter(), &BTreeMap::new()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for bytes in [&whole[..whole.len() / 2], b"", b"PAR1", &b"x".repeat(100)] {
            std::fs::write(&path, bytes).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("a.parquet"));
        }
        assert!(matches!(read(&folder.path().join("none.parquet")), Err(ParquetError::Io { .. })));
    }
}
