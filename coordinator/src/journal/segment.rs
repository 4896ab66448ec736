//! Segments: where sealed ones stand, and how one is sealed so that a crash at any point leaves a whole journal.
//!
//! The last segment is the file `journal`. Sealing writes the snapshot and an empty successor aside, links `journal` to its
//! name in `journal.sealed/`, and renames the successor over `journal`. A crash before the rename leaves a second name of
//! the last segment, which is removed when the journal is opened.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::JournalError;
use super::error::io;
use super::frame::Header;

/// The folder of the sealed segments.
fn folder(journal: &Path) -> PathBuf {
    let mut name = journal.file_name().unwrap_or_default().to_owned();
    name.push(".sealed");
    journal.with_file_name(name)
}

/// The file of a sealed segment.
pub(super) fn sealed(journal: &Path, number: u64) -> PathBuf {
    folder(journal).join(format!("{number:08}"))
}

/// The file of the fold of all segments up to this one.
pub(super) fn snapshot(journal: &Path, number: u64) -> PathBuf {
    folder(journal).join(format!("{number:08}.snapshot"))
}

/// Writes a segment without a frame in the place of whatever is there.
pub(super) fn begin(journal: &Path, header: &Header) -> Result<(), JournalError> {
    replace(journal, &header.encode())
}

/// Gives the last segment its sealed name; `journal` stays what it is until [`begin`] replaces it.
pub(super) fn seal(journal: &Path, number: u64) -> Result<(), JournalError> {
    let target = sealed(journal, number);
    if fs::hard_link(journal, &target).is_err() {
        // A file system without links: a copy, whole before it has its name.
        let bytes = fs::read(journal).map_err(io(journal))?;
        replace(&target, &bytes)?;
    }
    sync_folder(&folder(journal))
}

/// Makes the folder of the sealed segments.
pub(super) fn make_folder(journal: &Path) -> Result<(), JournalError> {
    let folder = folder(journal);
    fs::create_dir_all(&folder).map_err(io(&folder))
}

/// Removes what an interrupted sealing of segment `number`, which is still the last, left behind.
pub(super) fn undo(journal: &Path, number: u64) -> Result<(), JournalError> {
    for path in [sealed(journal, number), snapshot(journal, number)] {
        remove(&path)?;
    }
    Ok(())
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> Result<(), JournalError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
}

/// Writes a file aside, makes it durable and renames it into its place.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    let temporary = path.with_extension("next");
    let mut file = File::create(&temporary).map_err(io(&temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io(&temporary))?;
    fs::rename(&temporary, path).map_err(io(path))?;
    sync_folder(path.parent().unwrap_or(Path::new("")))
}

fn sync_folder(folder: &Path) -> Result<(), JournalError> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))
}
