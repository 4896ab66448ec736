//! The control plane alone: the real coordinator and N real members over gRPC, whose arithmetic costs nothing and whose
//! all-reduce stays in this process. `make bench-control` runs it at 2, 64, 512 and 2,000 workers.
//!
//! Steps follow one another at once, so commits a second is what the coordinator can do. The latency of a commit is the time
//! from the moment when the last worker has the sum until a worker flips: READY, agreement, append, fsync, Commit.

mod member;
mod watch;

use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use member::{Factory, Shared};
use polya_proto::exit;
use polya_tests::process::binary;
use worker_member::{MemberOptions, Outcome, run_member};

/// The members share the machine with the coordinator: what they cost is not what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Longest that one measurement may take.
const LIMIT: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let numbers = if arguments.is_empty() { vec!["2".to_owned(), "64".to_owned()] } else { arguments };
    println!(
        "| workers | microbatches a step | commits/s | latency p50, p99 ms | messages/s a core | coordinator MiB |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for argument in numbers {
        let measured = argument.parse().context("a number of workers").and_then(measure);
        match measured {
            Ok(row) => println!("{row}"),
            Err(error) => {
                eprintln!("error: {argument} workers: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Steps that are measured: fewer where each costs more.
fn steps(workers: u32) -> u64 {
    (20_000 / u64::from(workers)).clamp(20, 500)
}

fn measure(workers: u32) -> Result<String> {
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let dir = folder.path().join("run");
    let microbatches = workers.max(4);
    let shared = Arc::new(Shared::default());
    let mut coordinator = start(&dir, workers, microbatches)?;
    let address = watch::address(&dir, &mut coordinator)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for index in 0..workers {
        let options = MemberOptions {
            coordinator: address.clone(),
            token: None,
            tls: None,
            worker: format!("s{index}"),
            incarnation: 1,
            host: None,
            park_limit: Some(LIMIT),
            software: "simulated".to_owned(),
            device: "cpu".to_owned(),
        };
        let factory = Box::new(Factory(shared.clone()));
        runtime.spawn(async move {
            let Outcome { exit_code, reason } = run_member(options, factory, std::future::pending()).await;
            if exit_code != exit::FINISHED {
                eprintln!("worker s{index} has left with {exit_code}: {reason}");
            }
        });
    }
    let end = Instant::now() + LIMIT;
    while coordinator.try_wait()?.is_none() {
        if Instant::now() > end {
            coordinator.kill()?;
            bail!("not done in {LIMIT:?}");
        }
        shared.look(coordinator.id());
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let status = coordinator.wait()?;
    runtime.shutdown_background();
    if !status.success() {
        bail!("the coordinator ended with {status}: {}", watch::last_words(&dir));
    }
    shared.row(workers, microbatches)
}

fn start(dir: &Path, workers: u32, microbatches: u32) -> Result<Child> {
    let mut command = Command::new(binary("coordinator"));
    command.arg("--external").arg("--run-dir").arg(dir);
    for set in [
        format!("train.steps={}", steps(workers)),
        format!("run.min_workers={workers}"),
        format!("batch.microbatches_per_step={microbatches}"),
        "batch.tokens_per_microbatch=600".to_owned(),
        "train.max_length=500".to_owned(),
        format!("data.synthetic_count={}", 4 * u64::from(microbatches).max(500)),
        "evaluation.samples=0".to_owned(),
        "checkpoint.every=0".to_owned(),
        "failure_detection=60s".to_owned(),
    ] {
        command.args(["--set", &set]);
    }
    let log = std::fs::File::create(dir.with_extension("out"))?;
    let command = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("starting the coordinator")
}
