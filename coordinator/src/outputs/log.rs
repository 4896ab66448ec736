//! `log.jsonl` in the run directory, warnings on stderr. `POLYA_LOG` chooses what is logged.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, filter::LevelFilter, fmt};

/// Starts logging for the whole process, unless the program has a subscriber of its own.
pub fn start(run_dir: &Path) -> Result<()> {
    if tracing::dispatcher::has_been_set() {
        return Ok(());
    }
    let path = run_dir.join("log.jsonl");
    let file = OpenOptions::new().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
    let filter = EnvFilter::try_from_env("POLYA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let json = fmt::layer().json().with_writer(Mutex::new(file)).with_filter(filter);
    let human = fmt::layer().with_writer(std::io::stderr).with_target(false).with_filter(LevelFilter::WARN);
    tracing_subscriber::registry().with(json).with(human).try_init().context("starting the log")
}
