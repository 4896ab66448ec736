//! `coordinator`: the control plane.

use std::process::ExitCode;

use clap::Parser;
use coordinator::cli::{self, Arguments};

#[tokio::main]
async fn main() -> ExitCode {
    match cli::main(Arguments::parse()).await {
        Ok(code) => ExitCode::from(code),
        Err(exit) => {
            eprintln!("error: {:#}", exit.error);
            ExitCode::from(exit.code)
        }
    }
}
