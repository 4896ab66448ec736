//! The journal: an append-only chain of frames, each bound to the one before by hash.
//!
//! A segment is a header (`POLYAJ02`, its number as u64, the head of the chain before it), then frames: payload length
//! (u32), payload, blake3(previous hash, length, payload); numbers are little endian. A torn tail is what a crash leaves:
//! it is cut. A bad frame with a whole one behind it is damage: an error. A long segment is sealed beside the journal with
//! a snapshot of the fold, so that a restart reads the last segment; an audit reads all.

mod error;
mod frame;
mod read;
mod rewind;
mod segment;
mod snapshot;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use coordinator_core::record::Record;
use coordinator_core::{Digest, Journal as Fold, Setup};

pub use error::JournalError;
use error::io;
use frame::Header;

use crate::exit::ExitError;
pub use read::Records;
pub use rewind::rewind;

/// The journal of a run directory. One that has none is a mistake of the command line.
pub fn of_run(dir: &Path) -> Result<PathBuf, ExitError> {
    let path = dir.join("journal");
    match path.is_file() {
        true => Ok(path),
        false => Err(ExitError::usage(anyhow!("{}: no journal here; is it a run directory?", dir.display()))),
    }
}

/// A segment is sealed when it is longer.
const SEGMENT_BYTES: u64 = 32 << 20;

/// An open, locked journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Held as long as the journal is open.
    _lock: File,
    number: u64,
    head: Digest,
    bytes: u64,
    records: u64,
    segment_bytes: u64,
    poisoned: bool,
}

/// What was found when a journal was opened.
#[derive(Debug)]
pub struct Found {
    /// The fold of all records.
    pub fold: Fold,
    /// Bytes of a torn tail that was cut.
    pub torn: u64,
    /// Whether sealed segments had to be read, because there was no good snapshot of them.
    pub refolded: bool,
}

impl Journal {
    /// Creates the journal; it must not exist.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        let lock = lock(path)?;
        if path.exists() {
            return Err(io(path)(std::io::ErrorKind::AlreadyExists.into()));
        }
        let header = Header::first();
        segment::begin(path, &header)?;
        let bytes = frame::HEADER as u64;
        Self::opened(path, lock, header.number, header.previous, bytes, 0)
    }

    /// Opens the journal, cuts a torn tail and folds the records.
    pub fn open(path: &Path, setup: &Setup) -> Result<(Self, Found), JournalError> {
        let lock = lock(path)?;
        let header = read::header_of(path)?;
        segment::undo(path, header.number)?;
        let known = match header.number {
            1 => None,
            number => snapshot::read(&segment::snapshot(path, number - 1), header.previous),
        };
        let refolded = header.number > 1 && known.is_none();
        let mut records = if known.is_some() { Records::tail(path)? } else { Records::open(path)? };
        let mut fold = known.unwrap_or_else(|| Fold::new(setup.scale_log2));
        for record in &mut records {
            fold.fold(setup, &record?);
        }
        let head = records.head().unwrap_or(header.previous);
        let torn = records.torn();
        let bytes = std::fs::metadata(path).map_err(io(path))?.len() - torn;
        let journal = Self::opened(path, lock, header.number, head, bytes, fold.records())?;
        if torn > 0 {
            journal.file.set_len(bytes).and_then(|()| journal.file.sync_all()).map_err(io(path))?;
        }
        Ok((journal, Found { fold, torn, refolded }))
    }

    fn opened(
        path: &Path,
        lock: File,
        number: u64,
        head: Digest,
        bytes: u64,
        records: u64,
    ) -> Result<Self, JournalError> {
        let file = OpenOptions::new().append(true).open(path).map_err(io(path))?;
        let (path, segment_bytes) = (path.to_owned(), SEGMENT_BYTES);
        Ok(Journal { path, file, _lock: lock, number, head, bytes, records, segment_bytes, poisoned: false })
    }

    /// Another length from which on a segment is sealed.
    pub fn with_segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Appends a record and makes it durable. After a failure nothing is written any more: what a failed fsync left
    /// behind is unknown, so it is never tried again.
    pub fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        self.guarded(|journal| {
            let (bytes, head) = frame::encode(journal.head, &record.encode());
            journal.file.write_all(&bytes).and_then(|()| journal.file.sync_data()).map_err(io(&journal.path))?;
            journal.head = head;
            journal.bytes += bytes.len() as u64;
            journal.records += 1;
            Ok(())
        })
    }

    /// Seals the last segment if it is long and `fold` is the fold of all that was appended. True if it did.
    pub fn seal_if_long(&mut self, fold: &Fold) -> Result<bool, JournalError> {
        if self.bytes < self.segment_bytes || fold.records() != self.records {
            return Ok(false);
        }
        self.guarded(|journal| {
            let (path, number) = (journal.path.clone(), journal.number);
            segment::make_folder(&path)?;
            snapshot::write(&segment::snapshot(&path, number), journal.head, fold)?;
            segment::seal(&path, number)?;
            segment::begin(&path, &Header { number: number + 1, previous: journal.head })?;
            journal.file = OpenOptions::new().append(true).open(&path).map_err(io(&path))?;
            journal.number += 1;
            journal.bytes = frame::HEADER as u64;
            segment::remove(&segment::snapshot(&path, number - 1))?;
            Ok(true)
        })
    }

    /// Hash of the last frame.
    pub fn head(&self) -> Digest {
        self.head
    }

    fn guarded<T>(&mut self, write: impl FnOnce(&mut Self) -> Result<T, JournalError>) -> Result<T, JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned { path: self.path.clone() });
        }
        let result = write(self);
        self.poisoned = result.is_err();
        result
    }
}

/// The fold of the whole journal that remembers every step and checkpoint. Read only.
pub fn fold_everything(path: &Path, setup: &Setup) -> Result<Fold, JournalError> {
    let mut fold = Fold::remembering_from(setup.scale_log2, 0);
    for record in Records::open(path)? {
        fold.fold(setup, &record?);
    }
    Ok(fold)
}

/// A file of its own, since the journal's is replaced when a segment is sealed.
fn lock(journal: &Path) -> Result<File, JournalError> {
    let path = journal.with_extension("lock");
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(JournalError::Locked { path: journal.to_owned() }),
        Err(std::fs::TryLockError::Error(error)) => Err(io(&path)(error)),
    }
}
