//! `coordinator`: the control plane.

use std::process::ExitCode;

use clap::Parser;
use coordinator::cli::{self, Arguments};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // As a task the driver stands in the queues of the same threads as the streams it feeds: a message costs no wake-up of
    // another thread, as it does from the thread that blocks on the runtime.
    let ended = tokio::spawn(cli::main(Arguments::parse())).await;
    match ended.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())) {
        Ok(code) => ExitCode::from(code),
        Err(exit) => {
            eprintln!("error: {:#}", exit.error);
            ExitCode::from(exit.code)
        }
    }
}
