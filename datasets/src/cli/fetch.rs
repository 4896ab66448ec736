//! `datasets fetch`: published files, downloaded and checked.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;

use super::Failure;
use super::progress::Progress;
use crate::fetch::download::Downloader;
use crate::fetch::lock::Lock;
use crate::fetch::published::{ALL, Published};
use crate::fetch::{self, Checked, FetchError, Fetched, How};
use crate::network::backoff::Backoff;
use crate::network::stop::{STOPPED, Stop};
use crate::network::{TimeLimits, address, client};

/// Download a published data set, and check its bytes.
///
/// A download that was cut goes on where it ended. What is there already is measured, not downloaded again. Where the
/// publisher gives no checksum, that of the first download is kept in fetch.lock.json beside the files. Proxies are taken
/// from HTTPS_PROXY, HTTP_PROXY and NO_PROXY. Exit code 75: stopped by Ctrl-C; the same command goes on.
#[derive(Debug, Clone, clap::Args)]
pub struct FetchArgs {
    /// Which one: gsm8k, gsm8k-socratic, math, vnhsge. --list says more.
    #[arg(required_unless_present = "list", value_parser = published)]
    dataset: Option<&'static Published>,
    /// The folder for the files; made if it is not there.
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    output: Option<PathBuf>,
    /// Lists what can be fetched, with licences and checksums, and does nothing else.
    #[arg(long)]
    list: bool,
    /// Another place with the same files: it takes the place of the published root, the paths below stay.
    #[arg(long, value_name = "URL", conflicts_with = "url")]
    base_url: Option<String>,
    /// The address of the file itself, for a data set of one file that has no link built in.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// For data sets without a clear licence: you have read what the command prints about it, and decided.
    #[arg(long)]
    i_have_read_the_terms: bool,
    /// Attempts without a new byte before a file is given up.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    attempts: u32,
    /// Bound of the first wait between attempts, in seconds; it doubles, up to a minute.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = super::not_negative)]
    backoff: f64,
    /// Prints the files as one JSON document.
    #[arg(long)]
    json: bool,
}

fn published(name: &str) -> Result<&'static Published, String> {
    Published::named(name).ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|published| published.name).collect();
        format!("known are {}", names.join(", "))
    })
}

/// Runs it.
pub fn fetch(args: &FetchArgs) -> Result<(), Failure> {
    let (Some(published), Some(folder), false) = (args.dataset, &args.output, args.list) else {
        ALL.iter().for_each(list);
        return Ok(());
    };
    if let Some(terms) = published.terms {
        eprintln!("{}: licence: {}. {terms}", published.name, published.licence);
        if !args.i_have_read_the_terms {
            let by_hand = fetch::by_hand(published, published.root, folder);
            let why = "nothing was downloaded; --i-have-read-the-terms says that you have read this and decided";
            return Err(Failure::usage(anyhow!("{why}\n{by_hand}")));
        }
    }
    let urls = urls(args, published)?;
    std::fs::create_dir_all(folder).map_err(|error| Failure::usage(anyhow!("{}: {error}", folder.display())))?;
    let mut lock = Lock::open(folder).map_err(|error| anyhow!("{}: {error}", folder.display()))?;
    let stop = Stop::on_signals()?;
    let client = client(TimeLimits { whole: None, silence: Duration::from_secs(60) }, 5);
    let most = Duration::from_secs(60);
    let backoff = Backoff { attempts: args.attempts, first: Duration::from_secs_f64(args.backoff), most };
    let mut done = Vec::new();
    for (file, url) in published.files.iter().zip(&urls) {
        let bar = Progress::bytes(file.name());
        let progress = |bytes, of| bar.reached(bytes, of);
        let downloader = Downloader { client: &client, backoff, stop: &stop, progress: &progress };
        let fetched = fetch::fetch(file, url, folder, &mut lock, &downloader);
        drop(bar);
        let fetched = fetched.map_err(|error| failure(error, args, published))?;
        if !args.json {
            println!("{}", sentence(&fetched));
        }
        done.push(fetched);
    }
    if args.json {
        println!("{}", serde_json::json!({ "dataset": published.name, "licence": published.licence, "files": done }));
    } else {
        println!("next: {}", published.next.replace("{folder}", &folder.display().to_string()));
    }
    Ok(())
}

/// Where each file is to be had.
fn urls(args: &FetchArgs, published: &Published) -> Result<Vec<String>, Failure> {
    let checked = |text: &String| address(text).map_err(|why| Failure::usage(anyhow!(why)));
    if let Some(url) = &args.url {
        if published.files.len() != 1 {
            return Err(Failure::usage(anyhow!("{} has several files; --base-url gives their place", published.name)));
        }
        return Ok(vec![checked(url)?]);
    }
    let root = args.base_url.as_ref().map(checked).transpose()?.or(published.root.map(str::to_owned));
    let root = root.ok_or_else(|| {
        let by_hand = fetch::by_hand(published, None, args.output.as_deref().unwrap_or_else(|| ".".as_ref()));
        Failure::usage(anyhow!(
            "{} has no link built in; give the file's address with --url\n{by_hand}",
            published.name
        ))
    })?;
    Ok(published.files.iter().map(|file| fetch::url(&root, file)).collect())
}

fn failure(error: FetchError, args: &FetchArgs, published: &Published) -> Failure {
    let folder = args.output.as_deref().unwrap_or_else(|| ".".as_ref());
    let root = args.base_url.as_deref().or(published.root);
    match error {
        FetchError::Stopped => Failure { code: STOPPED, error: error.into() },
        FetchError::Unreachable { .. } | FetchError::Refused { .. } => {
            let by_hand = fetch::by_hand(published, root, folder);
            Failure { code: 1, error: anyhow!("{error}\n{by_hand}") }
        }
        FetchError::Wrong { .. } | FetchError::Taken { .. } | FetchError::Io { .. } => {
            Failure { code: 1, error: error.into() }
        }
    }
}

fn sentence(fetched: &Fetched) -> String {
    let how = match fetched.how {
        How::Present => "was there",
        How::Downloaded => "downloaded",
        How::Resumed => "downloaded, going on from an earlier attempt",
    };
    let checked = match fetched.checked {
        Checked::Published => "the published bytes".to_owned(),
        Checked::Locked => "the bytes of the first download (nobody publishes a checksum)".to_owned(),
        Checked::FirstSeen => {
            "nobody publishes a checksum: this one is now in fetch.lock.json, it will tell changes and proves no origin"
                .to_owned()
        }
    };
    format!("{}: {how}, {} bytes, SHA-256 {}: {checked}", fetched.path.display(), fetched.bytes, fetched.sha256)
}

fn list(published: &Published) {
    println!("{}: {}\n  licence: {}; {}", published.name, published.what, published.licence, published.home);
    for file in published.files {
        let bytes = file.bytes.map_or_else(String::new, |bytes| format!(", {bytes} bytes"));
        println!("  {}{bytes}, SHA-256 {}", file.name(), file.sha256.unwrap_or("not published"));
    }
}
