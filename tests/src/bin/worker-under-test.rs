//! The worker on libtorch, with points at which a test can hold it, and with lies that it can be told to tell. Everything
//! else is the real worker's.

use std::process::ExitCode;

use clap::Parser;
use polya_tests::held_trainer::HeldFactory;
use polya_tests::liar::{self, LyingFactory};
use polya_tests::points::{Points, obey_signals};
use worker::cli::join::{JoinArgs, join};
use worker::trainer::LibtorchFactory;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    join: JoinArgs,
}

fn main() -> ExitCode {
    let Arguments { join: arguments } = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    obey_signals();
    let points = Points::from_environment(arguments.id.as_deref().unwrap_or_default());
    let (lie, from_step) = liar::from_environment();
    let inner = LyingFactory { inner: LibtorchFactory, lie, from_step };
    match join(&arguments, Box::new(HeldFactory { inner, points })) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
