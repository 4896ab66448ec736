//! The commands of `datasets`.

pub mod contamination;
pub mod convert;
pub mod equal;
#[cfg(feature = "network")]
pub mod fetch;
pub mod graph;
pub mod inject;
pub mod inspect;
mod output;
pub mod parse;
mod progress;
pub mod rows;
pub mod score;
pub mod split;
pub mod stats;
pub mod synthesize;
#[cfg(feature = "network")]
pub mod teach;
mod texts;

use std::path::Path;

use crate::parquet::ParquetError;

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

/// A number of an option from 0 to a thousand million.
#[cfg(feature = "network")]
fn not_negative(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|value| (0.0..=1e9).contains(value)).ok_or_else(|| "a number from 0 to 1e9".to_owned())
}

/// A usage failure unless the path is a file that can be opened.
pub fn check_input(path: &Path) -> Result<(), Failure> {
    let refuse =
        |why: &str| Failure::usage(anyhow::anyhow!("{}: {why}; give the path of a readable file", path.display()));
    let meta = std::fs::metadata(path).map_err(|error| refuse(&error.to_string()))?;
    if meta.is_dir() {
        return Err(refuse("is a folder"));
    }
    std::fs::File::open(path).map(drop).map_err(|error| refuse(&error.to_string()))
}

/// A usage failure unless the path's folder exists and the path is no folder itself.
pub fn check_output(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let why = match (folder.is_dir(), path.is_dir()) {
        (true, false) => return Ok(()),
        (true, true) => "is a folder; give the name of a file",
        (false, _) => "the folder does not exist; create it or choose another path",
    };
    Err(Failure::usage(anyhow::anyhow!("{}: {why}", path.display())))
}
