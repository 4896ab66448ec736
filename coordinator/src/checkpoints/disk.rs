//! The file system as a save uses it, one call a method, so that a test can let each of them fail.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Calls that change or persist something.
pub trait Disk {
    /// Removes a folder with all in it; one that is not there is no error.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder; one that is there already is no error.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes a file of these bytes, not yet durable.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's bytes, or a folder's entries, durable.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Renames; durable once the parent folder is synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
}

/// The machine's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        File::create(path)?.write_all(bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
}
