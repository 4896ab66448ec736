//! The commands of `datasets`.

pub mod inject;
pub mod synthesize;

use std::path::Path;

use crate::parquet::{self, ParquetError};
use crate::trajectory::Trajectory;

/// Why a command failed, with its exit code: 2 where a path or the command line can fix it, 1 for content and I/O.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// What to tell.
    pub error: anyhow::Error,
}

impl Failure {
    /// A wrong command line or path.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Failure { code: 2, error: error.into() }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let missing = error.chain().any(|cause| {
            let is_missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
            matches!(cause.downcast_ref::<ParquetError>(), Some(ParquetError::Io { error, .. }) if is_missing(error))
                || cause.downcast_ref::<std::io::Error>().is_some_and(is_missing)
        });
        Failure { code: if missing { 2 } else { 1 }, error }
    }
}

/// Writes trajectories as Parquet, or as JSON Lines where the name ends in `.jsonl`.
pub fn write_trajectories(
    path: &Path,
    trajectories: &[Trajectory],
    metadata: &std::collections::BTreeMap<String, String>,
) -> Result<(), Failure> {
    if path.extension().is_some_and(|extension| extension == "jsonl") {
        let mut text = String::new();
        for trajectory in trajectories {
            text.push_str(&serde_json::to_string(trajectory)?);
            text.push('\n');
        }
        return std::fs::write(path, text)
            .map_err(|error| anyhow::Error::new(error).context(path.display().to_string()).into());
    }
    Ok(parquet::write(path, trajectories, metadata)?)
}
