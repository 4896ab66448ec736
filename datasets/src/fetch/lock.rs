//! `fetch.lock.json`, beside the files: the checksums of what its publisher gives no checksum for.
//!
//! The first download writes them down. From then on they tell whether a file has changed; they cannot tell whether the
//! first one was what its authors published.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::network::file;

/// Name of the lock file.
pub const NAME: &str = "fetch.lock.json";

/// What is known of a file since its first download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locked {
    /// Where it came from.
    pub url: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// The lock file of a folder.
#[derive(Debug, Clone)]
pub struct Lock {
    path: PathBuf,
    files: BTreeMap<String, Locked>,
}

impl Lock {
    /// Reads it; a folder without one has an empty one.
    ///
    /// # Errors
    /// Those of reading, and a file that is no lock file.
    pub fn open(folder: &Path) -> std::io::Result<Lock> {
        let path = folder.join(NAME);
        let files = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(std::io::Error::other)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Lock { path, files })
    }

    /// What is known of a file.
    pub fn of(&self, name: &str) -> Option<&Locked> {
        self.files.get(name)
    }

    /// Remembers a file, durably.
    ///
    /// # Errors
    /// Those of writing.
    pub fn remember(&mut self, name: &str, locked: Locked) -> std::io::Result<()> {
        self.files.insert(name.to_owned(), locked);
        file::write(&self.path, (serde_json::to_string_pretty(&self.files)? + "\n").as_bytes())
    }
}
