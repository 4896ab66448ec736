//! `worker fetch`: a base by name.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use polya_datasets::fetch::FetchError;
use polya_datasets::fetch::download::Downloader;
use polya_datasets::network::backoff::Backoff;
use polya_datasets::network::stop::Stop;
use polya_datasets::network::{TimeLimits, address, client};

use super::UsageError;
use crate::fetch::{Request, fetch as fetch_model};

/// The hub whose layout this is.
const HUB: &str = "https://huggingface.co";

/// What `worker fetch` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct FetchArgs {
    /// Name of the model on the hub, OWNER/NAME.
    pub model: String,
    /// Branch, tag or commit; the commit that it was is written down.
    #[arg(long, value_name = "R", default_value = "main")]
    pub revision: String,
    /// Address of a mirror with the hub's layout [default: HF_ENDPOINT of the environment, else the hub itself].
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Directory to make [default: the model's name without its owner].
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Print one JSON document: the commit and each file with its hash.
    #[arg(long)]
    pub json: bool,
}

/// Runs it. Stopped (Ctrl-C) or cut off, the same command goes on where it ended.
pub fn fetch(args: &FetchArgs) -> Result<()> {
    let name = args.model.rsplit('/').next().unwrap_or_default();
    let endpoint = args.endpoint.clone().or_else(|| std::env::var("HF_ENDPOINT").ok().filter(|text| !text.is_empty()));
    let request = Request {
        model: args.model.clone(),
        revision: args.revision.clone(),
        endpoint: address(endpoint.as_deref().unwrap_or(HUB))
            .map_err(|reason| UsageError(format!("--endpoint {reason}")))?,
        output: args.output.clone().unwrap_or_else(|| PathBuf::from(name)),
    };
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:30} {bar:30} {bytes}/{total_bytes}, {eta} left") {
        bar.set_style(style);
    }
    let stop = Stop::on_signals()?;
    let downloader = Downloader {
        client: &client(TimeLimits { whole: None, silence: Duration::from_secs(60) }, 5),
        backoff: Backoff { attempts: 5, first: Duration::from_secs(1), most: Duration::from_secs(30) },
        stop: &stop,
        progress: &|done, all| {
            bar.set_length(all.unwrap_or(done));
            bar.set_position(done);
        },
    };
    let fetched = fetch_model(&request, &downloader, &|name| bar.set_message(name.to_owned()))?;
    bar.finish_and_clear();
    if args.json {
        println!("{:#}", serde_json::to_value(&fetched)?);
    } else {
        let bytes: u64 = fetched.files.iter().map(|file| file.bytes).sum();
        println!(
            "{} at {}: {} files, {:.0} MB in {}; use it with base.path",
            fetched.model,
            fetched.commit,
            fetched.files.len(),
            bytes as f64 / 1e6,
            request.output.display()
        );
    }
    Ok(())
}

/// Whether an error says that somebody asked to stop.
pub fn stopped(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref::<FetchError>(), Some(FetchError::Stopped)))
}
