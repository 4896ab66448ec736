//! The shell around the pure core: world to events, actions to effects, in order.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use coordinator_core::record::{Commit, Record};
use coordinator_core::{Action, Connection, Digest, End, Event, Order, Purpose, Report, State, reason, transition};
use polya_proto::v1::{self, worker_message};
use tokio::sync::mpsc;
use tonic::Status;

use crate::checkpoints::{self, StateFiles, StateJson};
use crate::config::Config;
use crate::evaluation::{self, Evaluation, Scores};
use crate::exit::ExitError;
use crate::journal::Journal;
use crate::launcher::{self, Exited, Launcher, LocalWorker};
use crate::outputs::progress::Progress;
use crate::outputs::statistics;
use crate::outputs::tensorboard::TensorBoard;
use crate::run_data::RunData;
use crate::service::Input;
use crate::store::Publisher;
use crate::wire::{self, Contents};

/// Crashes of one local worker without a commit in between, after which the run stops.
const CRASHES_MAX: u32 = 5;

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
    events: VecDeque<Event>,
    rows: Vec<statistics::Row>,
    crashes: BTreeMap<String, u32>,
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
            events: VecDeque::new(),
            rows: vec![],
            crashes: BTreeMap::new(),
            now_ms: 0,
            end: None,
        })
    }

    /// Drives the run to its end.
    pub async fn run(
        &mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut exits: mpsc::UnboundedReceiver<Exited>,
        mut stop: mpsc::Receiver<()>,
    ) -> Result<End, ExitError> {
        let period = Duration::from_millis((self.config.failure_detection_ms() / 4).max(25));
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
                Some(input) = inputs.recv() => self.input(input)?,
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

    fn input(&mut self, input: Input) -> Result<(), ExitError> {
        match input {
            Input::Connected(connection, outbox) => {
                self.outboxes.insert(connection, outbox);
            }
            Input::Said(connection, body) => self.said(connection, *body)?,
            Input::Disconnected(connection) => {
                self.outboxes.remove(&connection);
                self.workers.remove(&connection);
                self.handle(Event::Disconnected(connection))?;
            }
            Input::Uploaded { step, files } => self.uploaded(step, files)?,
            Input::Saved { step, result } => match result {
                Ok(manifest) => {
                    self.flush_statistics()?;
                    self.handle(Event::CheckpointWritten { step, manifest })?;
                    if let Some(publisher) = &self.publisher {
                        publisher.publish(Some(step));
                    }
                    checkpoints::prune(&self.run_dir, self.config.checkpoint.keep)?;
                }
                Err(error) => return Err(anyhow!(error).context("saving a checkpoint").into()),
            },
            Input::Wanted(step, reply) => {
                let files = checkpoints::read(&checkpoints::folder(&self.run_dir, step));
                // A worker that has gone meanwhile wants nothing any more.
                let _ = reply.send(files.map(|(_, _, files)| files).map_err(|error| error.to_string()));
            }
            Input::Superseded(epoch) => {
                let reason =
                    format!("another coordinator has claimed the run in the store (epoch {epoch}): it goes on there");
                self.end = Some(End::Stopped(reason));
            }
            Input::Asked(reply) => {
                let _ = reply.send(self.status());
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
        if let worker_message::Body::EvaluationDone(done) = &body
            && let (Some(evaluation), Some(result)) = (&mut self.evaluation, &done.result)
        {
            evaluation.take(done.unit, result.clone());
            let (name, done, units) = (purpose_name(evaluation.purpose), evaluation.done(), evaluation.units());
            self.progress.evaluating(name, done, units);
        }
        match wire::report(body) {
            Ok(report) => self.handle(Event::Said(connection, report)),
            Err(error) => {
                tracing::warn!(%error, "a message breaks the protocol; its sender is cut off");
                self.outboxes.remove(&connection);
                self.handle(Event::Disconnected(connection))
            }
        }
    }

    /// A checkpoint's state has come: it must be the committed one.
    fn uploaded(&mut self, step: u64, files: StateFiles) -> Result<(), ExitError> {
        let fold = polya_proto::state_digest(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
        let state = Digest(fold);
        if self.core.journal().state(step) != Some(state) {
            tracing::warn!(step, "an uploaded state is not the committed one; it is not written");
            return self.handle(Event::CheckpointLost { step });
        }
        let json = StateJson { step, state, epoch: self.core.journal().epoch() };
        let (run_dir, inputs) = (self.run_dir.clone(), self.inputs.clone());
        tokio::task::spawn_blocking(move || {
            let result = checkpoints::save(&run_dir, &json, &files);
            // The driver is gone only when the run is over.
            let _ = inputs.blocking_send(Input::Saved { step, result });
        });
        Ok(())
    }

    /// Applies an event and everything that follows from it.
    fn handle(&mut self, event: Event) -> Result<(), ExitError> {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            self.now_ms = self.now_ms.max(unix_ms());
            if let Event::Said(_, Report::Left(reason)) = &event {
                tracing::info!(reason, "a worker leaves on purpose");
            }
            for action in transition(&mut self.core, event, self.now_ms) {
                self.execute(action)?;
            }
        }
        Ok(())
    }

    fn execute(&mut self, action: Action) -> Result<(), ExitError> {
        match action {
            Action::Send(connection, order) => self.send(connection, order),
            Action::Close(connection, why) => {
                self.outboxes.remove(&connection);
                let silent = why.starts_with("silent");
                if let (true, Some(hello), Some(launcher)) = (silent, self.workers.get(&connection), &self.launcher) {
                    launcher.kill(&hello.worker); // it hangs; its exit brings a replacement
                }
                self.workers.remove(&connection);
            }
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
        self.crashes.clear();
        self.progress.committed(commit, self.workers.len());
        let setup = self.core.setup();
        let rows = statistics::rows(commit, setup.stage_weights, setup.learning_rate.at(commit.step), setup.scale_log2);
        let mut scalars = vec![];
        for (row, stage) in rows.iter().zip(["understand", "plan", "execute", "verify"]) {
            scalars.extend(row.loss.map(|loss| (format!("loss/{stage}"), loss)));
            scalars.extend(row.accuracy.map(|accuracy| (format!("accuracy/{stage}"), accuracy)));
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

    /// A local process ended: replace it, unless it says that nothing will help.
    fn exited(&mut self, exited: Exited) -> Result<(), ExitError> {
        let Exited { worker, status } = exited;
        let Some(launcher) = &mut self.launcher else { return Ok(()) };
        launcher.forget(&worker)?;
        tracing::warn!(worker = worker.id, pid = worker.pid, %status, "a local worker ended; it is replaced");
        let log = self.run_dir.join("logs").join(format!("worker-{}.log", worker.id));
        if let Some(code) = status.code()
            && [polya_proto::exit::USAGE, polya_proto::exit::REFUSED, polya_proto::exit::OTHER_CLASS].contains(&code)
        {
            let reason = format!("worker {} was refused (exit {code}): {}", worker.id, last_line(&log));
            self.end = Some(End::Stopped(reason));
            return Ok(());
        }
        let crashes = self.crashes.entry(worker.id.clone()).or_default();
        *crashes += 1;
        if *crashes > CRASHES_MAX {
            let reason = format!("worker {} ended {crashes} times without a step: {}", worker.id, last_line(&log));
            self.end = Some(End::Stopped(reason));
            return Ok(());
        }
        launcher.spawn(&worker.id)?;
        Ok(())
    }

    /// Workers of an earlier coordinator are no children: whether they live is looked up.
    fn watch_adopted(&mut self) -> Result<(), ExitError> {
        let Some(launcher) = &mut self.launcher else { return Ok(()) };
        let gone: Vec<LocalWorker> =
            launcher.workers().filter(|worker| !launcher::is_alive(worker.pid)).cloned().collect();
        for worker in gone {
            if launcher.is_child(&worker) {
                continue; // its exit is on its way
            }
            launcher.forget(&worker)?;
            launcher.spawn(&worker.id)?;
        }
        Ok(())
    }

    fn status(&self) -> v1::StatusReply {
        let why = reason::why(&self.core);
        let process =
            |worker: &str| self.workers.values().find(|hello| hello.worker == worker).map_or(0, |hello| hello.process);
        let workers = reason::workers(&self.core).into_iter().map(|worker| v1::WorkerStatus {
            process: process(&worker.worker),
            worker: worker.worker,
            incarnation: worker.incarnation,
            state: worker.state,
        });
        v1::StatusReply {
            step: self.core.journal().committed(),
            steps: self.core.setup().schedule.steps(),
            phase: why.phase,
            waiting_for: why.waiting_for,
            workers: workers.collect(),
            run_dir: self.run_dir.display().to_string(),
        }
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

/// The last line of a worker's log that says something.
fn last_line(path: &std::path::Path) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it left no message");
    format!("{line} (see {})", path.display())
}

impl Contents for Driver {
    fn epoch(&self) -> u64 {
        self.core.journal().epoch()
    }

    fn welcome(&self) -> v1::Welcome {
        let park_limit_ms = if self.launcher.is_some() { self.config.park_limit_ms() } else { 600_000 };
        welcome(&self.config, self.epoch(), park_limit_ms)
    }

    fn samples(&self, step: u64, microbatch: u32) -> Vec<v1::Sample> {
        let microbatches = self.core.setup().schedule.microbatches(step);
        let indices = microbatches.get(microbatch as usize).map(Vec::as_slice).unwrap_or_default();
        indices.iter().map(|index| self.data.samples[*index as usize].clone()).collect()
    }

    fn evaluate(&self, unit: u64) -> Option<v1::Evaluate> {
        let config = &self.config.evaluation;
        self.evaluation.as_ref()?.work(unit, config.max_tokens, config.batch)
    }
}

/// Welcome, with what of the configuration a worker needs.
pub(crate) fn welcome(config: &Config, coordinator_epoch: u64, park_limit_ms: u64) -> v1::Welcome {
    let base_path = match config.base.path.as_str() {
        "" => String::new(),
        path => std::fs::canonicalize(path).map_or(path.to_owned(), |path| path.display().to_string()),
    };
    let settings = v1::Settings {
        seed: config.run.seed,
        base_path,
        quantisation: config.quantisation.clone(),
        adapter_rank: config.adapter.rank,
        adapter_alpha: config.adapter.alpha,
        adapter_dropout: config.adapter.dropout,
        adapter_verification: config.adapter.verification,
        loss_mode: config.loss.mode.clone(),
        loss_transition: config.loss.transition,
        label_smoothing: config.loss.label_smoothing,
        threads: config.worker.threads,
        device: "cpu".to_owned(),
        beta1: config.optimizer.beta1,
        beta2: config.optimizer.beta2,
        epsilon: config.optimizer.epsilon,
        weight_decay: config.optimizer.weight_decay,
        clip_norm: config.optimizer.clip_norm,
        recompute: config.worker.recompute,
        failure_detection_ms: config.failure_detection_ms(),
    };
    v1::Welcome {
        coordinator_epoch,
        settings: Some(settings),
        heartbeat_ms: (config.failure_detection_ms() / 4).max(25),
        park_limit_ms,
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
