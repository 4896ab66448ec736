//! What can be wrong with a journal.

use std::path::{Path, PathBuf};

use coordinator_core::record::RecordError;

use super::frame;

/// A journal that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Another coordinator has it.
    #[error("{path} is locked: another coordinator runs in this directory")]
    Locked {
        /// Which file.
        path: PathBuf,
    },
    /// Not a journal.
    #[error("{path}: not a journal (it does not begin with {})", String::from_utf8_lossy(frame::MAGIC))]
    NotAJournal {
        /// Which file.
        path: PathBuf,
    },
    /// A journal of another version of Polya.
    #[error(
        "{path}: a journal of format {found}, this program reads {}: use the version of Polya that wrote it",
        String::from_utf8_lossy(frame::MAGIC)
    )]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// A step that is to be the last one is not there.
    #[error("{path}: step {step} is not committed; the last one is {committed}, the first one 1")]
    NotCommitted {
        /// Which file.
        path: PathBuf,
        /// Which step.
        step: u64,
        /// The last committed one.
        committed: u64,
    },
    /// A segment does not continue the one before.
    #[error("{path}: this segment does not continue the one before it: a segment was lost, changed or put elsewhere")]
    Discontinued {
        /// Which file.
        path: PathBuf,
    },
    /// A frame in the middle is damaged.
    #[error("{path}: byte {at}: the frame is damaged, and whole frames follow: this is no torn tail. Restore the file")]
    Broken {
        /// Which file.
        path: PathBuf,
        /// Where the frame begins.
        at: u64,
    },
    /// A whole frame holds no record.
    #[error("{path}: byte {at}: {error}")]
    Record {
        /// Which file.
        path: PathBuf,
        /// Where the frame begins.
        at: u64,
        /// Why.
        error: RecordError,
    },
    /// An earlier write or fsync failed: what is durable is unknown.
    #[error("{path}: an earlier write failed, nothing more is written")]
    Poisoned {
        /// Which file.
        path: PathBuf,
    },
}

pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> JournalError {
    let path = path.to_owned();
    move |error| JournalError::Io { path, error }
}

pub(super) fn header(path: &Path) -> impl FnOnce(frame::HeaderError) -> JournalError {
    let path = path.to_owned();
    move |error| match error {
        frame::HeaderError::Version(found) => JournalError::Version { path, found },
        frame::HeaderError::NotAJournal => JournalError::NotAJournal { path },
    }
}
