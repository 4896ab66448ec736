//! `--resume DIR --from-step N`: what was made after step N is taken back and made again. Nothing is deleted.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::checkpoints;
use crate::driver::unix_ms;
use crate::exit::ExitError;
use crate::journal::{self, JournalError};
use crate::time;

/// Ends the run after `step`: its journal, its checkpoints, its scores. What followed moves to a folder `taken-back-TIME`.
pub fn rewind(run_dir: &Path, step: u64) -> Result<(), ExitError> {
    let now_ms = unix_ms();
    let aside = run_dir.join(format!("taken-back-{}", time::utc(now_ms).replace(':', "-")));
    journal::rewind(&run_dir.join("journal"), step, &aside, now_ms).map_err(|error| match error {
        JournalError::Locked { .. } | JournalError::NotCommitted { .. } => ExitError::usage(error),
        other => other.into(),
    })?;
    let is_later = |path: &PathBuf| match path.file_name().and_then(|name| name.to_str()) {
        Some("best.json") => checkpoints::best(run_dir).is_some_and(|(best, _)| best > step),
        name => name.and_then(last_step).is_some_and(|of| of > step),
    };
    for folder in ["checkpoints", "evaluation", "statistics"] {
        let entries = fs::read_dir(run_dir.join(folder)).into_iter().flatten().flatten();
        let later: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_later).collect();
        set_aside(&later, &aside.join(folder))?;
    }
    println!("everything after step {step} is taken back; what was there is in {}", aside.display());
    Ok(())
}

/// The last number in a name: `step-000012`, `holdout-000012.json`, `step-000007-000012.parquet`.
fn last_step(name: &str) -> Option<u64> {
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    stem.rsplit_once('-')?.1.parse().ok()
}

fn set_aside(paths: &[PathBuf], folder: &Path) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for path in paths {
        let name = path.file_name().unwrap_or_default();
        fs::rename(path, folder.join(name)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::last_step;

    #[test]
    fn the_last_step_is_read_from_every_name_that_a_run_writes() {
        for (name, step) in [
            ("step-000012", Some(12)),
            ("holdout-000012.json", Some(12)),
            ("step-000007-000012.parquet", Some(12)),
            ("best.json", None),
            ("final.md", None),
        ] {
            assert_eq!(last_step(name), step, "{name}");
        }
    }
}
