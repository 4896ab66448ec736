//! Files that are whole or not there: written aside, fsynced, renamed.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// `path` with more at its end: `train.jsonl`, `.part` is `train.jsonl.part`.
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Writes a file through `PATH.partial`.
///
/// # Errors
/// Those of writing; the old file, if there is one, is then still there.
pub fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let partial = beside(path, ".partial");
    let mut file = File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename(&partial, path)
}

/// Gives a file, already fsynced, its name, durably.
///
/// # Errors
/// Those of renaming and of fsyncing the folder.
pub fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::rename(from, to)?;
    sync_folder_of(to)
}

/// Makes the names in a file's folder durable.
///
/// # Errors
/// Those of opening and fsyncing the folder.
pub fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
