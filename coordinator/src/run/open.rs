//! The journal as a run is opened: begun, or gone on with once it is this run's and its checkpoints are good.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, anyhow};
use coordinator_core::record::Record;
use coordinator_core::{Journal as Fold, Purpose, Setup, State};

use super::Options;
use crate::checkpoints;
use crate::driver::unix_ms;
use crate::exit::ExitError;
use crate::journal::{self, Found, Journal, JournalError};
use crate::rewind::rewind;

/// The open journal and its fold, which names only checkpoints that may be loaded.
pub fn open_journal(options: &Options, setup: &Setup, open: &Record) -> Result<(Journal, Fold), ExitError> {
    let path = options.run_dir.join("journal");
    if let Some(step) = options.from_step {
        rewind(&options.run_dir, step)?;
    }
    if !options.resume {
        let text = toml::to_string(&options.config).context("run.toml")?;
        let run_toml = options.run_dir.join("run.toml");
        std::fs::write(&run_toml, text).with_context(|| run_toml.display().to_string())?;
        let mut fold = Fold::new(setup.scale_log2);
        let mut journal = Journal::create(&path)?;
        begin(&mut journal, &mut fold, setup, open)?;
        return Ok((journal, fold));
    }
    let (mut journal, found) = Journal::open(&path, setup).map_err(|error| match error {
        JournalError::Locked { .. } | JournalError::Version { .. } => ExitError::usage(error),
        other => other.into(),
    })?;
    let Found { mut fold, torn, refolded } = found;
    if torn > 0 {
        println!("the journal's torn tail of {torn} bytes was cut: what a crash left of a record nobody heard of");
    }
    if refolded {
        println!("there is no good snapshot of the sealed journal; all of it was read");
    }
    if fold.records() == 0 {
        begin(&mut journal, &mut fold, setup, open)?; // the crash was before the first record
    }
    if let Some(reason) = fold.open().map_or(Some("it does not begin with Open".to_owned()), |old| differs(old, open)) {
        return Err(ExitError::usage(anyhow!("{}: {reason}", path.display())));
    }
    checkpoints::clean(&options.run_dir)?;
    keep_good_checkpoints(&options.run_dir, &mut fold);
    if fold.checkpoints().is_empty() && fold.first_remembered() > 1 {
        println!(
            "no remembered checkpoint is good: the whole journal is read, to replay from an older one or the start"
        );
        fold = journal::fold_everything(&path, setup)?;
        keep_good_checkpoints(&options.run_dir, &mut fold);
    }
    Ok((journal, fold))
}

/// Begins a coordinator's epoch: durable before anybody can hear of it. Gives the state that the run goes on from.
pub fn begin_epoch(
    journal: &mut Journal,
    mut fold: Fold,
    setup: Setup,
    epoch: u64,
    run_dir: &Path,
) -> Result<State, ExitError> {
    let record = Record::Epoch { epoch, time_ms: unix_ms() };
    journal.append(&record)?;
    fold.fold(&setup, &record);
    Ok(State::of_journal(setup, fold, evaluated(run_dir)))
}

fn begin(journal: &mut Journal, fold: &mut Fold, setup: &Setup, open: &Record) -> Result<(), ExitError> {
    journal.append(open)?;
    fold.fold(setup, open);
    Ok(())
}

/// Why a journal's Open record is not this run's, in words.
fn differs(old: &Record, new: &Record) -> Option<String> {
    let version = |record: &Record| if let Record::Open { version, .. } = record { *version } else { 0 };
    if version(old) != version(new) {
        return Some(format!(
            "its records are of version {}, this program writes version {}: use the version of Polya that began the run",
            version(old),
            version(new)
        ));
    }
    let reason = "configuration, data, base or adapters are not those the run began with; see run.toml, data.*, base.path and \
                  adapter.path";
    (!old.is_same_run(new)).then(|| reason.to_owned())
}

/// Leaves the checkpoints that are whole and the journal's. Others are named.
fn keep_good_checkpoints(run_dir: &Path, fold: &mut Fold) {
    let known = fold.checkpoints().clone();
    fold.retain_checkpoints(|step| {
        let folder = checkpoints::folder(run_dir, step);
        if !folder.exists() {
            return false; // pruned: checkpoint.keep
        }
        match checkpoints::verify(&folder) {
            Ok((_, found)) if known.get(&step) == Some(&found) => return true,
            Ok(_) => println!("{}: its manifest is not the journal's; it is not used", folder.display()),
            Err(error) => println!("{error}; this checkpoint is not used, an older one and the journal are"),
        }
        false
    });
}

/// Scores that are on disk already.
fn evaluated(run_dir: &Path) -> BTreeSet<(Purpose, u64)> {
    let entries = std::fs::read_dir(run_dir.join("evaluation")).into_iter().flatten().flatten();
    let mut found = BTreeSet::new();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".json") else { continue };
        let step = |prefix: &str| name.strip_prefix(prefix).and_then(|step| step.parse::<u64>().ok());
        if let Some(step) = step("holdout-") {
            found.insert((Purpose::Holdout, step));
        }
        match step("step-") {
            Some(0) => drop(found.insert((Purpose::Base, 0))),
            Some(step) => drop(found.insert((Purpose::Interval, step))),
            None => {}
        }
    }
    found
}
