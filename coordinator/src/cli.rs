//! The command line of `coordinator`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, Parser, Subcommand};

use crate::config::{self, Resolved};
use crate::exit::ExitError;
use crate::run::{self, Options};
use crate::status::Access;
use crate::store::{Store, StoreError};
use crate::{audit, compare, parent, replay, report, security, status, time};

/// Where runs without --run-dir go.
const RUNS: &str = "runs";

/// Polya's coordinator: trains a model to reason in steps that can be checked, on any number of
/// workers, with an outcome that does not depend on what happens to them.
///
/// Examples:
///   coordinator --workers 2                    the built-in base and problems, on this machine
///   coordinator --workers 2 --set train.steps=200 --run-dir r    a run of your own
///   coordinator --resume latest                go on after Ctrl-C, a crash or a power cut
///   coordinator audit r                        prove that each sample counted exactly once
///
/// Exit codes: 0 done; 2 the command line, the configuration or a path is wrong; 1 content or I/O;
/// 75 saved and stopped on purpose.
#[derive(Debug, Parser)]
#[command(name = "coordinator", version, verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Local workers to start.
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// TOML file with the run's values.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// One value, for example train.steps=200; wins over file and environment. May be given again.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Directory of the new run; must be empty or not exist [default: runs/TIME].
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    run_dir: Option<PathBuf>,
    /// Address to listen on [default: a free port of 127.0.0.1; on --resume the run's last one].
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Start no local workers: they come from elsewhere.
    #[arg(long)]
    external: bool,
    /// Go on with a run where its journal ends; `latest` is the newest under runs/.
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// With --resume: take everything after this step back first, and make it again. The journal and the checkpoints that
    /// were there move to DIR/taken-back-TIME.
    #[arg(long, value_name = "N", requires = "resume")]
    from_step: Option<u64>,
    /// Begin a new run with another one's configuration and the adapters of its newest checkpoint, and name it as the parent.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["resume", "config"])]
    from: Option<PathBuf>,
    /// With --from: so many passes more over the data, with a schedule of their own.
    #[arg(long, value_name = "N", requires = "from")]
    extend_epochs: Option<u32>,
    /// File with the join token; made if it does not exist.
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<PathBuf>,
    /// Encrypt, and let in only who has a certificate of this folder's authority; see `coordinator certificates`.
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
    /// Admit workers of another class of arithmetic (processor, libtorch) and write them down; the same as
    /// --set run.allow_mixed=true. The outcome then depends on who computed what, and the audit says so.
    #[arg(long)]
    allow_mixed: bool,
    /// Print each value and where it comes from, and start nothing.
    #[arg(long)]
    print_config: bool,
    /// With --print-config: as one JSON document.
    #[arg(long, requires = "print_config")]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prove from journal and data alone that every sample counted exactly once.
    Audit {
        /// The run's directory; also of a live run.
        dir: PathBuf,
        /// One JSON document on stdout.
        #[arg(long)]
        json: bool,
        /// Tell when, by whom and with which weight this sample was computed and committed, epoch by epoch.
        #[arg(long, value_name = "SAMPLE")]
        explain: Option<String>,
    },
    /// Compute a committed step again on this machine, bit for bit, and list each sample's loss and gradient norm.
    Replay {
        /// The run's directory; it is only read.
        dir: PathBuf,
        /// Which step.
        #[arg(long)]
        step: u64,
        /// One JSON document on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Write report.html into a run's directory: curves, scores, events and the audit, in one file.
    Report {
        /// The run's directory; also of a live run.
        dir: PathBuf,
    },
    /// Name the first step at which two runs differ, and why; exit 1 if they do.
    Compare {
        /// One run's directory.
        a: PathBuf,
        /// The other's.
        b: PathBuf,
        /// One JSON document on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Say what a run is doing and why it waits.
    Status {
        /// The run's directory [default: the newest under runs/].
        dir: Option<PathBuf>,
        /// Ask the coordinator at this address instead.
        #[arg(long, conflicts_with = "dir")]
        addr: Option<SocketAddr>,
        /// File with the join token, where the run needs one.
        #[arg(long, value_name = "FILE")]
        join_token_file: Option<PathBuf>,
        /// Folder of the fleet's certificates, where the run uses them.
        #[arg(long, value_name = "DIR")]
        tls: Option<PathBuf>,
        /// One JSON document on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Change the number of local workers of a live run, at the next boundary between two steps.
    Scale {
        /// How many there shall be.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        workers: u32,
        /// The run's directory [default: the newest under runs/].
        #[arg(long, value_name = "DIR")]
        run: Option<PathBuf>,
        /// Ask the coordinator at this address instead.
        #[arg(long, conflicts_with = "run")]
        addr: Option<SocketAddr>,
        /// File with the join token, where the run needs one.
        #[arg(long, value_name = "FILE")]
        join_token_file: Option<PathBuf>,
        /// Folder of the fleet's certificates, where the run uses them.
        #[arg(long, value_name = "DIR")]
        tls: Option<PathBuf>,
    },
    /// Make an authority of one fleet, and certificates for its coordinator and its workers.
    Certificates {
        /// A new folder for them.
        dir: PathBuf,
    },
}

/// Does what the command line says; gives the exit code.
pub async fn main(arguments: Arguments) -> Result<u8, ExitError> {
    match arguments.command {
        Some(Command::Audit { dir, json, explain }) => audit::run(&dir, json, explain.as_deref()),
        Some(Command::Replay { dir, step, json }) => replay::run(&dir, step, json).await,
        Some(Command::Report { dir }) => report::run(&dir),
        Some(Command::Compare { a, b, json }) => compare::run(&a, &b, json),
        Some(Command::Certificates { dir }) => security::certificates::run(&dir),
        Some(Command::Status { dir, addr, join_token_file, tls, json }) => {
            let dir = of_live_run(dir, addr)?;
            status::run(dir.as_deref(), addr, Access { token_file: join_token_file, tls }, json).await
        }
        Some(Command::Scale { workers, run, addr, join_token_file, tls }) => {
            let dir = of_live_run(run, addr)?;
            status::scale(workers, dir.as_deref(), addr, Access { token_file: join_token_file, tls }).await
        }
        None => start(arguments.run).await,
    }
}

/// The directory that was named; the newest run where neither directory nor address was.
fn of_live_run(dir: Option<PathBuf>, addr: Option<SocketAddr>) -> Result<Option<PathBuf>, ExitError> {
    if dir.is_none() && addr.is_none() { Ok(Some(latest()?)) } else { Ok(dir) }
}

async fn start(mut args: RunArgs) -> Result<u8, ExitError> {
    if args.allow_mixed {
        args.sets.push("run.allow_mixed=true".to_owned());
    }
    let (resolved, run_dir) = match &args.resume {
        Some(dir) => resumed(dir, &args.sets).await?,
        None => {
            let mut file = args.config.clone();
            if let Some(from) = &args.from {
                let (of_parent, sets) = parent::configuration(from, args.extend_epochs)?;
                file = Some(of_parent);
                args.sets = [sets, std::mem::take(&mut args.sets)].concat();
            }
            let resolved = config::load(file.as_deref(), &args.sets).map_err(ExitError::usage)?;
            (resolved, args.run_dir.clone().unwrap_or_else(new_run_dir))
        }
    };
    if args.print_config {
        print(&resolved, args.json);
        return Ok(0);
    }
    if args.resume.is_none() {
        refuse_non_empty(&run_dir)?;
    }
    if !args.external && args.workers == 0 {
        return Err(ExitError::usage(anyhow!("--workers 0: at least 1 is needed, or --external")));
    }
    run::run(Options {
        config: resolved.config,
        run_dir,
        resume: args.resume.is_some(),
        from_step: args.from_step,
        workers: args.workers,
        external: args.external,
        listen: args.listen,
        token_file: args.join_token_file,
        tls: args.tls,
    })
    .await
}

async fn resumed(dir: &Path, sets: &[String]) -> Result<(Resolved, PathBuf), ExitError> {
    let dir = if dir == Path::new("latest") { latest()? } else { dir.to_owned() };
    let path = dir.join("run.toml");
    if !dir.join("journal").is_file() {
        restore(&dir, sets).await?;
    }
    if !dir.join("journal").is_file() || !path.is_file() {
        return Err(ExitError::usage(anyhow!("{}: no run to resume here (no journal)", dir.display())));
    }
    let (old, new) = config::of_run_toml(&path, sets).map_err(ExitError::usage)?;
    if let Some(key) = config::changed_outcome(&old, &new.config).first() {
        let reason = format!("--set {key}: it would change the outcome of a run that has begun; start a new one");
        return Err(ExitError::usage(anyhow!(reason)));
    }
    Ok((new, dir))
}

/// Brings a run back from the object store that the command line or the environment names, if one does.
async fn restore(dir: &Path, sets: &[String]) -> Result<(), ExitError> {
    let url = config::load(None, sets).map_err(ExitError::usage)?.config.checkpoint.store;
    if url.is_empty() {
        return Ok(());
    }
    let restored = Store::open(&url).map_err(ExitError::usage)?.restore(dir).await;
    restored.map_err(|error| match error {
        StoreError::Empty(_) => ExitError::usage(error),
        other => other.into(),
    })?;
    println!("{}: brought back from {url}", dir.display());
    Ok(())
}

/// The newest run under runs/.
fn latest() -> Result<PathBuf, ExitError> {
    let entries = std::fs::read_dir(RUNS).into_iter().flatten().flatten();
    let newest = entries.map(|entry| entry.path()).filter(|path| path.join("journal").is_file()).max();
    newest.ok_or_else(|| ExitError::usage(anyhow!("there is no run under {RUNS}/")))
}

/// `runs/` and the time in UTC, so that names sort by time.
fn new_run_dir() -> PathBuf {
    PathBuf::from(RUNS).join(time::utc(crate::driver::unix_ms()).replace(':', "-"))
}

fn refuse_non_empty(run_dir: &Path) -> Result<(), ExitError> {
    let dir = run_dir.display();
    match std::fs::read_dir(run_dir).map(|mut entries| entries.next().is_some()) {
        Ok(true) => {
            let reason = format!("{dir} is not empty: choose another --run-dir, or go on with --resume {dir}");
            Err(ExitError::usage(anyhow!(reason)))
        }
        Ok(false) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ExitError::usage(anyhow!("{dir}: {error}"))),
    }
}

fn print(resolved: &Resolved, as_json: bool) {
    let values = config::flat(&resolved.config);
    let origin = |key: &str| resolved.origins.get(key).map_or("default", String::as_str);
    let text = if as_json {
        let entry = |(key, value): (&String, &String)| {
            (key.clone(), serde_json::json!({ "value": value, "origin": origin(key) }))
        };
        let json: serde_json::Map<String, serde_json::Value> = values.iter().map(entry).collect();
        format!("{:#}\n", serde_json::Value::Object(json))
    } else {
        values.iter().map(|(key, value)| format!("{key:<32} = {value:<24} {}\n", origin(key))).collect()
    };
    // Whoever pipes this into `head` has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
