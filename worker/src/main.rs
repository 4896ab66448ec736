//! `worker`: joins a run, or uses a model by hand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use polya_datasets::parquet::ParquetError;
use polya_proto::exit;
use worker::cli::UsageError;
use worker::cli::bench::{BenchArgs, bench};
use worker::cli::devices::{DevicesArgs, devices};
use worker::cli::evaluate::{EvaluateArgs, evaluate};
use worker::cli::export::{ExportArgs, export};
use worker::cli::fetch::{FetchArgs, fetch, stopped};
use worker::cli::generate::{GenerateArgs, generate};
use worker::cli::import::{ImportArgs, import};
use worker::cli::join::{JoinArgs, join};
use worker::cli::logits::{LogitsArgs, logits};
use worker::cli::plan::{PlanArgs, plan};
use worker::cli::pretrain::{PretrainArgs, pretrain};
use worker::cli::selftest::{SelftestArgs, selftest};
use worker::cli::solve::{SolveArgs, solve};
use worker::formats::huggingface::LoadError;
use worker::import::ImportError;
use worker::trainer::LibtorchFactory;

/// Polya's worker: computes microbatches for a coordinator, or generates with a model.
///
/// `worker --coordinator HOST:PORT` joins a run and works until it ends. Exit codes: 0 the run is finished, 75 left on
/// purpose, 2 bad usage, 78 refused for good, 76 another class of processor.
#[derive(Debug, Parser)]
#[command(name = "worker", version, arg_required_else_help = true, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(flatten)]
    join: JoinArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Solve one question and print the four stages.
    Solve(SolveArgs),
    /// Score a model on a file of trajectories.
    Evaluate(EvaluateArgs),
    /// Continue the prompts of a JSON Lines file.
    Generate(GenerateArgs),
    /// Measure the training step, generation or the all-reduce on this machine.
    Bench(BenchArgs),
    /// Write a run's model for the ecosystem: PEFT adapters, a merged model, or a GGUF.
    Export(ExportArgs),
    /// Write logits, and gradients of the adapters, of given token ids.
    Logits(LogitsArgs),
    /// List the GPUs that a worker could use here, or say what is missing.
    Devices(DevicesArgs),
    /// Download a base by name from a model hub.
    Fetch(FetchArgs),
    /// Make a Hugging Face directory from a GGUF file.
    Import(ImportArgs),
    /// Say what a run will take before it runs: memory by part, seconds a step, hours, and what to change if it cannot fit.
    Plan(PlanArgs),
    /// Check that this machine computes what it should.
    Selftest(SelftestArgs),
    /// Make the built-in base: train a small Qwen2 from scratch on synthesized problems.
    Pretrain(PretrainArgs),
}

fn main() -> ExitCode {
    worker::device::prepare_environment(); // before there is a second thread
    worker::ffi::map_large_buffers();
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("POLYA_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match &arguments.command {
        Some(Command::Solve(args)) => solve(args),
        Some(Command::Evaluate(args)) => evaluate(args),
        Some(Command::Generate(args)) => generate(args),
        Some(Command::Bench(args)) => bench(args),
        Some(Command::Logits(args)) => logits(args),
        Some(Command::Export(args)) => export(args),
        Some(Command::Devices(args)) => devices(args),
        Some(Command::Fetch(args)) => fetch(args),
        Some(Command::Import(args)) => import(args),
        Some(Command::Plan(args)) => plan(args),
        Some(Command::Selftest(args)) => selftest(args),
        Some(Command::Pretrain(args)) => pretrain(args),
        None => join(&arguments.join, Box::new(LibtorchFactory)).map(|never| match never {}),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(exit_code(&error, arguments.command.is_none()))
        }
    }
}

/// 2 where a path or the command line can fix it, 1 for content.
fn exit_code(error: &anyhow::Error, joining: bool) -> u8 {
    let missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let path = error.chain().any(|cause| {
        let load = cause.downcast_ref::<LoadError>();
        cause.is::<UsageError>()
            || matches!(load, Some(LoadError::Device(_)))
            || matches!(load, Some(LoadError::Read { error, .. }) if missing(error))
            || matches!(cause.downcast_ref::<ImportError>(), Some(ImportError::Io { error, .. }) if missing(error))
            || matches!(cause.downcast_ref::<ParquetError>(), Some(ParquetError::Io { error, .. }) if missing(error))
            || cause.downcast_ref::<std::io::Error>().is_some_and(missing)
    });
    if stopped(error) {
        return exit::LEFT as u8;
    }
    if joining || path { exit::USAGE as u8 } else { 1 }
}
