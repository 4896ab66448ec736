//! One file over HTTP: into `NAME.part`, going on where an earlier attempt ended, checked, fsynced, renamed.
//!
//! Whether a part belongs to what the server has now is decided by `If-Range` (RFC 9110, section 13.1.5) with the strong
//! `ETag` that came with the part, which is kept in `NAME.part.etag`; where the checksum is known beforehand it decides,
//! and a part is continued without an `ETag` too.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Instant, SystemTime};

use sha2::{Digest, Sha256};

use super::FetchError;
use crate::network::backoff::{Backoff, RETRY_AFTER_MAX, retry_after};
use crate::network::file::{beside, rename};
use crate::network::stop::Stop;

/// A file of unknown length may be so long.
const BYTES_MAX: u64 = 4 << 30;

/// What to download, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// From where.
    pub url: &'a str,
    /// To where.
    pub path: &'a Path,
    /// Its length, where known.
    pub bytes: Option<u64>,
    /// Its SHA-256, where known.
    pub sha256: Option<&'a str>,
}

/// What was downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// So many of the bytes were there from an earlier attempt.
    pub resumed_at: u64,
}

/// Downloads.
pub struct Downloader<'a> {
    /// The client.
    pub client: &'a ureq::Agent,
    /// Waits between attempts. An attempt that brought bytes begins the count anew.
    pub backoff: Backoff,
    /// Ends the download; the part stays.
    pub stop: &'a Stop,
    /// Told how many bytes of how many are there.
    pub progress: &'a dyn Fn(u64, Option<u64>),
}

/// Why an attempt ended early.
enum Trouble {
    /// Another attempt may help, after so long at least.
    Passing {
        why: String,
        wait: std::time::Duration,
    },
    Final(FetchError),
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        Trouble::Final(error)
    }
}

fn passing(why: impl Into<String>) -> Trouble {
    Trouble::Passing { why: why.into(), wait: std::time::Duration::ZERO }
}

impl Downloader<'_> {
    /// Brings a file to its place. The file is not there before it is whole and right.
    ///
    /// # Errors
    /// [`FetchError`]; after all but [`FetchError::Wrong`] the part stays, for the next time.
    pub fn download(&self, wanted: Wanted<'_>) -> Result<Downloaded, FetchError> {
        let mut part = Part::open(wanted)?;
        let done = self.attempts(&mut part);
        if done.is_err() && part.bytes == 0 {
            part.remove()?;
        }
        done
    }

    fn attempts(&self, part: &mut Part<'_>) -> Result<Downloaded, FetchError> {
        let resumed_at = part.bytes;
        let mut resumed = resumed_at > 0;
        let mut random = fastrand::Rng::new();
        let (mut failed, mut most) = (0, part.bytes);
        loop {
            if self.stop.is_requested() {
                return Err(FetchError::Stopped);
            }
            let trouble = match if part.is_right() { Ok(()) } else { self.attempt(part, &mut resumed) } {
                Ok(()) => match part.wrong() {
                    None => {
                        let resumed_at = if resumed { resumed_at } else { 0 };
                        return Ok(Downloaded { bytes: part.bytes, sha256: part.finish()?, resumed_at });
                    }
                    // What was continued may have begun as another file: once more, from its start.
                    Some(why) if resumed => {
                        part.empty()?;
                        passing(why)
                    }
                    Some(why) => return Err(part.refuse(why)),
                },
                Err(trouble) => trouble,
            };
            let (why, wait) = match trouble {
                Trouble::Final(error) => return Err(error),
                Trouble::Passing { why, wait } => (why, wait),
            };
            failed = if part.bytes > most { 1 } else { failed + 1 };
            most = most.max(part.bytes);
            if failed >= self.backoff.attempts || wait > RETRY_AFTER_MAX {
                return Err(FetchError::Unreachable { url: part.wanted.url.to_owned(), why });
            }
            let wait = self.backoff.wait(failed - 1, random.f64()).max(wait);
            if !self.stop.wait_until(Instant::now() + wait) {
                return Err(FetchError::Stopped);
            }
        }
    }

    /// One request and its whole body. `resumed` says whether the part holds bytes of an earlier response.
    fn attempt(&self, part: &mut Part<'_>, resumed: &mut bool) -> Result<(), Trouble> {
        let mut request = self.client.get(part.wanted.url).header("accept-encoding", "identity");
        if part.can_go_on() {
            request = request.header("range", format!("bytes={}-", part.bytes));
            if let Some(etag) = &part.etag {
                request = request.header("if-range", etag);
            }
        } else {
            part.empty()?;
        }
        let asked_from = part.bytes;
        let mut response = request.call().map_err(|error| passing(error.to_string()))?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let status = response.status().as_u16();
        let url = part.wanted.url.to_owned();
        match status {
            206 if header("content-range").and_then(start_of) == Some(asked_from) => {}
            200 => {
                let etag = header("etag").filter(|etag| etag.starts_with('"')).map(str::to_owned);
                part.empty()?;
                part.set_etag(etag)?;
            }
            206 | 416 => {
                part.empty()?;
                return Err(passing("the server sends another range than it was asked for"));
            }
            408 | 425 | 429 | 500..=599 => {
                let wait = header("retry-after").and_then(|value| retry_after(value, SystemTime::now()));
                return Err(Trouble::Passing { why: format!("HTTP {status}"), wait: wait.unwrap_or_default() });
            }
            _ => return Err(FetchError::Refused { url, status }.into()),
        }
        *resumed = part.bytes > 0;
        let length = response.body().content_length().map(|rest| part.bytes + rest);
        if let (Some(length), Some(bytes)) = (length, part.wanted.bytes)
            && length != bytes
        {
            return Err(part.refuse(format!("the server offers {length} bytes, right are {bytes}")).into());
        }
        let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            if self.stop.is_requested() {
                part.sync()?;
                return Err(FetchError::Stopped.into());
            }
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => {
                    part.sync()?;
                    return Err(passing(error.to_string()));
                }
            };
            part.append(&buffer[..read])?;
            if part.bytes > part.wanted.bytes.unwrap_or(BYTES_MAX) {
                return Err(part.refuse(format!("it goes on after {} bytes", part.bytes)).into());
            }
            (self.progress)(part.bytes, length.or(part.wanted.bytes));
        }
        match length {
            Some(length) if part.bytes < length => Err(passing(format!("{} of {length} bytes came", part.bytes))),
            _ => Ok(()),
        }
    }
}

/// The first byte that a `Content-Range: bytes 5-9/10` covers.
fn start_of(content_range: &str) -> Option<u64> {
    content_range.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// What is there so far.
struct Part<'a> {
    wanted: Wanted<'a>,
    file: File,
    hasher: Sha256,
    bytes: u64,
    etag: Option<String>,
}

impl<'a> Part<'a> {
    fn open(wanted: Wanted<'a>) -> Result<Self, FetchError> {
        let path = beside(wanted.path, ".part");
        let io = |error| FetchError::Io { path: path.clone(), error };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        let etag = std::fs::read_to_string(beside(&path, ".etag")).ok().filter(|etag| etag.starts_with('"'));
        let mut part = Part { wanted, file, hasher: Sha256::new(), bytes: 0, etag };
        part.bytes = std::io::copy(&mut part.file, &mut part.hasher).map_err(io)?;
        Ok(part)
    }

    /// Whether a request may ask for what is missing only.
    fn can_go_on(&self) -> bool {
        let whole = self.wanted.bytes.is_some_and(|bytes| self.bytes >= bytes);
        self.bytes > 0 && !whole && (self.etag.is_some() || self.wanted.sha256.is_some())
    }

    fn io(&self, error: std::io::Error) -> FetchError {
        FetchError::Io { path: beside(self.wanted.path, ".part"), error }
    }

    fn empty(&mut self) -> Result<(), FetchError> {
        self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0))).map_err(|error| self.io(error))?;
        (self.bytes, self.hasher) = (0, Sha256::new());
        self.set_etag(None)
    }

    fn set_etag(&mut self, etag: Option<String>) -> Result<(), FetchError> {
        let path = beside(&beside(self.wanted.path, ".part"), ".etag");
        let done = match &etag {
            Some(etag) => std::fs::write(&path, etag),
            None => remove(&path),
        };
        self.etag = etag;
        done.map_err(|error| FetchError::Io { path, error })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.file.write_all(bytes).map_err(|error| self.io(error))?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn sync(&self) -> Result<(), FetchError> {
        self.file.sync_all().map_err(|error| self.io(error))
    }

    fn sha256(&self) -> String {
        hexadecimal(&self.hasher.clone().finalize())
    }

    /// Whether these bytes are known to be the whole file.
    fn is_right(&self) -> bool {
        self.wanted.sha256.is_some() && self.wrong().is_none()
    }

    /// Why these bytes are not the file, as far as that is known.
    fn wrong(&self) -> Option<String> {
        if let Some(bytes) = self.wanted.bytes.filter(|bytes| *bytes != self.bytes) {
            return Some(format!("{} bytes came, right are {bytes}", self.bytes));
        }
        let (right, sha256) = (self.wanted.sha256?, self.sha256());
        (right != sha256).then(|| format!("their SHA-256 is {sha256}, right is {right}"))
    }

    /// Gives the file its name; its hash.
    fn finish(&mut self) -> Result<String, FetchError> {
        self.sync()?;
        let path = beside(self.wanted.path, ".part");
        rename(&path, self.wanted.path).map_err(|error| FetchError::Io { path: self.wanted.path.to_owned(), error })?;
        let etag = beside(&path, ".etag");
        remove(&etag).map_err(|error| FetchError::Io { path: etag, error })?;
        Ok(self.sha256())
    }

    /// Removes the part: its bytes are wrong.
    fn refuse(&mut self, why: String) -> FetchError {
        self.bytes = 0;
        match self.remove() {
            Ok(()) => FetchError::Wrong { url: self.wanted.url.to_owned(), why },
            Err(error) => error,
        }
    }

    fn remove(&self) -> Result<(), FetchError> {
        let path = beside(self.wanted.path, ".part");
        remove(&path).and_then(|()| remove(&beside(&path, ".etag"))).map_err(|error| self.io(error))
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Length and SHA-256 of a file.
///
/// # Errors
/// Those of reading.
pub fn measure(path: &Path) -> std::io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let bytes = std::io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok((bytes, hexadecimal(&hasher.finalize())))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
