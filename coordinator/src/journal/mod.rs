//! The journal: an append-only file of frames, each chained to the one before by hash.
//!
//! `POLYAJ01`, then frames: payload length (u32, little endian), payload, blake3(previous hash, length, payload). A torn
//! tail is what a crash leaves: it is cut. A bad frame with a whole one behind it is damage: an error.

mod frame;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use coordinator_core::Digest;
use coordinator_core::record::{Record, RecordError};

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
    /// Not a journal, or of another version.
    #[error("{path}: not a journal of format {}", frame::FORMAT)]
    Format {
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

/// What a journal holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The records in order.
    pub records: Vec<Record>,
    /// Hash of the last frame: the head of the chain.
    pub head: Digest,
    /// Bytes of a torn tail, if there was one.
    pub torn: u64,
}

/// An open, locked journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    head: Digest,
    poisoned: bool,
}

impl Journal {
    /// Creates the file; it must not exist.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        let io = |error| JournalError::Io { path: path.to_owned(), error };
        let mut file = OpenOptions::new().read(true).append(true).create_new(true).open(path).map_err(io)?;
        lock(&file, path)?;
        file.write_all(frame::MAGIC).and_then(|()| file.sync_all()).map_err(io)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        }
        Ok(Journal { path: path.to_owned(), file, head: frame::first(), poisoned: false })
    }

    /// Opens the file and cuts a torn tail.
    pub fn open(path: &Path) -> Result<(Self, Contents), JournalError> {
        let io = |error| JournalError::Io { path: path.to_owned(), error };
        let mut file = OpenOptions::new().read(true).append(true).open(path).map_err(io)?;
        lock(&file, path)?;
        let mut bytes = vec![];
        file.read_to_end(&mut bytes).map_err(io)?;
        let contents = parse(path, &bytes)?;
        if contents.torn > 0 {
            file.set_len(bytes.len() as u64 - contents.torn).and_then(|()| file.sync_all()).map_err(io)?;
            file.seek(SeekFrom::End(0)).map_err(io)?;
        }
        Ok((Journal { path: path.to_owned(), file, head: contents.head, poisoned: false }, contents))
    }

    /// Appends a record and makes it durable. After a failure nothing is written any more: what a failed fsync left
    /// behind is unknown, so it is never tried again.
    pub fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned { path: self.path.clone() });
        }
        let (bytes, head) = frame::encode(self.head, &record.encode());
        if let Err(error) = self.file.write_all(&bytes).and_then(|()| self.file.sync_data()) {
            self.poisoned = true;
            return Err(JournalError::Io { path: self.path.clone(), error });
        }
        self.head = head;
        Ok(())
    }

    /// Hash of the last frame.
    pub fn head(&self) -> Digest {
        self.head
    }
}

fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(std::fs::TryLockError::WouldBlock) => Err(JournalError::Locked { path: path.to_owned() }),
        Err(std::fs::TryLockError::Error(error)) => Err(JournalError::Io { path: path.to_owned(), error }),
    }
}

/// Reads a journal without touching it, also while a coordinator writes it.
pub fn read(path: &Path) -> Result<Contents, JournalError> {
    let bytes = std::fs::read(path).map_err(|error| JournalError::Io { path: path.to_owned(), error })?;
    parse(path, &bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Contents, JournalError> {
    let parsed = frame::parse(bytes).map_err(|error| match error {
        frame::FrameError::Format => JournalError::Format { path: path.to_owned() },
        frame::FrameError::Broken(at) => JournalError::Broken { path: path.to_owned(), at },
    })?;
    let mut records = Vec::with_capacity(parsed.payloads.len());
    for (at, payload) in parsed.payloads {
        let record = Record::decode(payload);
        records.push(record.map_err(|error| JournalError::Record { path: path.to_owned(), at, error })?);
    }
    Ok(Contents { records, head: parsed.head, torn: parsed.torn })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u64) -> Record {
        Record::Epoch { epoch, time_ms: 7 }
    }

    #[test]
    fn what_was_appended_is_read_and_a_second_coordinator_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::create(&path).unwrap();
        (1..4).for_each(|epoch| journal.append(&record(epoch)).unwrap());
        assert!(matches!(Journal::open(&path), Err(JournalError::Locked { .. })));
        assert_eq!(read(&path).unwrap().records, [record(1), record(2), record(3)]);
        let head = journal.head();
        drop(journal);
        let (mut journal, contents) = Journal::open(&path).unwrap();
        assert_eq!((contents.head, contents.torn), (head, 0));
        journal.append(&record(4)).unwrap();
        assert_eq!(read(&path).unwrap().records.len(), 4);
    }

    #[test]
    fn a_torn_tail_is_cut_wherever_it_was_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::create(&path).unwrap();
        journal.append(&record(1)).unwrap();
        let whole = std::fs::metadata(&path).unwrap().len() as usize;
        journal.append(&record(2)).unwrap();
        drop(journal);
        let bytes = std::fs::read(&path).unwrap();
        for length in whole..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let (mut journal, contents) = Journal::open(&path).unwrap();
            assert_eq!((contents.records.len(), contents.torn), (1, (length - whole) as u64));
            journal.append(&record(3)).unwrap();
            drop(journal);
            assert_eq!(read(&path).unwrap().records, [record(1), record(3)]);
        }
    }

    #[test]
    fn a_flipped_byte_before_a_whole_frame_is_an_error_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::create(&path).unwrap();
        (1..4).for_each(|epoch| journal.append(&record(epoch)).unwrap());
        drop(journal);
        let bytes = std::fs::read(&path).unwrap();
        let frame = (bytes.len() - 8) / 3;
        for at in 8..8 + 2 * frame {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert!(matches!(read(&path), Err(JournalError::Broken { .. })), "byte {at}: {:?}", read(&path));
        }
    }
}
