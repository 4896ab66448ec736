//! Published data sets, downloaded once and checked: what is there already is measured, not fetched again.

pub mod download;
pub mod lock;
pub mod published;

use std::path::{Path, PathBuf};

use download::{Downloader, Wanted, measure};
use lock::{Lock, Locked};
use published::{Published, PublishedFile};
use serde::Serialize;

/// Why a file is not there.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No attempt brought it.
    #[error("{url}: {why}")]
    Unreachable {
        /// Which.
        url: String,
        /// The last attempt's trouble.
        why: String,
    },
    /// The server says that it will not give it.
    #[error("{url}: HTTP {status}")]
    Refused {
        /// Which.
        url: String,
        /// The status.
        status: u16,
    },
    /// The bytes are others than they should be. They were removed.
    #[error("{url}: not the file that is wanted: {why}; what came was removed")]
    Wrong {
        /// Which.
        url: String,
        /// In what they differ.
        why: String,
    },
    /// Something else has the file's name.
    #[error(
        "{path}: is there and is another file (SHA-256 {found}, right is {right}); move it away, or choose another folder"
    )]
    Taken {
        /// Where.
        path: PathBuf,
        /// Its hash.
        found: String,
        /// The wanted one's.
        right: String,
    },
    /// Reading or writing failed.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Somebody asked to stop. What came so far stays.
    #[error("stopped; the same command goes on where this one ended")]
    Stopped,
}

/// How a file came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It was there.
    Present,
    /// All of it was downloaded.
    Downloaded,
    /// The rest of it was downloaded.
    Resumed,
}

/// What is known of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checked {
    /// They are the published ones.
    Published,
    /// They are those of the first download.
    Locked,
    /// Nobody publishes a checksum; this one was written down.
    FirstSeen,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// Where.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// How it came there.
    pub how: How,
    /// What is known of its bytes.
    pub checked: Checked,
}

/// Makes one file of a data set be in a folder. `url` is where it is to be had.
///
/// # Errors
/// [`FetchError`].
pub fn fetch(
    file: &PublishedFile,
    url: &str,
    folder: &Path,
    lock: &mut Lock,
    downloader: &Downloader<'_>,
) -> Result<Fetched, FetchError> {
    let path = folder.join(file.name());
    let locked = lock.of(file.name()).cloned();
    let known = file.sha256.map(str::to_owned).or(locked.as_ref().map(|locked| locked.sha256.clone()));
    let io = |path: &Path, error| FetchError::Io { path: path.to_owned(), error };
    let (bytes, sha256, how) = match measure(&path) {
        Ok((bytes, sha256)) => (bytes, sha256, How::Present),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(&path, error)),
        Err(_) => {
            let wanted = Wanted {
                url,
                path: &path,
                bytes: file.bytes.or(locked.as_ref().map(|locked| locked.bytes)),
                sha256: known.as_deref(),
            };
            let done = downloader.download(wanted)?;
            (done.bytes, done.sha256, if done.resumed_at > 0 { How::Resumed } else { How::Downloaded })
        }
    };
    let checked = match (&known, &locked) {
        (Some(right), _) if *right != sha256 => {
            return Err(FetchError::Taken { path, found: sha256, right: right.clone() });
        }
        (Some(_), Some(_)) if file.sha256.is_none() => Checked::Locked,
        (Some(_), _) => Checked::Published,
        (None, _) => {
            let entry = Locked { url: url.to_owned(), bytes, sha256: sha256.clone() };
            lock.remember(file.name(), entry).map_err(|error| io(&folder.join(lock::NAME), error))?;
            Checked::FirstSeen
        }
    };
    Ok(Fetched { path, bytes, sha256, how, checked })
}

/// What somebody without this program's help has to do.
pub fn by_hand(published: &Published, root: Option<&str>, folder: &Path) -> String {
    let mut text = String::from("By hand: download");
    for file in published.files {
        let from = root.map_or_else(|| format!("{} (through {})", file.path, published.home), |root| url(root, file));
        let to = folder.join(file.name());
        text.push_str(&format!("\n  {from}\n    to {}", to.display()));
        let bytes = file.bytes.map(|bytes| format!("{bytes} bytes")).into_iter();
        let known: Vec<String> = bytes.chain(file.sha256.map(|hash| format!("SHA-256 {hash}"))).collect();
        if !known.is_empty() {
            text.push_str(&format!("\n    {}", known.join(", ")));
        }
    }
    text + "\nand run the same command again: it measures what is there and downloads nothing twice."
}

/// The address of a file below a root.
pub fn url(root: &str, file: &PublishedFile) -> String {
    format!("{}/{}", root.trim_end_matches('/'), file.path)
}
