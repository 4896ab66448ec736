//! What an export needs of a run directory: the base, how it was held, a whole checkpoint, the scores.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::builtin;
use crate::cli::UsageError;
use crate::formats::huggingface::Quantisation;

/// A run with one of its checkpoints.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// Its directory.
    pub(super) folder: PathBuf,
    /// Every value of its configuration.
    pub(super) config: toml::Table,
    /// The checkpoint's step.
    pub(super) step: u64,
    /// The checkpoint's folder, checked against its manifest.
    pub(super) checkpoint: PathBuf,
    /// Digest of the state, hex.
    pub(super) digest: String,
    /// `evaluation/final.json`, if the run is finished and this is its last step.
    pub(super) scores: Option<Value>,
}

impl Run {
    /// Opens a run at a step, or at its newest checkpoint.
    pub(super) fn open(folder: &Path, step: Option<u64>) -> Result<Self> {
        let path = folder.join("run.toml");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| UsageError(format!("{}: {error}; is it a run directory?", path.display())))?;
        let config = text.parse().with_context(|| path.display().to_string())?;
        let steps = steps(folder);
        let newest = steps.last().copied();
        let chosen = step.or(newest).filter(|step| steps.contains(step)).ok_or_else(|| {
            let there: Vec<String> = steps.iter().map(u64::to_string).collect();
            UsageError(format!("{}: no such checkpoint; there are steps {}", folder.display(), there.join(", ")))
        })?;
        let checkpoint = checkpoint(folder, chosen);
        let digest = verify(&checkpoint)?;
        let is_last = Some(chosen) == newest;
        let scores = std::fs::read(folder.join("evaluation/final.json")).ok().filter(|_| is_last);
        let scores = scores.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(Run { folder: folder.to_owned(), config, step: chosen, checkpoint, digest, scores })
    }

    /// The base: a directory, or `builtin`.
    pub(super) fn base(&self) -> &str {
        let path = self.config.get("base").and_then(|base| base.get("path")).and_then(toml::Value::as_str);
        path.filter(|path| !path.is_empty()).unwrap_or(builtin::NAME)
    }

    /// How the base was held.
    pub(super) fn quantisation(&self) -> Result<Quantisation> {
        let name = self.config.get("quantisation").and_then(toml::Value::as_str).unwrap_or_default();
        Quantisation::of_name(name).ok_or_else(|| anyhow!("{}: quantisation `{name}`", self.folder.display()))
    }
}

fn checkpoint(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("checkpoints/step-{step:06}"))
}

/// Steps with a whole checkpoint: the manifest is written last.
fn steps(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder.join("checkpoints")).into_iter().flatten().flatten();
    let step = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok();
    let mut steps: Vec<u64> =
        entries.filter_map(step).filter(|step| checkpoint(folder, *step).join("manifest.json").is_file()).collect();
    steps.sort_unstable();
    steps
}

/// Checks every file against the manifest's size and hash. Gives the state's digest.
fn verify(checkpoint: &Path) -> Result<String> {
    let json = |path: &Path| -> Result<Value> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
    };
    let path = checkpoint.join("manifest.json");
    let manifest = json(&path)?;
    let files = manifest["files"].as_object().with_context(|| format!("{}: `files` is missing", path.display()))?;
    for (name, entry) in files {
        let path = checkpoint.join(name);
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let hash = blake3::hash(&bytes).to_hex();
        if entry["size"].as_u64() != Some(bytes.len() as u64) || entry["blake3"].as_str() != Some(hash.as_str()) {
            return Err(anyhow!(
                "{}: not what the checkpoint's manifest says; it was changed or damaged",
                path.display()
            ));
        }
    }
    let state = json(&checkpoint.join("state.json"))?;
    Ok(state["state"].as_str().unwrap_or_default().to_owned())
}
