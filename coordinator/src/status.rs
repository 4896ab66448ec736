//! `coordinator status`: what a run is doing and why it waits, in words.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use coordinator_core::Record;
use polya_proto::tls::{Credentials, Role};
use polya_proto::v1::coordinator_client::CoordinatorClient;
use polya_proto::v1::{StatusReply, StatusRequest};
use tonic::transport::Endpoint;

use crate::driver::last_address;
use crate::exit::ExitError;
use crate::journal::{JournalError, Records};
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
pub async fn run(dir: Option<&Path>, addr: Option<SocketAddr>, access: Access) -> Result<u8, ExitError> {
    if let Some(dir) = dir
        && !dir.join("journal").is_file()
    {
        return Err(ExitError::usage(anyhow!("{}: no journal here; is it a run directory?", dir.display())));
    }
    let address = addr.or_else(|| dir.and_then(last_address));
    let asked = match address {
        Some(address) => ask(address, &access).await,
        None => Err(anyhow!("it has no address")),
    };
    match (asked, dir) {
        (Ok(reply), _) => {
            say(&reply);
            Ok(0)
        }
        (Err(_), Some(dir)) => from_journal(dir),
        (Err(error), None) => Err(error.into()),
    }
}

async fn ask(address: SocketAddr, access: &Access) -> anyhow::Result<StatusReply> {
    let scheme = if access.tls.is_some() { "https" } else { "http" };
    let mut endpoint =
        Endpoint::from_shared(format!("{scheme}://{address}"))?.connect_timeout(PATIENCE).timeout(PATIENCE);
    if let Some(folder) = &access.tls {
        let credentials = Credentials::read(folder, Role::Coordinator).map_err(anyhow::Error::msg)?;
        endpoint = endpoint.tls_config(credentials.client(Role::Coordinator)).context("--tls")?;
    }
    let channel = endpoint.connect().await.with_context(|| format!("no coordinator answers at {address}"))?;
    let mut request = tonic::Request::new(StatusRequest {});
    let token = access.token_file.as_deref().map(|file| security::token(address, Some(file), false)).transpose()?;
    if let Some(token) = token.flatten() {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    Ok(CoordinatorClient::new(channel).status(request).await?.into_inner())
}

fn say(reply: &StatusReply) {
    println!("run {}: step {} of {}", reply.run_dir, reply.step, reply.steps);
    println!("now: {}", reply.phase);
    if !reply.waiting_for.is_empty() {
        println!("waiting for: {}", reply.waiting_for);
    }
    for worker in &reply.workers {
        println!("worker {} (process {}): {}", worker.worker, worker.process, worker.state);
    }
}

fn from_journal(dir: &Path) -> Result<u8, ExitError> {
    let path = dir.join("journal");
    let (mut steps, mut ended) = last_step(Records::tail(&path)?)?;
    if steps.is_none() {
        (steps, ended) = last_step(Records::open(&path)?)?; // the last segment has only begun
    }
    println!("run {}: {} steps committed", dir.display(), steps.unwrap_or(0));
    println!("{}", if ended { "finished" } else { "no coordinator is running; go on with --resume" });
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
