//! A copy of a run in an object store: checkpoints, journal and run.toml, so that it goes on where the disk is lost.
//!
//! ```text
//! PREFIX/run.toml  journal  journal.sealed/*  checkpoints/step-*/…  epochs/<e>
//! ```
//! Every object is read back after it was written. A checkpoint's manifest comes after its files, the journal that names it
//! after that. `epochs/<e>` is written only if it is absent: a coordinator holds the run as long as no higher one is there.

mod publish;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coordinator_core::Digest;
use object_store::path::Path as Key;
use object_store::{Error as RemoteError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio_stream::StreamExt;

use crate::checkpoints;

pub use publish::Publisher;

/// A store that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address is none, or of a kind that is not known.
    #[error("`checkpoint.store` = {url}: {reason}; write s3://BUCKET/PATH, gs://…, az://… or file:///PATH")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store refuses or does not answer.
    #[error("{key}: {error}")]
    Remote {
        /// Which object.
        key: String,
        /// Why.
        error: RemoteError,
    },
    /// An object is not what was written.
    #[error("{key}: what the store gives back is not what was written")]
    Unfaithful {
        /// Which object.
        key: String,
    },
    /// A file of the run cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// There is no run.
    #[error("{0}: there is no run in this store (no journal)")]
    Empty(String),
}

/// The objects of one run.
#[derive(Debug, Clone)]
pub struct Store {
    url: String,
    inner: Arc<dyn ObjectStore>,
    prefix: Key,
}

impl Store {
    /// A store at an address. What it asks for to be let in is read from the environment (AWS_…, GOOGLE_…, AZURE_…).
    pub fn open(url: &str) -> Result<Self, StoreError> {
        Self::with_options(url, std::env::vars())
    }

    fn with_options(url: &str, options: impl Iterator<Item = (String, String)>) -> Result<Self, StoreError> {
        let address = |reason: String| StoreError::Address { url: url.to_owned(), reason };
        // Fails only where one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let parsed = url::Url::parse(url).map_err(|error| address(error.to_string()))?;
        let parsed = object_store::parse_url_opts(&parsed, options);
        let (inner, prefix) = parsed.map_err(|error| address(error.to_string()))?;
        Ok(Store { url: url.to_owned(), inner: inner.into(), prefix })
    }

    fn key(&self, name: &str) -> Key {
        name.split('/').fold(self.prefix.clone(), |key, part| key.join(part))
    }

    /// Writes an object and reads it back.
    async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let key = self.key(name);
        let written = Digest::of(&bytes);
        self.inner.put(&key, PutPayload::from(bytes)).await.map_err(remote(&key))?;
        match self.get(name).await? {
            Some(found) if Digest::of(&found) == written => Ok(()),
            _ => Err(StoreError::Unfaithful { key: key.to_string() }),
        }
    }

    /// Reads an object, if it is there.
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let key = self.key(name);
        let found = match self.inner.get(&key).await {
            Err(RemoteError::NotFound { .. }) => return Ok(None),
            found => found.map_err(remote(&key))?,
        };
        Ok(Some(found.bytes().await.map_err(remote(&key))?.to_vec()))
    }

    /// Names below a folder, relative to the run, in order.
    async fn names(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let (key, prefix) = (self.key(folder), format!("{}/", self.prefix));
        let mut entries = self.inner.list(Some(&key));
        let mut names = vec![];
        while let Some(entry) = entries.next().await {
            let location = entry.map_err(remote(&key))?.location.to_string();
            names.push(location.strip_prefix(&prefix).unwrap_or(&location).to_owned());
        }
        names.sort();
        Ok(names)
    }

    /// The highest coordinator epoch that was claimed; 0: none.
    pub async fn highest_claim(&self) -> Result<u64, StoreError> {
        let names = self.names("epochs").await?;
        let epoch = |name: &String| name.rsplit('/').next()?.parse().ok();
        Ok(names.iter().filter_map(epoch).max().unwrap_or(0))
    }

    /// Claims the first free epoch above `known` and above every claim.
    pub async fn claim(&self, known: u64) -> Result<u64, StoreError> {
        let mut epoch = known.max(self.highest_claim().await?) + 1;
        loop {
            let key = self.key(&format!("epochs/{epoch:08}"));
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let who = format!("process {}\n", std::process::id());
            match self.inner.put_opts(&key, PutPayload::from(who.into_bytes()), options).await {
                Ok(_) => return Ok(epoch),
                Err(RemoteError::AlreadyExists { .. }) => epoch += 1,
                Err(error) => return Err(remote(&key)(error)),
            }
        }
    }

    /// Copies a checkpoint; the manifest last.
    async fn put_checkpoint(&self, run_dir: &Path, step: u64) -> Result<(), StoreError> {
        let folder = checkpoints::folder(run_dir, step);
        let manifest = read(&folder.join(checkpoints::MANIFEST))?;
        let base = format!("{}/step-{step:06}", checkpoints::FOLDER);
        for name in checkpoints::names(&manifest) {
            self.put(&format!("{base}/{name}"), read(&folder.join(&name))?).await?;
        }
        self.put(&format!("{base}/{}", checkpoints::MANIFEST), manifest).await
    }

    /// Copies run.toml, sealed segments that are not there yet, and the journal.
    async fn put_journal(&self, run_dir: &Path) -> Result<(), StoreError> {
        self.put("run.toml", read(&run_dir.join("run.toml"))?).await?;
        // The last segment first: what is sealed meanwhile is copied next time, with the segment that follows it.
        let journal = read(&run_dir.join("journal"))?;
        let known = self.names("journal.sealed").await?;
        for entry in std::fs::read_dir(run_dir.join("journal.sealed")).into_iter().flatten().flatten() {
            let name = format!("journal.sealed/{}", entry.file_name().to_string_lossy());
            if !known.contains(&name) && entry.path().extension().is_none() {
                self.put(&name, read(&entry.path())?).await?;
            }
        }
        self.put("journal", journal).await
    }

    /// Keeps the `keep` newest checkpoints and the best one; manifests go first, so that no half is taken for a whole.
    async fn prune(&self, run_dir: &Path, keep: u64) -> Result<(), StoreError> {
        let names = self.names(checkpoints::FOLDER).await?;
        let step = |name: &str| name.split('/').nth(1)?.strip_prefix("step-")?.parse::<u64>().ok();
        let steps: std::collections::BTreeSet<u64> = names.iter().filter_map(|name| step(name)).collect();
        let best = checkpoints::best(run_dir).map(|(step, _)| step);
        let old = steps.len().saturating_sub(keep as usize);
        for old in steps.into_iter().take(old).filter(|step| Some(*step) != best) {
            let mut of_step: Vec<&String> = names.iter().filter(|name| step(name) == Some(old)).collect();
            of_step.sort_by_key(|name| !name.ends_with(checkpoints::MANIFEST));
            for name in of_step {
                let key = self.key(name);
                self.inner.delete(&key).await.map_err(remote(&key))?;
            }
        }
        Ok(())
    }

    /// Brings a run back into a folder that has none. The journal comes last: half a copy is no run.
    pub async fn restore(&self, run_dir: &Path) -> Result<(), StoreError> {
        let Some(journal) = self.get("journal").await? else { return Err(StoreError::Empty(self.url.clone())) };
        let mut names = vec!["run.toml".to_owned()];
        names.extend(self.names("journal.sealed").await?);
        names.extend(self.names(checkpoints::FOLDER).await?);
        for name in names {
            let bytes = self.get(&name).await?.unwrap_or_default();
            write(&run_dir.join(&name), &bytes)?;
        }
        write(&run_dir.join("journal"), &journal)
    }
}

fn remote(key: &Key) -> impl FnOnce(RemoteError) -> StoreError {
    let key = key.to_string();
    move |error| StoreError::Remote { key, error }
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(path).map_err(|error| StoreError::Io { path: path.to_owned(), error })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let io = |error| StoreError::Io { path: path.to_owned(), error };
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(io)?;
    std::fs::write(path, bytes).map_err(io)
}
