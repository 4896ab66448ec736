//! `coordinator audit`: proves from journal and data alone that every sample counted once, and names what does not hold.
//!
//! The journal is read once, a segment at a time, and the digests of the steps go out as they come: a journal of any
//! length needs the same memory.

mod explain;
pub(crate) mod proof;

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use coordinator_core::audit::Auditor;
use coordinator_core::{Record, Setup};
use serde_json::json;

use crate::config;
use crate::exit::ExitError;
use crate::journal::{self, JournalError, Records};
use crate::run_data::{self, RunData};
use crate::setup::{open_record, setup};
use proof::Proof;

/// Runs the command; gives the exit code. With a sample, tells that sample's history instead.
pub fn run(run_dir: &Path, as_json: bool, sample: Option<&str>) -> Result<u8, ExitError> {
    let journal = journal::of_run(run_dir)?;
    let (config, _) = config::of_run_toml(&run_dir.join("run.toml"), &[]).map_err(ExitError::usage)?;
    let data = run_data::load(&config)?;
    let setup = setup(&config, &data)?;
    if let Some(sample) = sample {
        let history = explain::history(&journal, sample, &setup, &data)?;
        let text = if as_json { format!("{:#}\n", history.json()) } else { history.to_string() };
        std::io::stdout().write_all(text.as_bytes()).context("writing to stdout")?;
        return Ok(0);
    }
    let open = open_record(&config, &data, &setup)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let proof = if as_json {
        write!(out, "{{\n  \"digests\": [").context("writing to stdout")?;
        let mut comma = "";
        let proof = prove(run_dir, &setup, &data, &open, |step, state| {
            let line = json!({ "step": step, "digest": state });
            write!(out, "{}\n    {line}", std::mem::replace(&mut comma, ","))
        })?;
        let rest = format!("{:#}", proof.json());
        writeln!(out, "\n  ],{}", rest.strip_prefix('{').unwrap_or_default()).context("writing to stdout")?;
        proof
    } else {
        let proof = prove(run_dir, &setup, &data, &open, |_, _| Ok(()))?;
        write!(out, "{proof}").context("writing to stdout")?;
        proof
    };
    out.flush().context("writing to stdout")?;
    Ok(u8::from(!proof.holds()))
}

/// Reads the records once; `committed` hears of every step and its S_t.
pub(crate) fn prove(
    run_dir: &Path,
    setup: &Setup,
    data: &RunData,
    open: &Record,
    mut committed: impl FnMut(u64, coordinator_core::Digest) -> std::io::Result<()>,
) -> anyhow::Result<Proof> {
    let mut auditor = Auditor::new(setup, &data.holdout_ids);
    let mut proof = Proof::default();
    let mut read = || -> Result<Result<_, JournalError>, std::io::Error> {
        let mut records = match Records::open(&run_dir.join("journal")) {
            Ok(records) => records,
            Err(error) => return Ok(Err(error)),
        };
        for (index, record) in records.by_ref().enumerate() {
            let record = match record {
                Ok(record) => record,
                Err(error) => return Ok(Err(error)),
            };
            if index == 0 && matches!(record, Record::Open { .. }) && !record.is_same_run(open) {
                proof.faults.push("configuration, data, base or adapters are not those of the journal".to_owned());
            }
            if let Some((step, state)) = auditor.take(&record) {
                committed(step, state)?;
            }
        }
        Ok(Ok(records.head()))
    };
    match read().context("writing to stdout")? {
        Ok(head) => proof.head = head,
        Err(error) => proof.faults.push(error.to_string()),
    }
    proof.chain_ok = proof.head.is_some();
    proof.judge(run_dir, auditor.finish());
    Ok(proof)
}
