//! `datasets`: sources to trajectories, split, planted errors, built-in problems.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod cli;

/// Makes and judges four-stage reasoning data: parse a source, split it by problem, plant errors, synthesize problems.
#[derive(Parser)]
#[command(name = "datasets", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Parse(cli::parse::Parse),
    Split(cli::split::Split),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Parse(arguments) => cli::parse::run(&arguments),
        Command::Split(arguments) => cli::split::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<cli::UsageError>() { 2 } else { 1 })
        }
    }
}
