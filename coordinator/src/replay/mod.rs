//! `coordinator replay DIR --step T`: computes a committed step again, bit for bit, on a worker of this machine.
//!
//! The records up to step T are folded, and the core is asked to go on: with a worker that holds nothing it orders the
//! nearest good checkpoint and replays the journalled plans, as after a lost fleet. Before step T itself, each of its
//! samples is measured alone. The run's directory is read only, so a live run can be replayed too.

mod measure;
mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use coordinator_core::record::Commit;
use coordinator_core::{Action, Connection, End, Event, Journal as Fold, Order, Record, Setup, State, transition};
use polya_proto::v1::{self, coordinator_message, worker_message};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::checkpoints;
use crate::config::{self, Config};
use crate::driver::{unix_ms, welcome};
use crate::exit::ExitError;
use crate::journal::{self, Records};
use crate::launcher::{self, Launcher};
use crate::run::serve;
use crate::run_data::{self, RunData};
use crate::service::Input;
use crate::setup::{open_record, setup};
use crate::wire::{self, Contents};
use measure::Measure;
use report::Report;

/// Inputs that may wait.
const INPUTS: usize = 64;
/// How long the worker may take to leave.
const FAREWELL: Duration = Duration::from_secs(10);
/// Nothing is decided by time here: a worker that ends is noticed by its exit.
const SILENCE_MS: u64 = 600_000;

type Outbox = mpsc::Sender<Result<v1::CoordinatorMessage, tonic::Status>>;

/// Runs the command; gives the exit code.
pub async fn run(run_dir: &Path, step: u64, as_json: bool) -> Result<u8, ExitError> {
    let path = journal::of_run(run_dir)?;
    let (config, _) = config::of_run_toml(&run_dir.join("run.toml"), &[]).map_err(ExitError::usage)?;
    let data = run_data::load(&config)?;
    let setup = Setup {
        checkpoint_every: 0,
        evaluate: false,
        holdout: false,
        min_workers: 1,
        failure_detection_ms: SILENCE_MS,
        ..setup(&config, &data)?
    };
    let open = open_record(&config, &data, &setup)?;
    let (from, fold, commit) = recorded(run_dir, &path, &setup, &open, step)?;
    let ids: Vec<Vec<String>> = setup.schedule.microbatches(step).iter().map(|of| ids(of, &data)).collect();
    let seen = Feed { config, run_dir: run_dir.to_owned(), setup: setup.clone(), data, epoch: fold.epoch() };
    let core = State::of_journal(setup, fold, Default::default());
    let measure = Measure::new(step, seen.singles(step));
    let mut replay = Replay { core, feed: seen, step, measure, outbox: None, done: BTreeMap::new(), ready: None };
    let ended = replay.on_a_worker().await?;
    let Replay { measure, done, ready, .. } = replay;
    let report = Report { step, from, commit: *commit, done, ready, samples: measure.results(&ids), ended };
    report.say(as_json)?;
    Ok(u8::from(!report.equal()))
}

fn ids(indices: &[u32], data: &RunData) -> Vec<String> {
    indices.iter().map(|&index| data.samples[index as usize].id.clone()).collect()
}

/// The checkpoint to begin with (0: none), the fold of the records up to the commit of `step`, and that commit.
fn recorded(
    run_dir: &Path,
    path: &Path,
    setup: &Setup,
    open: &Record,
    step: u64,
) -> Result<(u64, Fold, Box<Commit>), ExitError> {
    let is_whole = |step: &u64| checkpoints::verify(&checkpoints::folder(run_dir, *step)).is_ok();
    let nearest = checkpoints::steps(run_dir).into_iter().rev().filter(|at| *at < step).find(is_whole);
    let from = nearest.unwrap_or(0);
    let mut fold = Fold::remembering_from(setup.scale_log2, from);
    for record in Records::open(path)? {
        let record = record?;
        if fold.records() == 0 && !record.is_same_run(open) {
            return Err(
                anyhow!("configuration, data, base or adapters are not those of the journal: run `audit`").into()
            );
        }
        fold.fold(setup, &record);
        let Record::Commit(commit) = record else { continue };
        if commit.step == step {
            let found = checkpoints::verify(&checkpoints::folder(run_dir, from)).ok().map(|(_, manifest)| manifest);
            if from > 0 && fold.checkpoints().get(&from).copied() != found {
                return Err(anyhow!("the checkpoint of step {from} is not the journal's: run `audit`").into());
            }
            fold.retain_checkpoints(|step| step == from);
            return Ok((from, fold, commit));
        }
    }
    let last = fold.committed();
    Err(ExitError::usage(anyhow!("--step {step}: the journal has steps 1 to {last}")))
}

/// What the worker is fed with.
struct Feed {
    config: Config,
    run_dir: PathBuf,
    setup: Setup,
    data: RunData,
    epoch: u64,
}

impl Feed {
    /// Every sample of a step, alone.
    fn singles(&self, step: u64) -> Vec<v1::Sample> {
        let indices = self.setup.schedule.microbatches(step).iter().flatten();
        indices.map(|&index| self.data.samples[index as usize].clone()).collect()
    }
}

impl Contents for Feed {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn welcome(&self) -> v1::Welcome {
        welcome(&self.config, self.epoch, self.config.park_limit_ms())
    }

    fn samples(&self, step: u64, microbatch: u32) -> Vec<v1::Sample> {
        let microbatches = self.setup.schedule.microbatches(step);
        let indices = microbatches.get(microbatch as usize).map(Vec::as_slice).unwrap_or_default();
        indices.iter().map(|&index| self.data.samples[index as usize].clone()).collect()
    }

    fn evaluate(&self, _unit: u64) -> Option<v1::Evaluate> {
        None // nothing is scored here
    }
}

struct Replay {
    core: State,
    feed: Feed,
    step: u64,
    measure: Measure,
    outbox: Option<Outbox>,
    /// Digest of each microbatch of the step.
    done: BTreeMap<u32, u64>,
    ready: Option<v1::Ready>,
}

impl Replay {
    /// Starts a worker, lets the core lead it to the step. Gives why it stopped, if it was not equal.
    async fn on_a_worker(&mut self) -> Result<Option<String>> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("a port of 127.0.0.1")?;
        let address = listener.local_addr().context("the listener's address")?;
        let (inputs, mut received) = mpsc::channel(INPUTS);
        let server = serve(listener, inputs, None, None).map_err(|exit| exit.error)?;
        let folder = std::env::temp_dir().join(format!("polya-replay-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let arguments = vec!["--coordinator".to_owned(), address.to_string()];
        let (mut launcher, mut exits) = Launcher::new(&folder, arguments, vec![]);
        launcher.spawn("replay")?;
        let ended = loop {
            tokio::select! {
                Some(input) = received.recv() => if let Some(ended) = self.input(input)? { break Ok(ended) },
                Some(exited) = exits.recv() => {
                    let log = folder.join("logs/worker-replay.log");
                    let said = std::fs::read_to_string(&log).unwrap_or_default();
                    break Err(anyhow!("the worker ended ({}): {}", exited.status, said.lines().last().unwrap_or("")));
                }
            }
        };
        self.send(coordinator_message::Body::Leave(v1::Leave {
            reason: "the step is replayed".to_owned(),
            exit_code: polya_proto::exit::FINISHED,
        }));
        if tokio::time::timeout(FAREWELL, exits.recv()).await.is_err() {
            launcher.workers().for_each(|worker| launcher::signal(worker.pid, libc::SIGKILL));
        }
        server.abort();
        std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        ended
    }

    /// Takes what the worker said. `Some` when the replay is over, with the reason if it was not equal.
    fn input(&mut self, input: Input) -> Result<Option<Option<String>>> {
        match input {
            Input::Connected(_, outbox) => self.outbox = Some(outbox),
            Input::Said(connection, body) => return self.said(connection, *body),
            Input::Disconnected(connection) => return Ok(self.handle(Event::Disconnected(connection))),
            Input::Wanted(step, reply) => {
                let files = checkpoints::read(&checkpoints::folder(&self.feed.run_dir, step));
                // A worker that has gone meanwhile wants nothing any more; its exit ends the replay.
                let _ = reply.send(files.map(|(_, _, files)| files).map_err(|error| error.to_string()));
            }
            _ => {}
        }
        Ok(None)
    }

    fn said(&mut self, connection: Connection, body: worker_message::Body) -> Result<Option<Option<String>>> {
        match &body {
            worker_message::Body::Done(done) if self.measure.is_open() => {
                let orders = self.measure.take(done);
                orders.into_iter().for_each(|order| self.send(order));
                if !self.measure.is_open() {
                    self.release();
                }
                return Ok(None);
            }
            worker_message::Body::Done(done) if done.step == self.step => {
                self.done.insert(done.microbatch, done.digest);
            }
            worker_message::Body::Ready(ready) if ready.step == self.step => self.ready = Some(ready.clone()),
            _ => {}
        }
        let report = wire::report(body).context("the worker")?;
        Ok(self.handle(Event::Said(connection, report)))
    }

    fn handle(&mut self, event: Event) -> Option<Option<String>> {
        for action in transition(&mut self.core, event, unix_ms()) {
            match action {
                Action::Send(_, Order::Commit { step, .. }) if step == self.step => return Some(None),
                Action::Send(_, Order::Refuse { reason, .. }) => return Some(Some(reason)),
                Action::Send(_, order) => {
                    let Some(v1::CoordinatorMessage { body: Some(body) }) = wire::message(order, &self.feed) else {
                        continue;
                    };
                    let now = self.measure.before(body);
                    now.into_iter().for_each(|body| self.send(body));
                }
                Action::End(End::Stopped(reason)) => return Some(Some(reason)),
                _ => {}
            }
        }
        None
    }

    /// The measuring is over: what the core ordered meanwhile goes out.
    fn release(&mut self) {
        for body in self.measure.held_back() {
            self.send(body);
        }
    }

    fn send(&self, body: coordinator_message::Body) {
        if let Some(outbox) = &self.outbox {
            // A worker that does not read has ended, or will: its exit is noticed.
            let _ = outbox.try_send(Ok(v1::CoordinatorMessage { body: Some(body) }));
        }
    }
}
