//! Checkpoints: a folder a step that is absent, or complete and verifiable (I8).
//!
//! Files are written under a temporary name and fsynced, the manifest (size and blake3 of each) last, then one rename.

mod disk;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use coordinator_core::Digest;
use serde::{Deserialize, Serialize};

pub use disk::{Disk, RealDisk};

/// A state's files, by name, in order.
pub type StateFiles = Vec<(String, Vec<u8>)>;

/// Where checkpoints stand in a run directory.
pub const FOLDER: &str = "checkpoints";
pub(crate) const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
const TEMPORARY: &str = ".tmp-";
/// Names the best checkpoint by holdout loss.
const BEST: &str = "best.json";

/// A checkpoint that cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is not what the manifest says.
    #[error("{path}: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// Written by another version of Polya.
    #[error(
        "{path}: a checkpoint of format {found}, this program reads {FORMAT}: use the version of Polya that wrote it"
    )]
    Version {
        /// Its manifest.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |error| CheckpointError::Io { path, error }
}

fn damaged(path: &Path, reason: impl Into<String>) -> CheckpointError {
    CheckpointError::Damaged { path: path.to_owned(), reason: reason.into() }
}

/// Version of a checkpoint's format.
const FORMAT: u32 = 1;

/// Size and hash of each file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format.
    #[serde(default)]
    pub format: u32,
    /// By name.
    pub files: BTreeMap<String, Entry>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Bytes.
    pub size: u64,
    /// Hash.
    pub blake3: Digest,
}

/// What state.json says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateJson {
    /// Step.
    pub step: u64,
    /// S_t.
    pub state: Digest,
    /// Coordinator epoch that wrote it.
    pub epoch: u64,
}

/// The folder of a step.
pub fn folder(run_dir: &Path, step: u64) -> PathBuf {
    run_dir.join(FOLDER).join(format!("step-{step:06}"))
}

/// Writes a checkpoint. Gives the hash of its manifest. A folder that is there already and whole is left as it is.
pub fn save(run_dir: &Path, state: &StateJson, files: &StateFiles) -> Result<Digest, CheckpointError> {
    save_on(&RealDisk, run_dir, state, files)
}

/// The same, on a disk that may fail at any call: after that the checkpoint is absent, or complete (I8).
fn save_on(disk: &impl Disk, run_dir: &Path, state: &StateJson, files: &StateFiles) -> Result<Digest, CheckpointError> {
    let target = folder(run_dir, state.step);
    if let Ok((_, digest)) = verify(&target) {
        return Ok(digest);
    }
    let parent = run_dir.join(FOLDER);
    let temporary = parent.join(format!("{TEMPORARY}step-{:06}", state.step));
    remove(disk, &temporary)?;
    remove(disk, &target)?; // damaged, or it would have been returned above
    create(disk, &parent)?;
    sync(disk, run_dir)?; // the folder of all checkpoints may be new
    create(disk, &temporary)?;
    let json = serde_json::to_vec_pretty(state).expect("numbers and texts serialise");
    let mut manifest = Manifest { format: FORMAT, files: BTreeMap::new() };
    let mut folders = BTreeSet::new();
    for (name, bytes) in files.iter().map(|(name, bytes)| (name.as_str(), bytes)).chain([(STATE, &json)]) {
        let path = temporary.join(name);
        if Path::new(name).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(damaged(&path, "a state's file must stay inside its folder"));
        }
        for folder in Path::new(name).ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            folders.insert(folder.to_owned());
        }
        for folder in &folders {
            create(disk, &temporary.join(folder))?; // a set of paths is in order: outer folders come first
        }
        write_durably(disk, &path, bytes)?;
        manifest.files.insert(name.to_owned(), Entry { size: bytes.len() as u64, blake3: Digest::of(bytes) });
    }
    let manifest = serde_json::to_vec_pretty(&manifest).expect("numbers and texts serialise");
    write_durably(disk, &temporary.join(MANIFEST), &manifest)?;
    for folder in folders.iter().map(PathBuf::as_path).chain([Path::new("")]) {
        sync(disk, &temporary.join(folder))?;
    }
    disk.rename(&temporary, &target).map_err(io(&target))?;
    sync(disk, &parent)?;
    Ok(Digest::of(&manifest))
}

fn write_durably(disk: &impl Disk, path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    disk.write(path, bytes).and_then(|()| disk.sync(path)).map_err(io(path))
}

fn create(disk: &impl Disk, path: &Path) -> Result<(), CheckpointError> {
    disk.create_folder(path).map_err(io(path))
}

fn sync(disk: &impl Disk, path: &Path) -> Result<(), CheckpointError> {
    disk.sync(path).map_err(io(path))
}

fn remove(disk: &impl Disk, path: &Path) -> Result<(), CheckpointError> {
    disk.remove_folder(path).map_err(io(path))
}

/// Checks every byte of a checkpoint. Gives what state.json says and the manifest's hash.
pub fn verify(folder: &Path) -> Result<(StateJson, Digest), CheckpointError> {
    let (state, digest, _) = read(folder)?;
    Ok((state, digest))
}

/// Reads and checks a checkpoint: the adapters' files must also fold to S_t.
pub fn read(folder: &Path) -> Result<(StateJson, Digest, StateFiles), CheckpointError> {
    let path = folder.join(MANIFEST);
    let bytes = fs::read(&path).map_err(io(&path))?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| damaged(&path, error.to_string()))?;
    if manifest.format != FORMAT {
        return Err(CheckpointError::Version { path, found: manifest.format });
    }
    let digest = Digest::of(&bytes);
    let mut files = StateFiles::new();
    for (name, entry) in &manifest.files {
        let path = folder.join(name);
        let bytes = fs::read(&path).map_err(io(&path))?;
        if bytes.len() as u64 != entry.size {
            return Err(damaged(&path, format!("it has {} bytes, the manifest says {}", bytes.len(), entry.size)));
        }
        if Digest::of(&bytes) != entry.blake3 {
            return Err(damaged(&path, "its hash is not the manifest's: the file was changed or damaged"));
        }
        files.push((name.clone(), bytes));
    }
    let path = folder.join(STATE);
    let at = files.iter().position(|(name, _)| name == STATE);
    let json = at.map(|at| files.remove(at).1).ok_or_else(|| damaged(&path, "the manifest does not list it"))?;
    let state: StateJson = serde_json::from_slice(&json).map_err(|error| damaged(&path, error.to_string()))?;
    files.sort_by_key(|(name, _)| order(name));
    let fold = polya_proto::state_digest(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    if Digest(fold) != state.state {
        return Err(damaged(folder, "its files do not fold to the state digest of state.json"));
    }
    Ok((state, digest, files))
}

/// The order in which a worker hands its files over, and in which S_t folds them.
fn order(name: &str) -> (u8, String) {
    let rank = match name.split('/').next() {
        Some("reasoning") => 0,
        Some("verification") => 1,
        _ => 2,
    };
    (rank, name.to_owned())
}

/// The files that a manifest lists.
pub(crate) fn names(manifest: &[u8]) -> Vec<String> {
    let manifest: Option<Manifest> = serde_json::from_slice(manifest).ok();
    manifest.map(|manifest| manifest.files.into_keys().collect()).unwrap_or_default()
}

/// Steps of all checkpoint folders, whole or not.
pub fn steps(run_dir: &Path) -> Vec<u64> {
    let entries = fs::read_dir(run_dir.join(FOLDER)).into_iter().flatten().flatten();
    let step = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok();
    let mut steps: Vec<u64> = entries.filter_map(step).collect();
    steps.sort_unstable();
    steps
}

/// Removes leftovers of interrupted saves.
pub fn clean(run_dir: &Path) -> Result<(), CheckpointError> {
    for entry in fs::read_dir(run_dir.join(FOLDER)).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            remove(&RealDisk, &entry.path())?;
        }
    }
    Ok(())
}

/// Keeps the `keep` newest checkpoints and the best one.
pub fn prune(run_dir: &Path, keep: u64) -> Result<(), CheckpointError> {
    let best = best(run_dir).map(|(step, _)| step);
    let steps = steps(run_dir);
    let old = steps.len().saturating_sub(keep as usize);
    for step in steps.into_iter().take(old).filter(|step| Some(*step) != best) {
        remove(&RealDisk, &folder(run_dir, step))?;
    }
    Ok(())
}

/// The best step and its holdout loss.
pub fn best(run_dir: &Path) -> Option<(u64, f64)> {
    let bytes = fs::read(run_dir.join(FOLDER).join(BEST)).ok()?;
    let json: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    Some((json["step"].as_u64()?, json["holdout_loss"].as_f64()?))
}

/// Notes a holdout loss; the lowest one names the best checkpoint.
pub fn note_holdout_loss(run_dir: &Path, step: u64, loss: f64) -> Result<(), CheckpointError> {
    if best(run_dir).is_some_and(|(_, lowest)| lowest <= loss) {
        return Ok(());
    }
    let parent = run_dir.join(FOLDER);
    fs::create_dir_all(&parent).map_err(io(&parent))?;
    let temporary = parent.join(format!("{TEMPORARY}{BEST}"));
    let json = serde_json::json!({ "step": step, "holdout_loss": loss });
    write_durably(&RealDisk, &temporary, format!("{json:#}\n").as_bytes())?;
    let path = parent.join(BEST);
    fs::rename(&temporary, &path).map_err(io(&path))
}
