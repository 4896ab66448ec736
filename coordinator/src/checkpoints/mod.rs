//! Checkpoints: a folder a step that is absent, or complete and verifiable (I8).
//!
//! Files are written under a temporary name and fsynced, the manifest (size and blake3 of each) last, then one rename.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use coordinator_core::Digest;
use serde::{Deserialize, Serialize};

/// A state's files, by name, in order.
pub type StateFiles = Vec<(String, Vec<u8>)>;

/// Where checkpoints stand in a run directory.
pub const FOLDER: &str = "checkpoints";
const MANIFEST: &str = "manifest.json";
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
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |error| CheckpointError::Io { path, error }
}

fn damaged(path: &Path, reason: impl Into<String>) -> CheckpointError {
    CheckpointError::Damaged { path: path.to_owned(), reason: reason.into() }
}

/// Size and hash of each file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
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
    let target = folder(run_dir, state.step);
    if let Ok((_, digest)) = verify(&target) {
        return Ok(digest);
    }
    let parent = run_dir.join(FOLDER);
    let temporary = parent.join(format!("{TEMPORARY}step-{:06}", state.step));
    remove(&temporary)?;
    remove(&target)?; // damaged, or it would have been returned above
    fs::create_dir_all(&temporary).map_err(io(&temporary))?;
    let json = serde_json::to_vec_pretty(state).expect("numbers and texts serialise");
    let mut manifest = Manifest { files: BTreeMap::new() };
    for (name, bytes) in files.iter().map(|(name, bytes)| (name.as_str(), bytes)).chain([(STATE, &json)]) {
        let path = temporary.join(name);
        if Path::new(name).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(damaged(&path, "a state's file must stay inside its folder"));
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io(folder))?;
        }
        write_durably(&path, bytes)?;
        manifest.files.insert(name.to_owned(), Entry { size: bytes.len() as u64, blake3: Digest::of(bytes) });
    }
    let manifest = serde_json::to_vec_pretty(&manifest).expect("numbers and texts serialise");
    write_durably(&temporary.join(MANIFEST), &manifest)?;
    for name in files.iter().filter_map(|(name, _)| Path::new(name).parent()).chain([Path::new("")]) {
        sync_folder(&temporary.join(name))?;
    }
    fs::rename(&temporary, &target).map_err(io(&target))?;
    sync_folder(&parent)?;
    Ok(Digest::of(&manifest))
}

fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let mut file = File::create(path).map_err(io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io(path))
}

fn sync_folder(path: &Path) -> Result<(), CheckpointError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(io(path))
}

fn remove(path: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
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
            remove(&entry.path())?;
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
        remove(&folder(run_dir, step))?;
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
    write_durably(&temporary, format!("{json:#}\n").as_bytes())?;
    let path = parent.join(BEST);
    fs::rename(&temporary, &path).map_err(io(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(seed: u8) -> StateFiles {
        let names = ["reasoning/adapter_config.json", "reasoning/adapter_model.safetensors", "optimizer.safetensors"];
        names.iter().map(|name| ((*name).to_owned(), vec![seed; 100])).collect()
    }

    fn state(step: u64, files: &StateFiles) -> StateJson {
        let fold = polya_proto::state_digest(files.iter().map(|(n, b)| (n.as_str(), b.as_slice())));
        StateJson { step, state: Digest(fold), epoch: 1 }
    }

    #[test]
    fn what_was_saved_is_read_and_any_flipped_byte_is_refused() {
        let run = tempfile::tempdir().unwrap();
        let files = files(3);
        let digest = save(run.path(), &state(7, &files), &files).unwrap();
        let target = folder(run.path(), 7);
        assert_eq!(read(&target).unwrap(), (state(7, &files), digest, files.clone()));
        for name in ["state.json", "manifest.json", "optimizer.safetensors", "reasoning/adapter_config.json"] {
            let path = target.join(name);
            let whole = fs::read(&path).unwrap();
            for at in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 1;
                fs::write(&path, flipped).unwrap();
                assert!(read(&target).map_or(true, |(_, found, _)| found != digest), "{name}, byte {at}");
            }
            fs::write(&path, whole).unwrap();
        }
    }

    #[test]
    fn a_state_that_does_not_fold_to_its_digest_is_refused() {
        let run = tempfile::tempdir().unwrap();
        let wrong = StateJson { state: Digest::of(b"other"), ..state(7, &files(1)) };
        save(run.path(), &wrong, &files(1)).unwrap();
        assert!(read(&folder(run.path(), 7)).unwrap_err().to_string().contains("do not fold"));
    }

    #[test]
    fn the_best_checkpoint_is_kept_beside_the_newest() {
        let run = tempfile::tempdir().unwrap();
        for (step, loss) in [(1, 0.5), (2, 0.3), (3, 0.4), (4, 0.6), (5, 0.7)] {
            let files = files(step as u8);
            save(run.path(), &state(step, &files), &files).unwrap();
            note_holdout_loss(run.path(), step, loss).unwrap();
            prune(run.path(), 2).unwrap();
        }
        assert_eq!(steps(run.path()), [2, 4, 5]);
        fs::create_dir(run.path().join("checkpoints/.tmp-step-000009")).unwrap();
        clean(run.path()).unwrap();
        assert_eq!(fs::read_dir(run.path().join("checkpoints")).unwrap().count(), 4);
    }

    #[test]
    fn a_name_that_leaves_the_folder_is_refused() {
        let run = tempfile::tempdir().unwrap();
        let files = vec![("../../evil".to_owned(), vec![1])];
        assert!(save(run.path(), &state(1, &files), &files).is_err());
    }
}
