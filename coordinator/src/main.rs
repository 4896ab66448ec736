//! `coordinator`: the control plane.

use std::process::ExitCode;

use clap::Parser;
use coordinator::cli::{self, Arguments};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Two at least: while the driver waits for the disk on one of them, the streams go on on another.
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    // As a task the driver stands in the queues of the same threads as the streams it feeds: a message costs no wake-up of
    // another thread, as it does from the thread that blocks on the runtime.
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(async { tokio::spawn(cli::main(Arguments::parse())).await }),
        Err(error) => {
            eprintln!("error: no threads to run on: {error}");
            return ExitCode::FAILURE;
        }
    };
    match ended.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())) {
        Ok(code) => ExitCode::from(code),
        Err(exit) => {
            eprintln!("error: {:#}", exit.error);
            ExitCode::from(exit.code)
        }
    }
}
