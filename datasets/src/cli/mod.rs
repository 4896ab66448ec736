//! The subcommands of `datasets`, a file each.

use std::path::{Path, PathBuf};

pub mod parse;
pub mod split;

/// What the command line or a path can fix: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// An input that is not there, or not a file.
    #[error("{}: {why}; give the path of a readable file", .path.display())]
    Input {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// An output whose folder is not there.
    #[error("{}: the folder does not exist; create it or choose another path", .0.display())]
    OutputFolder(PathBuf),
    /// A value out of its range.
    #[error("{0}")]
    Value(String),
}

/// Fails with [`UsageError`] unless the path is a file that can be opened.
pub fn check_input(path: &Path) -> Result<(), UsageError> {
    let refuse = |why: String| UsageError::Input { path: path.to_owned(), why };
    let meta = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    if meta.is_dir() {
        return Err(refuse("is a folder".to_owned()));
    }
    std::fs::File::open(path).map_err(|error| refuse(error.to_string()))?;
    Ok(())
}

/// Fails with [`UsageError`] unless the path's folder exists.
pub fn check_output(path: &Path) -> Result<(), UsageError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() { Ok(()) } else { Err(UsageError::OutputFolder(path.to_owned())) }
}
