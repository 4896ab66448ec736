//! The shell around the pure core: world to events, actions to effects, in order.

mod contents;
mod farewell;
mod local;
mod saving;

pub(crate) use contents::welcome;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use coordinator_core::record::{Commit, Record};
use coordinator_core::{Action, Connection, End, Event, Order, Purpose, State, transition_all};
use local::Deaths;
use polya_proto::v1::{self, worker_message};
use tokio::sync::mpsc;
use tonic::Status;

use crate::checkpoints;
use crate::config::Config;
use crate::evaluation::{self, Evaluation, Scores};
use crate::exit::ExitError;
use crate::journal::Journal;
use crate::launcher::{Exited, Launcher};
use crate::outputs::progress::Progress;
use crate::outputs::statistics;
use crate::outputs::tensorboard::TensorBoard;
use crate::run_data::RunData;
use crate::service::Input;
use crate::store::Publisher;
use crate::wire;

/// Inputs that are taken together at most: time and signals must have their turn.
const TOGETHER: usize = 1024;

/// A run's state of the world.
pub struct Driver {
    /// The core.
    pub core: State,
    /// Values of the run.
    pub config: Config,
    /// Its directory.
    pub run_dir: PathBuf,
    /// What is fed to workers.
    pub data: RunData,
    /// The journal.
    pub journal: Journal,
    /// Local workers, if the coordinator spawns them.
    pub launcher: Option<Launcher>,
    /// Copies to the object store, if there is one.
    pub publisher: Option<Publisher>,
    /// TensorBoard events.
    pub tensorboard: TensorBoard,
    /// What people see.
    pub progress: Progress,
    inputs: mpsc::Sender<Input>,
    outboxes: BTreeMap<Connection, mpsc::Sender<Result<v1::CoordinatorMessage, Status>>>,
    workers: BTreeMap<Connection, v1::Hello>,
    evaluation: Option<Evaluation>,
    next_unit: u64,
    /// Steps whose checkpoint is being written.
    writing: BTreeSet<u64>,
    events: VecDeque<Event>,
    rows: Vec<statistics::Row>,
    deaths: Deaths,
    /// Local workers that left on purpose: nobody takes their place.
    left: BTreeSet<String>,
    clock: Clock,
    now_ms: u64,
    end: Option<End>,
}

/// The parts of a driver that come from outside.
pub struct Parts {
    /// The core.
    pub core: State,
    /// Values of the run.
    pub config: Config,
    /// Its directory.
    pub run_dir: PathBuf,
    /// What is fed to workers.
    pub data: RunData,
    /// The journal.
    pub journal: Journal,
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

/// Milliseconds since 1970 that only grow: the wall clock of the start, and from there on the runtime's clock, which a
/// simulation has in its hands.
#[derive(Debug, Clone, Copy)]
struct Clock {
    unix_ms: u64,
    started: tokio::time::Instant,
}

impl Clock {
    fn start() -> Self {
        Clock { unix_ms: unix_ms(), started: tokio::time::Instant::now() }
    }

    fn now_ms(&self) -> u64 {
        self.unix_ms + self.started.elapsed().as_millis() as u64
    }
}

impl Driver {
    /// A driver that hears `inputs` (it sends some to itself).
    pub fn new(parts: Parts, inputs: mpsc::Sender<Input>) -> Result<Self> {
        let Parts { core, config, run_dir, data, journal } = parts;
        let progress = Progress::new(core.setup().schedule.steps(), core.journal().committed());
        let tensorboard = TensorBoard::create(&run_dir, unix_ms() / 1000)?;
        Ok(Driver {
            core,
            config,
            run_dir,
            data,
            journal,
            launcher: None,
            publisher: None,
            tensorboard,
            progress,
            inputs,
            outboxes: BTreeMap::new(),
            workers: BTreeMap::new(),
            evaluation: None,
            next_unit: 0,
            writing: BTreeSet::new(),
            events: VecDeque::new(),
            rows: vec![],
            deaths: Deaths::default(),
            left: BTreeSet::new(),
            clock: Clock::start(),
            now_ms: 0,
            end: None,
        })
    }

    /// Drives the run to its end.
    pub async fn run(
        &mut self,
        inputs: &mut mpsc::Receiver<Input>,
        mut exits: mpsc::UnboundedReceiver<Exited>,
        mut stop: mpsc::Receiver<()>,
    ) -> Result<End, ExitError> {
        let period = Duration::from_millis(self.core.setup().limits().heartbeat_ms);
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.handle(Event::Tick)?;
        loop {
            if let Some(end) = self.end.take() {
                self.flush_statistics()?;
                self.progress.finish();
                return Ok(end);
            }
            tokio::select! {
                Some(input) = inputs.recv() => {
                    self.input(input)?;
                    // What has come meanwhile is decided about together.
                    for _ in 0..TOGETHER {
                        let Ok(input) = inputs.try_recv() else { break };
                        self.input(input)?;
                    }
                    self.settle()?;
                }
                Some(exited) = exits.recv() => self.exited(exited)?,
                Some(()) = stop.recv() => {
                    self.progress.say("saving and stopping (once more to stop at once) …");
                    self.handle(Event::Drain)?;
                }
                _ = ticks.tick() => {
                    self.watch_adopted()?;
                    self.handle(Event::Tick)?;
                }
            }
        }
    }

    /// Takes in what the service heard.
    pub(crate) fn input(&mut self, input: Input) -> Result<(), ExitError> {
        match input {
            Input::Connected(connection, outbox) => {
                self.outboxes.insert(connection, outbox);
            }
            Input::Said(connection, body) => self.said(connection, *body)?,
            Input::Disconnected(connection) => {
                self.outboxes.remove(&connection);
                self.workers.remove(&connection);
                self.events.push_back(Event::Disconnected(connection));
            }
            Input::Uploaded { step, worker, files } => self.uploaded(step, worker, files)?,
            Input::Saved { step, result } => self.saved(step, result)?,
            Input::Wanted(step, reply) => {
                let files = checkpoints::read(&checkpoints::folder(&self.run_dir, step));
                // A worker that has gone meanwhile wants nothing any more.
                let _ = reply.send(files.map(|(_, _, files)| files).map_err(|error| error.to_string()));
            }
            Input::Superseded(epoch) => {
                let reason =
                    format!("another coordinator has claimed the run in the store (epoch {epoch}): it goes on there");
                self.outboxes.clear(); // the workers park, and go on with the other one
                self.end = Some(End::Stopped(reason));
            }
            Input::Asked(reply) => {
                let _ = reply.send(self.status());
            }
            Input::Scale(workers, reply) => {
                let outcome = self.scale(workers)?;
                let _ = reply.send(outcome);
            }
        }
        Ok(())
    }

    fn said(&mut self, connection: Connection, body: worker_message::Body) -> Result<(), ExitError> {
        if let worker_message::Body::Hello(hello) = &body {
            if hello.protocol_version != polya_proto::PROTOCOL_VERSION {
                let reason = format!(
                    "worker {} speaks protocol {}, this coordinator {}",
                    hello.worker,
                    hello.protocol_version,
                    polya_proto::PROTOCOL_VERSION
                );
                self.send(connection, Order::Refuse { reason, exit_code: polya_proto::exit::REFUSED });
                return Ok(());
            }
            tracing::info!(worker = hello.worker, host = hello.host, software = hello.software, "a worker joins");
            self.workers.insert(connection, hello.clone());
        }
        if let worker_message::Body::Left(left) = &body
            && let Some(hello) = self.workers.get(&connection)
        {
            tracing::info!(worker = hello.worker, reason = left.reason, "a worker leaves on purpose");
            self.left.insert(hello.worker.clone());
        }
        if let worker_message::Body::EvaluationDone(done) = &body
            && let (Some(evaluation), Some(result)) = (&mut self.evaluation, &done.result)
        {
            if evaluation.take(done.unit, result.clone()) {
                self.deaths.the_run_goes_on();
            }
            let (name, done, units) = (purpose_name(evaluation.purpose), evaluation.done(), evaluation.units());
            self.progress.evaluating(name, done, units);
        }
        match wire::report(body) {
            Ok(report) => {
                self.events.push_back(Event::Said(connection, report));
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "a message breaks the protocol; its sender is cut off");
                self.outboxes.remove(&connection);
                self.handle(Event::Disconnected(connection))
            }
        }
    }

    /// Applies an event and everything that follows from it.
    fn handle(&mut self, event: Event) -> Result<(), ExitError> {
        self.events.push_back(event);
        self.settle()
    }

    /// Applies the events that are waiting, and those that follow from them.
    fn settle(&mut self) -> Result<(), ExitError> {
        while !self.events.is_empty() {
            self.now_ms = self.clock.now_ms();
            let events = std::mem::take(&mut self.events);
            let mut actions = transition_all(&mut self.core, events, self.now_ms);
            gather(&mut actions);
            for action in actions {
                self.execute(action)?;
            }
        }
        Ok(())
    }

    fn execute(&mut self, action: Action) -> Result<(), ExitError> {
        tracing::trace!(?action);
        match action {
            Action::Send(connection, order) => self.send(connection, order),
            Action::Close(connection, _) => {
                self.outboxes.remove(&connection);
                self.workers.remove(&connection);
            }
            Action::Kill(connection, why) => {
                self.outboxes.remove(&connection);
                if let (Some(hello), Some(launcher)) = (self.workers.remove(&connection), &self.launcher) {
                    tracing::warn!(worker = hello.worker, why, "a local worker is killed and replaced");
                    launcher.kill(&hello.worker);
                }
            }
            Action::Recruit => self.recruit()?,
            Action::Append(record) => {
                self.journal.seal_if_long(self.core.journal())?;
                self.journal.append(&record)?;
                self.appended(&record)?;
                self.events.push_back(Event::Appended(record));
            }
            Action::PlanEvaluation { purpose, step } => {
                let batch = self.config.evaluation.batch as usize;
                let evaluation = Evaluation::plan(purpose, step, self.next_unit, &self.data, batch)?;
                let units = evaluation.units();
                self.next_unit += units;
                self.evaluation = Some(evaluation);
                self.events.push_back(Event::EvaluationPlanned { units });
            }
            Action::ScoreEvaluation => {
                self.score()?;
                self.events.push_back(Event::EvaluationScored);
            }
            Action::DropEvaluation => self.evaluation = None,
            Action::Note(text) => tracing::info!("{text}"),
            Action::End(end) => self.end = Some(end),
        }
        Ok(())
    }

    fn send(&mut self, connection: Connection, order: Order) {
        let Some(outbox) = self.outboxes.get(&connection) else { return };
        let Some(message) = wire::message(order, self) else { return };
        if outbox.try_send(Ok(message)).is_err() {
            tracing::warn!(connection = connection.0, "a worker does not read its messages; its stream is ended");
            self.outboxes.remove(&connection);
        }
    }

    /// A record is durable: show it.
    fn appended(&mut self, record: &Record) -> Result<(), ExitError> {
        match record {
            Record::Commit(commit) => self.committed(commit)?,
            Record::Retry(retry) => {
                tracing::info!(
                    step = retry.step,
                    attempt = retry.attempt,
                    reason = retry.reason,
                    "the step is tried again"
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn committed(&mut self, commit: &Commit) -> Result<(), ExitError> {
        self.deaths.the_run_goes_on();
        self.progress.committed(commit, self.workers.len());
        let setup = self.core.setup();
        // Called before the commit is folded: these are still the scale and the weights of the committed attempt.
        let scale_log2 = self.core.journal().scale_log2();
        let weights = self.core.journal().stage_weights(setup, commit.step);
        let rows = statistics::rows(commit, weights, setup.learning_rate.at(commit.step), scale_log2);
        let mut scalars = vec![];
        for (row, stage) in rows.iter().zip(["understand", "plan", "execute", "verify"]) {
            scalars.extend(row.loss.map(|loss| (format!("loss/{stage}"), loss)));
            scalars.extend(row.accuracy.map(|accuracy| (format!("accuracy/{stage}"), accuracy)));
            scalars.extend(setup.dynamic_weights.then(|| (format!("weight/{stage}"), row.weight)));
        }
        if let Some(row) = rows.first() {
            scalars.push(("transition".to_owned(), row.transition));
            scalars.push(("gradient_norm".to_owned(), row.grad_norm));
            scalars.push(("learning_rate".to_owned(), row.lr));
        }
        self.tensorboard.scalars(commit.step, commit.time_ms, &scalars)?;
        self.rows.extend(rows);
        tracing::info!(step = commit.step, attempt = commit.attempt, state = %commit.state, "committed");
        Ok(())
    }

    fn flush_statistics(&mut self) -> Result<(), ExitError> {
        statistics::write(&self.run_dir, &self.rows)?;
        self.rows.clear();
        Ok(())
    }

    fn score(&mut self) -> Result<(), ExitError> {
        let Some(evaluation) = self.evaluation.take() else { return Ok(()) };
        let (purpose, step) = (evaluation.purpose, evaluation.step);
        let scores = evaluation.score(&self.data, self.config.run.seed)?;
        if let Some(loss) = scores.holdout_loss.filter(|_| purpose != Purpose::Base) {
            checkpoints::note_holdout_loss(&self.run_dir, step, loss)?;
            self.tensorboard.scalars(step, self.now_ms, &[("loss/holdout".to_owned(), loss)])?;
            tracing::info!(step, loss, "holdout loss");
        }
        let mut scalars = vec![];
        match purpose {
            Purpose::Holdout => return Ok(self.note_holdout(step, &scores)?),
            Purpose::Base => evaluation::write(&self.run_dir, "step-000000", 0, &scores)?,
            Purpose::Interval => evaluation::write(&self.run_dir, &format!("step-{step:06}"), step, &scores)?,
            Purpose::Final => {
                evaluation::write(&self.run_dir, &format!("step-{step:06}"), step, &scores)?;
                if let Some(table) = evaluation::write_final(&self.run_dir, &scores)? {
                    self.progress.say(&table.to_string());
                }
            }
        }
        let svr = &scores.summary.svr;
        for (name, figure) in [
            ("accuracy", &scores.summary.accuracy),
            ("rfs", &scores.summary.rfs),
            ("svr/correction", &svr.correction),
            ("svr/detection", &svr.detection),
            ("svr/false_alarm", &svr.false_alarm),
        ] {
            scalars.extend(figure.value.map(|value| (format!("score/{name}"), value)));
        }
        self.tensorboard.scalars(step, self.now_ms, &scalars)?;
        Ok(())
    }

    /// Marks a step's holdout loss as measured, so that a resumed run does not measure it again.
    fn note_holdout(&self, step: u64, scores: &Scores) -> Result<()> {
        let folder = self.run_dir.join("evaluation");
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let path = folder.join(format!("holdout-{step:06}.json"));
        let json = serde_json::json!({ "step": step, "holdout_loss": scores.holdout_loss,
            "per_stage_accuracy": scores.summary.per_stage_accuracy });
        std::fs::write(&path, format!("{json:#}\n")).with_context(|| path.display().to_string())
    }
}

/// Brings together the orders to one worker that nothing but other orders stands between, so that they go out in one write
/// to its socket: a Commit with the next step's Plan and Lease.
fn gather(actions: &mut [Action]) {
    let recipient = |action: &Action| match action {
        Action::Send(connection, _) => Some(*connection),
        _ => None,
    };
    for orders in actions.chunk_by_mut(|a, b| recipient(a).is_some() && recipient(b).is_some()) {
        orders.sort_by_key(recipient); // stable: to one worker the order stays
    }
}

fn purpose_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Base => "before training",
        Purpose::Holdout => "the holdout",
        Purpose::Interval => "on the way",
        Purpose::Final => "after training",
    }
}

/// The address of a run that listens, for `status` and for parked workers.
pub fn address_file(run_dir: &std::path::Path) -> PathBuf {
    run_dir.join("address")
}

/// What an earlier coordinator of the run wrote there.
pub fn last_address(run_dir: &std::path::Path) -> Option<SocketAddr> {
    std::fs::read_to_string(address_file(run_dir)).ok()?.trim().parse().ok()
}
