//! What a worker does about each thing that happens, without a clock, a socket or a tensor.
//!
//! States: IDLE(s) -> WORK(t, a, sum) -> REDUCING(G) -> READY(t, a, D, S_t) -> IDLE(t). The rules R1 to R8 are those of
//! docs/architecture.md, "The commit"; each is cited where it is kept. The state here is the one after all jobs that were
//! handed to the trainer: they run in order, and one that fails (a broken all-reduce aside) ends the process.

use polya_proto::exit;
use polya_proto::v1::coordinator_message::Body as Order;
use polya_proto::v1::worker_message::Body as Message;
use polya_proto::v1::{Class, Evaluate, Failed, Fence, Fetch, Group, Hello, Idle, Load, Save, Settings, Welcome};

use crate::Outcome;
use crate::job::{Job, Report};
use crate::trainer::{StateDigest, StateFiles, TrainerError};

#[cfg(test)]
mod tests;
mod work;

use work::{Computing, Phase};

/// What to do now, in order.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Tell the coordinator. Lost if there is no stream: the next Hello says it all.
    Send(Message),
    /// Hand to the trainer's thread.
    Job(Job),
    /// Call the trainer's abort handle, past the queue.
    Abort(Group),
    /// Get a state, then call [`Machine::downloaded`] with the ticket.
    Download { ticket: u64, step: u64, source: Source },
    /// Send a state to the coordinator.
    Upload { step: u64, files: StateFiles },
    /// End this stream and come again with a Hello.
    Reconnect { reason: String },
    /// End the process.
    Exit(Outcome),
}

/// Where a state comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// A checkpoint, through the coordinator.
    Coordinator,
    /// Another worker.
    Peer(String),
}

/// Who the worker is, for every Hello.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    pub(crate) worker: String,
    pub(crate) incarnation: u64,
    pub(crate) process: u32,
    pub(crate) host: String,
    pub(crate) peer_address: String,
    pub(crate) software: String,
    pub(crate) device: String,
}

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) identity: Identity,
    settings: Option<Settings>,
    /// Once the trainer is built.
    class: Option<Class>,
    /// R6: the highest coordinator epoch seen, and the last group within it.
    epoch: u64,
    generation: u64,
    held: Option<Idle>,
    phase: Phase,
    computing: Option<Computing>,
    /// The order that a running download belongs to, and the digest it should have.
    fetching: Option<(u64, u64, Vec<u8>, Source)>,
    session: u64,
    counter: u64,
}

impl Machine {
    pub(crate) fn new(identity: Identity) -> Machine {
        Machine {
            identity,
            settings: None,
            class: None,
            epoch: 0,
            generation: 0,
            held: None,
            phase: Phase::Idle,
            computing: None,
            fetching: None,
            session: 0,
            counter: 0,
        }
    }

    /// Whether a Hello now would say what the worker holds. Not in an all-reduce: it may become READY any moment.
    pub(crate) fn is_presentable(&self) -> bool {
        !matches!(self.phase, Phase::Reducing(..))
    }

    /// Whether the coordinator has accepted this process at least once.
    pub(crate) fn is_member(&self) -> bool {
        self.settings.is_some()
    }

    /// What the worker is and holds (R4, R8).
    pub(crate) fn hello(&self) -> Hello {
        let identity = &self.identity;
        let mut hello = Hello {
            protocol_version: polya_proto::PROTOCOL_VERSION,
            worker: identity.worker.clone(),
            incarnation: identity.incarnation,
            process: identity.process,
            host: identity.host.clone(),
            peer_address: identity.peer_address.clone(),
            software: identity.software.clone(),
            device: identity.device.clone(),
            idle: self.held.clone(),
            class: self.class.clone(),
            ..Hello::default()
        };
        if let Phase::Work(work) | Phase::Ready(work, _) = &self.phase {
            hello.step = work.plan.step;
            hello.attempt = work.plan.attempt;
            hello.plan_hash = work.plan.hash.clone();
            hello.kept = work.kept.values().cloned().collect();
        }
        if let Phase::Ready(_, ready) = &self.phase {
            hello.ready = Some(ready.clone());
        }
        hello
    }

    /// The stream is gone: leases and unkept results are void, sum and READY stay (R4, R8).
    pub(crate) fn link_lost(&mut self) -> Vec<Effect> {
        self.session += 1;
        self.identity.incarnation += 1;
        self.fetching = None;
        if let Some(computing) = &mut self.computing {
            computing.void = true;
        }
        let (Phase::Work(work) | Phase::Ready(work, _)) = &mut self.phase else { return vec![] };
        work.leases.clear();
        std::mem::take(&mut work.done).into_keys().map(|microbatch| Effect::Job(Job::Discard { microbatch })).collect()
    }

    /// An order of the coordinator.
    pub(crate) fn order(&mut self, order: Order) -> Vec<Effect> {
        let result = match order {
            Order::Welcome(welcome) => self.welcome(welcome),
            Order::Refuse(refuse) => Ok(vec![leave(refuse.exit_code, format!("refused: {}", refuse.reason))]),
            Order::Leave(order) => Ok(vec![leave(order.exit_code, order.reason)]),
            Order::Load(load) => Ok(self.load(load)),
            Order::Fetch(fetch) => self.fetch(fetch),
            Order::Plan(plan) => self.plan(plan),
            Order::Lease(lease) => self.lease(lease),
            Order::Keep(keep) => self.keep(&keep),
            Order::Drop(drop) => Ok(self.drop(&drop)),
            Order::Reduce(reduce) => self.reduce(reduce),
            Order::Abort(abort) => Ok(abort.group.map(Effect::Abort).into_iter().collect()),
            Order::Commit(commit) => self.commit(&commit),
            Order::Save(save) => self.save(&save),
            Order::Evaluate(evaluate) => self.evaluate(evaluate),
            Order::Recheck(_) => self.recheck(),
            Order::Fence(fence) => Ok(self.fence(fence)),
        };
        // An order that cannot be meant for what this worker holds: tell the coordinator what that is.
        result.unwrap_or_else(|reason| vec![Effect::Reconnect { reason }])
    }

    fn welcome(&mut self, welcome: Welcome) -> Result<Vec<Effect>, String> {
        if welcome.coordinator_epoch < self.epoch {
            let (known, this) = (self.epoch, welcome.coordinator_epoch);
            return Err(format!("this coordinator is of epoch {this}, the run has seen {known}")); // R6
        }
        if welcome.coordinator_epoch > self.epoch {
            self.epoch = welcome.coordinator_epoch;
            self.generation = 0;
        }
        let Some(settings) = welcome.settings else { return Err("a Welcome without settings".to_owned()) };
        match &self.settings {
            None => {
                self.settings = Some(settings.clone());
                Ok(vec![Effect::Job(Job::Build(Box::new(settings)))])
            }
            Some(known) if same_model(known, &settings) => Ok(vec![]),
            Some(_) => {
                let reason = "the run's settings are not those this process was built for".to_owned();
                Ok(vec![leave(exit::LEFT, reason)])
            }
        }
    }

    fn load(&mut self, load: Load) -> Vec<Effect> {
        if load.step > 0 {
            return self.download(load.step, load.state_digest, Source::Coordinator);
        }
        let mut effects = self.drop_work();
        self.fetching = None;
        self.held = None;
        effects.push(Effect::Job(Job::Initial));
        effects
    }

    fn fetch(&mut self, fetch: Fetch) -> Result<Vec<Effect>, String> {
        match &self.phase {
            Phase::Ready(work, _) if fetch.step < work.plan.step => {
                Err(format!("told to fetch step {} while READY({})", fetch.step, work.plan.step)) // R4
            }
            _ => Ok(self.download(fetch.step, fetch.state_digest, Source::Peer(fetch.peer_address))),
        }
    }

    /// What is held, READY included, stays until the new state is here.
    fn download(&mut self, step: u64, expected: Vec<u8>, source: Source) -> Vec<Effect> {
        let ticket = self.count();
        self.fetching = Some((ticket, step, expected, source.clone()));
        vec![Effect::Download { ticket, step, source }]
    }

    /// A download is over.
    pub(crate) fn downloaded(&mut self, ticket: u64, result: Result<StateFiles, String>) -> Vec<Effect> {
        let Some((_, step, expected, source)) = self.fetching.take_if(|(current, ..)| *current == ticket) else {
            return vec![]; // of a stream that is gone
        };
        match result {
            Ok(files) => {
                let mut effects = self.drop_work();
                self.held = None;
                effects.push(Effect::Job(Job::Load { step, files, expected, source: source.name() }));
                effects
            }
            Err(reason) => {
                let reason = format!("no state of step {step} from {}: {reason}", source.name());
                vec![Effect::Reconnect { reason }]
            }
        }
    }

    fn recheck(&self) -> Result<Vec<Effect>, String> {
        let held = self.held.as_ref().ok_or("told to fold a state again, there is none".to_owned())?;
        Ok(vec![Effect::Job(Job::Recheck { step: held.step })])
    }

    fn save(&mut self, save: &Save) -> Result<Vec<Effect>, String> {
        if self.held.as_ref().map(|held| held.step) != Some(save.step) {
            return Err(format!("told to save step {}, the state here is {}", save.step, self.describe_held()));
        }
        Ok(vec![Effect::Job(Job::Save { step: save.step, session: self.session })])
    }

    fn evaluate(&mut self, evaluate: Evaluate) -> Result<Vec<Effect>, String> {
        let Some(held) = &self.held else { return Err("told to evaluate without a state".to_owned()) };
        if evaluate.adapters && held.step != evaluate.step {
            let step = evaluate.step;
            return Err(format!("told to evaluate step {step}, the state here is {}", self.describe_held()));
        }
        Ok(vec![Effect::Job(Job::Evaluate { evaluate, session: self.session })])
    }

    /// The sum goes, the model stays. READY is a value and stays too (R4).
    fn fence(&mut self, fence: Fence) -> Vec<Effect> {
        self.identity.incarnation = self.identity.incarnation.max(fence.incarnation);
        let mut effects = Vec::new();
        if let Phase::Ready(work, _) = &mut self.phase {
            work.kept.clear();
        } else {
            effects.extend(self.drop_work());
            // Before the first Welcome there is nothing to clear, and no trainer that could.
            effects.extend(self.is_member().then_some(Effect::Job(Job::Clear)));
        }
        effects.push(Effect::Reconnect { reason: format!("fenced: {}", fence.reason) });
        effects
    }

    /// The trainer has done a job.
    pub(crate) fn trained(&mut self, report: Report) -> Vec<Effect> {
        match report {
            Report::Built(_, class) => {
                self.class = Some(class.clone());
                vec![Effect::Send(Message::Class(class))]
            }
            Report::Quiet => vec![],
            Report::Loaded { step, digest, expected, source } => self.loaded(step, digest, &expected, &source),
            Report::Computed { work, done } => self.computed(work, done),
            Report::Reduced { group, result } => self.reduced(group, result),
            Report::Rechecked(found) => vec![Effect::Send(Message::Rechecked(found))],
            Report::Flipped(now) => vec![Effect::Send(Message::Idle(now))],
            Report::Saved { step, session, files } if session == self.session => vec![Effect::Upload { step, files }],
            Report::Evaluated { done, session } if session == self.session => {
                vec![Effect::Send(Message::EvaluationDone(done))]
            }
            Report::Saved { .. } | Report::Evaluated { .. } => vec![], // of a stream that is gone
            Report::Failed { during: "flip", error } => vec![crash(format!("flip: {error}"))], // R5
            Report::Failed { during, error: error @ TrainerError::Refused(_) } => {
                give_up(exit::REFUSED, format!("{during}: {error}"))
            }
            // Out of memory, a bug that only this process meets: the others go on, as after any other death.
            Report::Failed { during, error } => vec![crash(format!("{during}: {error}"))],
            Report::Panicked(message) => vec![leave(PANICKED, format!("the trainer panicked: {message}"))],
        }
    }

    fn loaded(&mut self, step: u64, digest: StateDigest, expected: &[u8], source: &str) -> Vec<Effect> {
        if !expected.is_empty() && expected != digest {
            let error = TrainerError::WrongState { step, actual: hex(&digest), expected: hex(expected) };
            return vec![crash(format!("{error} (from {source})"))];
        }
        let now = Idle { step, state_digest: digest.to_vec() };
        self.held = Some(now.clone());
        vec![Effect::Send(Message::Idle(now))]
    }

    /// Whether the committed state of a step can be given to a peer.
    pub(crate) fn may_serve(&self, step: u64) -> Result<(), String> {
        match &self.held {
            Some(held) if held.step == step => Ok(()),
            _ => Err(format!("the state here is {}, not of step {step}", self.describe_held())),
        }
    }

    fn describe_held(&self) -> String {
        self.held.as_ref().map_or("none".to_owned(), |held| format!("of step {}", held.step))
    }

    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }
}

impl Source {
    fn name(&self) -> String {
        match self {
            Source::Coordinator => "the coordinator".to_owned(),
            Source::Peer(address) => format!("the worker at {address}"),
        }
    }
}

/// Exit code of a worker whose trainer cannot go on.
const FAILED: i32 = 1;
/// What Rust itself exits with after a panic.
const PANICKED: i32 = 101;

/// Whether a trainer built for one serves the other: time limits may differ.
fn same_model(known: &Settings, new: &Settings) -> bool {
    let Settings { failure_detection_ms, collective_limit_ms, .. } = *known;
    Settings { failure_detection_ms, collective_limit_ms, ..new.clone() } == *known
}

fn leave(exit_code: i32, reason: String) -> Effect {
    Effect::Exit(Outcome { exit_code, reason })
}

/// Ends this process only: the others can go on.
fn crash(reason: String) -> Effect {
    leave(FAILED, reason)
}

/// Ends the process and says so: another worker would end the same way.
fn give_up(exit_code: i32, reason: String) -> Vec<Effect> {
    vec![Effect::Send(Message::Failed(Failed { culprit: reason.clone() })), leave(exit_code, reason)]
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
