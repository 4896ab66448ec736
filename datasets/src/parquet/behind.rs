//! A writer on a thread of its own: rows are encoded and packed while the next ones are made.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::{ParquetError, Writer};
use crate::trajectory::Trajectory;

/// Batches that wait for the writer; with more the maker of rows waits.
const WAITING: usize = 2;

/// See [`Writer`], whose promises it keeps.
pub struct WriteBehind {
    rows: Option<SyncSender<Vec<Trajectory>>>,
    thread: Option<JoinHandle<Result<Writer, ParquetError>>>,
}

impl WriteBehind {
    /// Begins a file.
    pub fn create(path: &Path, metadata: &BTreeMap<String, String>) -> Result<Self, ParquetError> {
        let mut writer = Writer::create(path, metadata)?;
        let (sender, receiver) = sync_channel::<Vec<Trajectory>>(WAITING);
        let thread = std::thread::spawn(move || {
            for batch in receiver {
                writer.write(&batch.iter().collect::<Vec<_>>())?;
            }
            Ok(writer)
        });
        Ok(WriteBehind { rows: Some(sender), thread: Some(thread) })
    }

    /// Adds rows, best some thousands at once. An error may be that of earlier rows.
    pub fn write(&mut self, rows: Vec<Trajectory>) -> Result<(), ParquetError> {
        let sent = self.rows.as_ref().is_some_and(|sender| sender.send(rows).is_ok());
        if sent { Ok(()) } else { self.join().map(drop) }
    }

    /// Completes the file with more metadata, makes it durable and gives it its name.
    pub fn finish(mut self, metadata: &BTreeMap<String, String>) -> Result<(), ParquetError> {
        let mut writer = self.join()?;
        writer.add_metadata(metadata);
        writer.finish()
    }

    /// Waits until all rows are written. The thread ends when nobody can send to it, or with an error.
    fn join(&mut self) -> Result<Writer, ParquetError> {
        self.rows = None;
        let thread = self.thread.take().expect("nobody writes after the first error or the end");
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Drop for WriteBehind {
    fn drop(&mut self) {
        if self.thread.is_some() {
            // The writer that comes back removes its unfinished file; an error of rows that nobody wants is none.
            drop(self.join());
        }
    }
}
