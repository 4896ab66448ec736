//! Trajectories to a file of the kind that its name says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::Failure;
use super::rows::create;
use crate::parquet::WriteBehind;
use crate::trajectory::Trajectory;

/// JSON Lines where the name ends in `.jsonl`, else Parquet.
pub(super) enum Output {
    Parquet(WriteBehind),
    Lines(BufWriter<File>),
}

impl Output {
    /// Begins the file.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            Ok(Output::Lines(create(path)?))
        } else {
            Ok(Output::Parquet(WriteBehind::create(path, &BTreeMap::new())?))
        }
    }

    /// Adds rows, best some thousands at once.
    pub(super) fn write(&mut self, trajectories: Vec<Trajectory>) -> Result<(), Failure> {
        match self {
            Output::Parquet(writer) => writer.write(trajectories)?,
            Output::Lines(file) => {
                for trajectory in &trajectories {
                    serde_json::to_writer(&mut *file, trajectory)?;
                    file.write_all(b"\n")?;
                }
            }
        }
        Ok(())
    }

    /// Completes the file; only Parquet holds the metadata.
    pub(super) fn finish(self, metadata: &BTreeMap<String, String>) -> Result<(), Failure> {
        match self {
            Output::Parquet(writer) => writer.finish(metadata)?,
            Output::Lines(mut file) => file.flush()?,
        }
        Ok(())
    }
}
