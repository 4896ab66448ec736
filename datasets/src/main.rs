//! `datasets`: sources to four-stage trajectories.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use polya_datasets::cli::contamination::{self, Contamination};
use polya_datasets::cli::convert::{ConvertArgs, convert};
use polya_datasets::cli::equal::{EqualArgs, equal};
#[cfg(feature = "network")]
use polya_datasets::cli::fetch::{FetchArgs, fetch};
use polya_datasets::cli::graph::{GraphArgs, graph};
use polya_datasets::cli::inject::{InjectArgs, inject};
use polya_datasets::cli::inspect::{InspectArgs, inspect};
use polya_datasets::cli::parse::{self, Parse};
use polya_datasets::cli::score::{ScoreArgs, score};
use polya_datasets::cli::split::{self, Split};
use polya_datasets::cli::stats::{StatsArgs, stats};
use polya_datasets::cli::synthesize::{SynthesizeArgs, synthesize};
#[cfg(feature = "network")]
use polya_datasets::cli::teach::{TeachArgs, teach};

#[cfg(feature = "allocator")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Polya's data: four-stage trajectories from published files, teacher models and built-in problems; planted errors,
/// splits, contamination, scores.
///
/// Exit codes: 0 done, 2 the command line or a path is wrong, 1 content or I/O, 75 stopped on purpose.
#[derive(Debug, Parser)]
#[command(name = "datasets", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Parse(Parse),
    Split(Split),
    Contamination(Contamination),
    /// Make built-in arithmetic word problems with an exact dependency graph.
    Synthesize(SynthesizeArgs),
    /// Plant errors in EXECUTE, with a VERIFY that finds and corrects them.
    Inject(InjectArgs),
    Inspect(InspectArgs),
    Stats(StatsArgs),
    Convert(ConvertArgs),
    Equal(EqualArgs),
    Graph(GraphArgs),
    Score(ScoreArgs),
    #[cfg(feature = "network")]
    Teach(TeachArgs),
    #[cfg(feature = "network")]
    Fetch(FetchArgs),
}

fn main() -> ExitCode {
    let result = match &Arguments::parse().command {
        Command::Parse(args) => parse::run(args),
        Command::Split(args) => split::run(args),
        Command::Contamination(args) => contamination::run(args),
        Command::Synthesize(args) => synthesize(args),
        Command::Inject(args) => inject(args),
        Command::Inspect(args) => inspect(args),
        Command::Stats(args) => stats(args),
        Command::Convert(args) => convert(args),
        Command::Equal(args) => equal(args),
        Command::Graph(args) => graph(args),
        Command::Score(args) => score(args),
        #[cfg(feature = "network")]
        Command::Teach(args) => teach(args),
        #[cfg(feature = "network")]
        Command::Fetch(args) => fetch(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {:#}", failure.error);
            ExitCode::from(failure.code)
        }
    }
}
