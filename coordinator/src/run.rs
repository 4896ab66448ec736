//! `coordinator`: starts a run, or goes on with one.

mod open;

pub use open::{begin_epoch, open_journal};

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use coordinator_core::{End, reason};
use polya_proto::tls::{Credentials, Role};
use polya_proto::v1::coordinator_server::CoordinatorServer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::service::interceptor::InterceptedService;

use crate::config::Config;
use crate::devices::{self, AUTO};
use crate::driver::{Driver, Parts, address_file, last_address};
use crate::exit::{ExitError, STOPPED};
use crate::first_worker::{FirstWorker, first_worker};
use crate::launcher::{self, Launcher};
use crate::outputs;
use crate::run_data;
use crate::security;
use crate::service::{Input, Service};
use crate::setup::{open_record, setup};
use crate::store::{Publisher, Store};

/// Inputs that may wait for the driver.
const INPUTS: usize = 4096;
/// Largest message; a state travels in chunks of 1 MiB.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Calls that one connection may have open.
const STREAMS_MAX: u32 = 256;
/// Bytes of a call's headers.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// A silent connection is asked this often whether it lives.
const ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long local workers may take to obey Leave.
const FAREWELL: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Values.
    pub config: Config,
    /// Directory.
    pub run_dir: PathBuf,
    /// Go on with it.
    pub resume: bool,
    /// Take everything after this step back before.
    pub from_step: Option<u64>,
    /// Local workers.
    pub workers: u32,
    /// Workers come from elsewhere.
    pub external: bool,
    /// Where to listen; none: where an earlier coordinator of the run did, else any port of loopback.
    pub listen: Option<SocketAddr>,
    /// The file that holds or shall hold the join token.
    pub token_file: Option<PathBuf>,
    /// The folder of the fleet's certificates.
    pub tls: Option<PathBuf>,
}

/// Runs; gives the exit code.
pub async fn run(mut options: Options) -> Result<u8, ExitError> {
    let local = devices::resolve(&options.config.worker.device, (!options.external).then_some(options.workers))?;
    if !local.said.is_empty() {
        println!("{}", local.said);
    }
    options.config.worker.device = local.device;
    let listener = listen(&options).await?;
    let address = listener.local_addr().context("the listener's address")?;
    let token =
        security::token(address, options.token_file.as_deref(), options.tls.is_some()).map_err(ExitError::usage)?;
    let credentials = credentials(options.tls.as_deref())?;
    let run_dir = options.run_dir.clone();
    if !options.resume {
        std::fs::create_dir_all(&run_dir).map_err(|e| ExitError::usage(anyhow!("{}: {e}", run_dir.display())))?;
    }
    outputs::log::start(&run_dir)?;
    let data = run_data::load(&options.config).map_err(ExitError::usage)?;
    for (reason, count) in &data.rejected {
        println!("{count} training samples rejected: {reason}");
    }
    let (inputs, mut received) = mpsc::channel(INPUTS);
    let mut stop = stop_signals()?;
    let mut closed = Some((listener, token, credentials));
    let mut open_door = || {
        let (listener, token, credentials) = closed.take().expect("the door is opened once");
        write_address(&run_dir, address)?;
        let server = serve(listener, inputs.clone(), token, credentials)?;
        println!("listening on {address}");
        Ok::<_, ExitError>(server)
    };
    let (mut server, mut heard) = (None, vec![]);
    if options.config.worker.device == AUTO {
        server = Some(open_door()?);
        let first = wait_for_first_worker(&mut received, &mut stop, &run_dir).await?;
        options.config.worker.device = first.device;
        heard = first.heard;
    }
    let (config, run_dir) = (&options.config, &run_dir);
    let setup = setup(config, &data)?;
    println!(
        "{} training samples, {} steps, {} problems and {} probes to score; run directory {}",
        data.samples.len(),
        setup.schedule.steps(),
        data.bench.problems.len(),
        data.bench.probes.len(),
        run_dir.display()
    );
    let here = if options.external { 0 } else { options.workers as usize };
    if let Some(note) = reason::idle_workers(here, setup.schedule.microbatches_per_step()) {
        println!("note: {note}");
    }
    let open = open_record(config, &data, &setup)?;
    let (mut journal, fold) = open_journal(&options, &setup, &open)?;
    if fold.ended() {
        println!("the run is finished; nothing to do");
        return Ok(0);
    }
    let store = match config.checkpoint.store.as_str() {
        "" => None,
        url => Some(Store::open(url).map_err(ExitError::usage)?),
    };
    let epoch = match &store {
        Some(store) => store.claim(fold.epoch()).await?, // before anybody can hear of the epoch, here or elsewhere
        None => fold.epoch() + 1,
    };
    let core = begin_epoch(&mut journal, fold, setup, epoch, run_dir)?;
    let server = match server {
        Some(server) => server,
        None => open_door()?,
    };
    let parts = Parts { core, config: config.clone(), run_dir: run_dir.clone(), data, journal };
    let mut driver = Driver::new(parts, inputs.clone())?;
    driver.publisher =
        store.map(|store| Publisher::start(store, run_dir.clone(), epoch, config.checkpoint.keep, inputs));
    let (launcher, exits) = Launcher::new(run_dir, worker_arguments(&options, address), local.gpus);
    if !options.external {
        driver.launcher = Some(start_workers(launcher, &options)?);
    }
    for input in heard {
        driver.input(input)?;
    }
    let end = driver.run(&mut received, exits, stop).await;
    if !matches!(end, Ok(End::Finished | End::Drained))
        && let Some(launcher) = &driver.launcher
    {
        // The journal has what counts; workers that nobody told to leave would park.
        launcher.workers().for_each(|worker| launcher::signal(worker.pid, libc::SIGKILL));
    }
    if let Ok(end) = &end {
        driver.see_off(end, &mut received, FAREWELL).await;
    }
    let dismissed = dismiss(&mut driver).await;
    if let Some(publisher) = driver.publisher.take() {
        publisher.publish(None);
        publisher.finish().await;
    }
    server.abort();
    let code = finish(end, run_dir)?;
    dismissed.map(|()| code)
}

/// The first worker from elsewhere, unless the user stops before.
async fn wait_for_first_worker(
    received: &mut mpsc::Receiver<Input>,
    stop: &mut mpsc::Receiver<()>,
    run_dir: &Path,
) -> Result<FirstWorker, ExitError> {
    println!("worker.device = auto: the first worker decides; waiting for it");
    let first = tokio::select! {
        first = first_worker(received, run_dir) => first,
        _ = stop.recv() => None,
    };
    let first = first.ok_or_else(|| anyhow!("stopped before the first worker came: nothing has begun"))?;
    println!("worker.device = {}: that is what the first worker, {}, has", first.device, first.worker);
    Ok(first)
}

fn finish(end: Result<End, ExitError>, run_dir: &Path) -> Result<u8, ExitError> {
    match end? {
        End::Finished => {
            println!("finished; prove it with: coordinator audit {}", run_dir.display());
            Ok(0)
        }
        End::Drained => {
            println!("saved; go on with: coordinator --resume {}", run_dir.display());
            Ok(STOPPED)
        }
        End::Stopped(reason) => Err(anyhow!("{reason}").into()),
    }
}

async fn listen(options: &Options) -> Result<TcpListener, ExitError> {
    let any: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0));
    if let Some(address) = options.listen {
        return TcpListener::bind(address)
            .await
            .map_err(|error| ExitError::usage(anyhow!("--listen {address}: {error}; is another coordinator there?")));
    }
    if let Some(address) = last_address(&options.run_dir).filter(|_| options.resume) {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                println!("{address}, where the run listened before, is not free ({error}); another port is used")
            }
        }
    }
    TcpListener::bind(any).await.map_err(|error| ExitError::usage(anyhow!("{any}: {error}")))
}

fn write_address(run_dir: &Path, address: SocketAddr) -> Result<(), ExitError> {
    let temporary = run_dir.join(".address");
    std::fs::write(&temporary, format!("{address}\n")).with_context(|| temporary.display().to_string())?;
    std::fs::rename(&temporary, address_file(run_dir)).context("address")?;
    Ok(())
}

fn credentials(folder: Option<&Path>) -> Result<Option<Credentials>, ExitError> {
    let read = |folder| Credentials::read(folder, Role::Coordinator);
    folder
        .map(read)
        .transpose()
        .map_err(|reason| ExitError::usage(anyhow!("--tls: {reason}; see `coordinator certificates`")))
}

/// Serves the coordinator's calls. A stranger is cut off at the door, a peer that is gone is noticed.
pub fn serve(
    listener: TcpListener,
    inputs: mpsc::Sender<Input>,
    token: Option<String>,
    credentials: Option<Credentials>,
) -> Result<tokio::task::JoinHandle<()>, ExitError> {
    let service = CoordinatorServer::new(Service::new(inputs))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let gated = InterceptedService::new(service, security::Gate::new(token));
    let mut server = tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(ALIVE_INTERVAL));
    if let Some(credentials) = credentials {
        server = server.tls_config(credentials.server()).map_err(|e| ExitError::usage(anyhow!("--tls: {e:?}")))?;
    }
    let incoming = security::door::guarded(listener);
    Ok(tokio::spawn(async move {
        if let Err(error) = server.serve_with_incoming(gated, incoming).await {
            tracing::error!(%error, "the server ended");
        }
    }))
}

fn worker_arguments(options: &Options, address: SocketAddr) -> Vec<String> {
    let mut arguments = vec!["--coordinator".to_owned(), address.to_string()];
    let seconds = options.config.park_limit_ms().div_ceil(1000);
    arguments.extend(["--park-limit".to_owned(), seconds.to_string()]);
    if let Some(file) = &options.token_file {
        arguments.extend(["--join-token-file".to_owned(), file.display().to_string()]);
    }
    if let Some(folder) = &options.tls {
        arguments.extend(["--tls".to_owned(), folder.display().to_string()]);
    }
    arguments
}

/// Adopts parked workers up to the wanted number, ends the others, spawns what is missing.
fn start_workers(mut launcher: Launcher, options: &Options) -> Result<Launcher, ExitError> {
    let wanted: Vec<String> = (0..options.workers).map(|index| format!("w{index}")).collect();
    let mut adopted = BTreeSet::new();
    for worker in launcher::parked(&options.run_dir) {
        if options.resume && wanted.contains(&worker.id) {
            adopted.insert(worker.id.clone());
            launcher.adopt(worker)?;
        } else {
            launcher::signal(worker.pid, libc::SIGKILL);
        }
    }
    for id in wanted.iter().filter(|id| !adopted.contains(*id)) {
        launcher.spawn(id)?;
    }
    Ok(launcher)
}

/// Ctrl-C or SIGTERM: the first asks to save and stop, the second ends the process at once.
fn stop_signals() -> Result<mpsc::Receiver<()>, ExitError> {
    use tokio::signal::unix::{SignalKind, signal};
    let (stop, stopped) = mpsc::channel(1);
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if asked {
                eprintln!("stopped at once; what is committed is in the journal, --resume goes on from there");
                std::process::exit(1);
            }
            asked = true;
            let _ = stop.send(()).await;
        }
    });
    Ok(stopped)
}

/// Waits until the local workers have obeyed Leave; who does not is killed.
async fn dismiss(driver: &mut Driver) -> Result<(), ExitError> {
    let Some(launcher) = &mut driver.launcher else { return Ok(()) };
    let until = tokio::time::Instant::now() + FAREWELL;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while launcher.workers().any(|worker| launcher::is_alive(worker.pid)) {
        if tokio::time::Instant::now() > until {
            launcher.workers().for_each(|worker| launcher::signal(worker.pid, libc::SIGKILL));
            break;
        }
        ticks.tick().await;
    }
    Ok(launcher.forget_all()?)
}
