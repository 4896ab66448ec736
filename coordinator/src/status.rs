//! `coordinator status` and `coordinator scale`: asks a live run what it does and why it waits, or for other workers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use coordinator_core::Record;
use polya_proto::tls::{Credentials, Role};
use polya_proto::v1::coordinator_client::CoordinatorClient;
use polya_proto::v1::{ScaleRequest, StatusReply, StatusRequest, WorkerStatus};
use serde_json::json;
use tonic::transport::{Channel, Endpoint};

use crate::driver::last_address;
use crate::exit::ExitError;
use crate::journal::{self, JournalError, Records};
use crate::security;

const PATIENCE: Duration = Duration::from_secs(3);

/// What a run off loopback asks for.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The file with the join token.
    pub token_file: Option<PathBuf>,
    /// The folder of the fleet's certificates.
    pub tls: Option<PathBuf>,
}

/// Asks the coordinator of a directory or at an address; without one, says what the journal says.
pub async fn run(dir: Option<&Path>, addr: Option<SocketAddr>, access: Access, as_json: bool) -> Result<u8, ExitError> {
    let asked = match address(dir, addr)? {
        Some(address) => ask(address, &access).await,
        None => Err(anyhow!("it has no address")),
    };
    match (asked, dir) {
        (Ok(reply), _) => {
            if as_json {
                println!("{:#}", document(&reply));
            } else {
                print!("{}", text(&reply));
            }
            Ok(0)
        }
        (Err(_), Some(dir)) => from_journal(dir, as_json),
        (Err(error), None) => Err(error.into()),
    }
}

/// Asks a live run for another number of local workers.
pub async fn scale(
    workers: u32,
    dir: Option<&Path>,
    addr: Option<SocketAddr>,
    access: Access,
) -> Result<u8, ExitError> {
    let address =
        address(dir, addr)?.ok_or_else(|| ExitError::usage(anyhow!("the run has no address: it never ran")))?;
    let channel = connect(address, &access).await.map_err(ExitError::usage)?;
    let request = authorized(address, &access, ScaleRequest { workers })?;
    let reply = CoordinatorClient::new(channel).scale(request).await;
    let reply = reply.map_err(|status| ExitError::usage(anyhow!("{}", status.message())))?;
    println!("{}", reply.into_inner().outcome);
    Ok(0)
}

fn address(dir: Option<&Path>, addr: Option<SocketAddr>) -> Result<Option<SocketAddr>, ExitError> {
    if let Some(dir) = dir
        && last_address(dir).is_none()
    {
        journal::of_run(dir)?; // before the first worker from elsewhere has come, a run has an address only
    }
    Ok(addr.or_else(|| dir.and_then(last_address)))
}

async fn ask(address: SocketAddr, access: &Access) -> anyhow::Result<StatusReply> {
    let channel = connect(address, access).await?;
    let request = authorized(address, access, StatusRequest {})?;
    Ok(CoordinatorClient::new(channel).status(request).await?.into_inner())
}

async fn connect(address: SocketAddr, access: &Access) -> anyhow::Result<Channel> {
    let scheme = if access.tls.is_some() { "https" } else { "http" };
    let mut endpoint =
        Endpoint::from_shared(format!("{scheme}://{address}"))?.connect_timeout(PATIENCE).timeout(PATIENCE);
    if let Some(folder) = &access.tls {
        let credentials = Credentials::read(folder, Role::Coordinator).map_err(anyhow::Error::msg)?;
        endpoint = endpoint.tls_config(credentials.client(Role::Coordinator)).context("--tls")?;
    }
    endpoint.connect().await.with_context(|| format!("no coordinator answers at {address}"))
}

fn authorized<T>(address: SocketAddr, access: &Access, message: T) -> anyhow::Result<tonic::Request<T>> {
    let mut request = tonic::Request::new(message);
    let token = access.token_file.as_deref().map(|file| security::token(address, Some(file), false)).transpose()?;
    if let Some(token) = token.flatten() {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    Ok(request)
}

fn text(reply: &StatusReply) -> String {
    let mut lines = vec![format!("run {}: step {} of {}", reply.run_dir, reply.step, reply.steps)];
    let waiting = match reply.waiting_for.as_str() {
        "" => String::new(),
        what => format!("; waiting since {} for {what}", duration(reply.waiting_ms)),
    };
    lines.push(format!("now: {}{waiting}", reply.phase));
    let all: u64 = reply.workers.iter().map(|worker| worker.microbatches_ever).sum();
    lines.extend(reply.workers.iter().map(|of| worker(of, all)));
    lines.extend(reply.warnings.iter().map(|warning| format!("note: {warning}")));
    lines.push(String::new());
    lines.join("\n")
}

fn worker(of: &WorkerStatus, all: u64) -> String {
    let share = match (100 * of.microbatches_ever).checked_div(all) {
        Some(percent) => format!("{percent} % of the microbatches, {} ms each", of.milliseconds_per_microbatch),
        None => "no microbatch yet".to_owned(),
    };
    let (name, process, host, state) = (&of.worker, of.process, &of.host, &of.state);
    format!("worker {name} (process {process} on {host}): {state}; {share}; heard {} ago", duration(of.silent_ms))
}

/// Milliseconds for people.
fn duration(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{:.1} s", ms as f64 / 1e3),
        10_000..120_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms / 60_000),
    }
}

fn document(reply: &StatusReply) -> serde_json::Value {
    let worker = |of: &WorkerStatus| {
        json!({
            "worker": of.worker, "incarnation": of.incarnation, "process": of.process, "host": of.host,
            "state": of.state, "microbatches": of.microbatches, "microbatches_ever": of.microbatches_ever,
            "milliseconds_per_microbatch": of.milliseconds_per_microbatch, "silent_ms": of.silent_ms,
        })
    };
    json!({
        "run_dir": reply.run_dir, "live": true, "step": reply.step, "steps": reply.steps, "phase": reply.phase,
        "waiting_for": reply.waiting_for, "waiting_ms": reply.waiting_ms, "class": reply.class,
        "workers": reply.workers.iter().map(worker).collect::<Vec<_>>(), "warnings": reply.warnings,
    })
}

fn from_journal(dir: &Path, as_json: bool) -> Result<u8, ExitError> {
    let path = journal::of_run(dir)?;
    let (mut steps, mut ended) = last_step(Records::tail(&path)?)?;
    if steps.is_none() {
        (steps, ended) = last_step(Records::open(&path)?)?; // the last segment has only begun
    }
    let steps = steps.unwrap_or(0);
    let phase = if ended { "finished" } else { "no coordinator is running; go on with --resume" };
    if as_json {
        println!("{:#}", json!({ "run_dir": dir, "live": false, "step": steps, "phase": phase, "ended": ended }));
    } else {
        println!("run {}: {steps} steps committed\n{phase}", dir.display());
    }
    Ok(0)
}

/// The last committed step among these records, and whether the run has ended.
fn last_step(records: Records) -> Result<(Option<u64>, bool), JournalError> {
    let (mut steps, mut ended) = (None, false);
    for record in records {
        match record? {
            Record::Commit(commit) => steps = Some(commit.step),
            Record::End { step } => (steps, ended) = (Some(step), true),
            _ => {}
        }
    }
    Ok((steps, ended))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_said_with_its_reason_and_for_how_long() {
        let of = WorkerStatus {
            worker: "w0".to_owned(),
            process: 7,
            host: "127.0.0.1".to_owned(),
            state: "at step 3".to_owned(),
            microbatches_ever: 3,
            milliseconds_per_microbatch: 80,
            silent_ms: 120,
            ..WorkerStatus::default()
        };
        let reply = StatusReply {
            step: 3,
            steps: 8,
            phase: "between two steps".to_owned(),
            waiting_for: "a second worker, because run.min_workers = 2".to_owned(),
            waiting_ms: 14_200,
            workers: vec![of],
            run_dir: "r".to_owned(),
            ..StatusReply::default()
        };
        let expected = "run r: step 3 of 8\n\
            now: between two steps; waiting since 14 s for a second worker, because run.min_workers = 2\n\
            worker w0 (process 7 on 127.0.0.1): at step 3; 100 % of the microbatches, 80 ms each; heard 0.1 s ago\n";
        assert_eq!(text(&reply), expected);
        assert_eq!(document(&reply)["workers"][0]["process"], 7);
    }
}
