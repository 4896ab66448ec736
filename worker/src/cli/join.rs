//! `worker --coordinator ADDR`: joins a run and works until it ends.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, bail};
use polya_proto::exit;
use polya_proto::tls::{Credentials, Role};
use tokio::signal::unix::{SignalKind, signal};
use worker_member::trainer::TrainerFactory;
use worker_member::{MemberOptions, Outcome, run_member};

/// What `worker --coordinator` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct JoinArgs {
    /// Where the coordinator listens, HOST:PORT.
    #[arg(long, value_name = "ADDR")]
    pub coordinator: Option<String>,
    /// The file that holds the run's join token.
    #[arg(long, value_name = "FILE", requires = "coordinator")]
    pub join_token_file: Option<PathBuf>,
    /// Encrypt, and show this folder's certificate: authority.pem, worker.pem and worker.key of `coordinator certificates`.
    #[arg(long, value_name = "DIR", requires = "coordinator")]
    pub tls: Option<PathBuf>,
    /// This worker's name, unique in the run [default: host name and process].
    #[arg(long, value_name = "NAME", requires = "coordinator")]
    pub id: Option<String>,
    /// Address under which the other workers reach this machine [default: that of the route to the coordinator].
    #[arg(long, value_name = "HOST", requires = "coordinator")]
    pub host: Option<String>,
    /// Leave after so many seconds without a coordinator [default: what the coordinator says, at first 600].
    #[arg(long, value_name = "SECONDS", requires = "coordinator")]
    pub park_limit: Option<u64>,
}

/// The libtorch that this worker is linked against.
const LIBTORCH_VERSION: &str = "2.11.0";

/// Variables that would change arithmetic or threads behind the run's back.
const CLEARED: [&str; 4] = ["OMP_", "MKL_", "KMP_", "ATEN_"];

/// Starts this program again without them, if there are any: some are read when the libraries are loaded, before `main`.
fn without_such_variables() -> anyhow::Result<()> {
    let is_cleared = |name: &std::ffi::OsString| CLEARED.iter().any(|p| name.to_string_lossy().starts_with(p));
    let found: Vec<std::ffi::OsString> = std::env::vars_os().map(|(name, _)| name).filter(is_cleared).collect();
    if found.is_empty() {
        return Ok(());
    }
    let mut command = std::process::Command::new(std::env::current_exe().context("where this program is")?);
    command.args(std::env::args_os().skip(1));
    for name in &found {
        command.env_remove(name);
    }
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    Err(error).with_context(|| format!("starting again without {found:?}"))
}

/// Joins, works and ends the process with the exit code of the contract. Returns only errors of usage (exit 2).
pub fn join(args: &JoinArgs, factory: Box<dyn TrainerFactory>) -> anyhow::Result<Infallible> {
    let options = options(args)?;
    without_such_variables()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("network")
        .enable_all()
        .build()
        .context("starting the network threads")?;
    let Outcome { exit_code, reason } = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        let told = async move {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM".to_owned(),
                _ = interrupt.recv() => "SIGINT".to_owned(),
            }
        };
        anyhow::Ok(run_member(options, factory, told).await)
    })?;
    match exit_code {
        exit::FINISHED | exit::LEFT => tracing::info!(exit_code, "left: {reason}"),
        _ => tracing::error!(exit_code, "{reason}"),
    }
    // The trainer's thread may be in the middle of a computation: no destructors under its feet.
    crate::ffi::exit_now(exit_code)
}

fn options(args: &JoinArgs) -> anyhow::Result<MemberOptions> {
    let coordinator = args.coordinator.as_deref().context("--coordinator HOST:PORT is missing")?;
    // Higher for each life: a name that stays (a pod's, say) comes back later than it left.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock of this machine is before 1970")?;
    Ok(MemberOptions {
        coordinator: address(coordinator)?,
        token: args.join_token_file.as_deref().map(token).transpose()?,
        tls: args
            .tls
            .as_deref()
            .map(|folder| Credentials::read(folder, Role::Worker))
            .transpose()
            .map_err(Error::msg)?,
        worker: args.id.clone().unwrap_or_else(|| format!("{}-{}", host_name(), std::process::id())),
        incarnation: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        host: args.host.clone(),
        park_limit: args.park_limit.map(Duration::from_secs),
        software: format!("libtorch {}, {}", LIBTORCH_VERSION, crate::trainer::processor()),
        device: if crate::device::survey().gpus.is_empty() { "cpu" } else { "cuda" }.to_owned(),
    })
}

/// `HOST:PORT`, also as a URL.
fn address(text: &str) -> anyhow::Result<String> {
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(1..))) {
        bail!("--coordinator `{text}` is no address: write HOST:PORT, as in 10.0.0.5:7070 or [::1]:7070");
    }
    Ok(address.to_owned())
}

fn token(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--join-token-file {}", path.display()))?;
    let token = text.trim();
    if token.is_empty() {
        bail!("--join-token-file {} is empty: copy the run's token into it", path.display());
    }
    Ok(token.to_owned())
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "worker".to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_host_and_port() {
        for (text, expected) in
            [("10.0.0.5:7070", "10.0.0.5:7070"), ("http://[::1]:7070/", "[::1]:7070"), ("polya:1", "polya:1")]
        {
            assert_eq!(address(text).unwrap(), expected);
        }
        for text in ["", "polya", "polya:", ":7070", "polya:0", "polya:http", "polya:70000"] {
            let error = address(text).unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn a_token_file_holds_one_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(token(file.path()).unwrap_err().to_string().contains("is empty"));
        std::fs::write(file.path(), "abc\n").unwrap();
        assert_eq!(token(file.path()).unwrap(), "abc");
        assert!(token(Path::new("/nowhere/token")).unwrap_err().to_string().contains("/nowhere/token"));
    }
}
