//! A fleet in memory around the pure core: workers whose arithmetic is an exact integer fold, a journal that may lose
//! what was not yet durable, and a scheduler that a list of random numbers drives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coordinator_core::event::{Class, Done, Group, Held, Hello, Owned, Ready};
use coordinator_core::plan::Plan;
use coordinator_core::plan::learning_rate::LearningRate;
use coordinator_core::plan::schedule::{Cut, Length, SampleSummary, Schedule};
use coordinator_core::statistics::{StageStatistics, Statistics, ZERO};
use coordinator_core::{
    Action, Connection, Digest, End, Event, Order, Record, Report, Setup, State, invariants, transition,
};

/// Constants of the simulated run.
pub(crate) fn setup() -> Setup {
    let samples = (0..23).map(|i| SampleSummary { id: format!("sample {i}"), tokens: 3 + i % 5, learned: 2 }).collect();
    let cut = Cut { seed: 9, tokens_per_microbatch: 12, microbatches_per_step: 3 };
    let schedule = Schedule::new(samples, cut, Length::Epochs(2)).expect("the simulated data can be cut");
    let steps = schedule.steps();
    Setup {
        seed: 9,
        second_computation: 4,
        allow_mixed: false,
        schedule,
        learning_rate: LearningRate { peak: 1e-3, minimum: 0.0, warmup_steps: 1, steps },
        stage_weights: [0.15, 0.35, 0.35, 0.15],
        dynamic_weights: true,
        scale_log2: 0,
        checkpoint_every: 3,
        evaluation_every: 0,
        evaluate: true,
        holdout: true,
        min_workers: 1,
        failure_detection_ms: 1_000,
    }
}

fn fold(parts: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    Digest(*hasher.finalize().as_bytes())
}

fn initial() -> Held {
    Held { step: 0, state: fold(&[b"initial"]) }
}

/// The class of all workers but those that a test makes otherwise.
fn class() -> Class {
    Class { digest: fold(&[b"class"]), words: "integers".to_owned() }
}

/// The integer that stands for a microbatch's gradient: a function of state, step and index alone, never of the attempt.
fn gradient(held: Held, plan: &Plan, microbatch: u32) -> u64 {
    let digest = fold(&[&held.state.0, &plan.step.to_le_bytes(), &microbatch.to_le_bytes()]);
    u64::from_le_bytes(digest.0[..8].try_into().expect("8 bytes"))
}

/// Each stage progresses at a pace of its own, so that dynamic weights move.
fn stage_statistics(step: u64, stage: i64) -> StageStatistics {
    let clean_loss = (1 << 24) / (1 + step as i64 * stage);
    StageStatistics { tokens: 9, clean_tokens: 7, clean_loss, ..StageStatistics::default() }
}

/// Tensor 0 has a gradient from the start, tensor 1 from the second step on, like B and A of an adapter.
fn magnitudes(step: u64) -> Vec<i32> {
    vec![-3 - (step % 3) as i32, if step == 1 { ZERO } else { -5 }]
}

#[derive(Debug, Clone, Default)]
struct Worker {
    name: String,
    incarnation: u64,
    connection: Option<Connection>,
    held: Option<Held>,
    plan: Option<Plan>,
    kept: BTreeMap<u32, Done>,
    computed: BTreeMap<u32, Done>,
    ready: Option<(Ready, Held)>,
    reducing: Option<(Group, Vec<Owned>)>,
    /// Its class is said once.
    is_built: bool,
    /// Its arithmetic is wrong.
    lies: bool,
}

impl Worker {
    fn hello(&self) -> Hello {
        let busy = self.plan.as_ref().filter(|_| self.held.is_some());
        Hello {
            worker: self.name.clone(),
            incarnation: self.incarnation,
            peer_address: self.name.clone(),
            held: self.held,
            step: busy.map_or(0, |plan| plan.step),
            attempt: busy.map_or(0, |plan| plan.attempt),
            plan: busy.map(|plan| plan.hash),
            kept: self.kept.values().cloned().collect(),
            ready: self.ready.as_ref().map(|(ready, _)| ready.clone()),
            class: self.is_built.then(class),
        }
    }

    fn is_of(&self, step: u64, attempt: u32) -> bool {
        self.plan.as_ref().is_some_and(|plan| (plan.step, plan.attempt) == (step, attempt))
    }

    fn clear(&mut self) {
        self.plan = None;
        self.kept.clear();
        self.computed.clear();
        self.ready = None;
        self.reducing = None;
    }
}

/// Everything there is.
pub(crate) struct World {
    /// The core under test.
    pub(crate) state: State,
    /// Durable records.
    pub(crate) records: Vec<Record>,
    /// How it ended, if it did.
    pub(crate) end: Option<End>,
    appends: VecDeque<Record>,
    events: VecDeque<Event>,
    workers: Vec<Worker>,
    orders: BTreeMap<Connection, VecDeque<Order>>,
    reports: BTreeMap<Connection, VecDeque<Report>>,
    checkpoints: BTreeMap<u64, Held>,
    evaluated: BTreeSet<(coordinator_core::Purpose, u64)>,
    evaluating: Option<(coordinator_core::Purpose, u64)>,
    connections: u64,
    now_ms: u64,
    /// Workers whose stream the coordinator has ended: they come again when time has passed.
    away: BTreeSet<String>,
    /// Workers that the core asked for.
    pub(crate) recruits: usize,
    setup: Setup,
}

impl World {
    /// A run without workers yet.
    pub(crate) fn new() -> Self {
        World::of(setup())
    }

    /// A run with other constants than `setup()`'s.
    pub(crate) fn of(setup: Setup) -> Self {
        let records = vec![Record::Epoch { epoch: 1, time_ms: 0 }];
        World {
            state: State::new(setup.clone(), &records, BTreeSet::new(), BTreeSet::new()),
            records,
            end: None,
            appends: VecDeque::new(),
            events: VecDeque::new(),
            workers: vec![],
            orders: BTreeMap::new(),
            reports: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            evaluated: BTreeSet::new(),
            evaluating: None,
            connections: 0,
            now_ms: 0,
            away: BTreeSet::new(),
            recruits: 0,
            setup,
        }
    }

    /// Workers with a process.
    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// A new process that joins.
    pub(crate) fn spawn(&mut self) {
        let name = format!("w{}", self.connections);
        self.workers.push(Worker { name, ..Worker::default() });
        self.connect(self.workers.len() - 1);
    }

    /// From now on the arithmetic of this worker is wrong.
    pub(crate) fn corrupt(&mut self, worker: usize) -> String {
        self.workers[worker].lies = true;
        self.workers[worker].name.clone()
    }

    /// A process dies with all it had.
    pub(crate) fn kill(&mut self, choice: u64) {
        if !self.workers.is_empty() {
            let worker = self.workers.remove(choice as usize % self.workers.len());
            worker.connection.into_iter().for_each(|connection| self.cut(connection));
        }
    }

    /// Somebody wants a worker to leave, unless it is the last.
    pub(crate) fn dismiss(&mut self, choice: u64) {
        if self.workers.len() > 1 {
            let name = self.workers[choice as usize % self.workers.len()].name.clone();
            self.apply(Event::Dismiss(name));
        }
    }

    /// A stream breaks; the process comes back with what it holds.
    pub(crate) fn disconnect(&mut self, choice: u64) {
        if self.workers.is_empty() {
            return;
        }
        let index = choice as usize % self.workers.len();
        if let Some(connection) = self.workers[index].connection.take() {
            self.cut(connection);
        }
        self.connect(index);
    }

    fn cut(&mut self, connection: Connection) {
        self.orders.remove(&connection);
        self.reports.remove(&connection);
        self.apply(Event::Disconnected(connection));
    }

    fn connect(&mut self, index: usize) {
        self.connections += 1;
        let connection = Connection(self.connections);
        self.workers[index].connection = Some(connection);
        self.workers[index].incarnation += 1;
        self.workers[index].reducing = None; // a broken reduction keeps the sum
        self.orders.insert(connection, VecDeque::new());
        self.reports.insert(connection, VecDeque::from([Report::Hello(Box::new(self.workers[index].hello()))]));
    }

    /// The coordinator dies: what was not durable may be lost; all streams end; it comes back on the journal.
    pub(crate) fn crash(&mut self, durable: u64) {
        if self.end.is_some() {
            return;
        }
        for _ in 0..durable as usize % (self.appends.len() + 1) {
            self.records.extend(self.appends.pop_front());
        }
        self.appends.clear();
        self.events.clear();
        self.orders.clear();
        self.reports.clear();
        self.evaluating = None;
        let epoch = self.state.journal().epoch() + 1;
        self.records.push(Record::Epoch { epoch, time_ms: self.now_ms });
        let whole = self.records.iter().filter_map(|record| match record {
            Record::Checkpoint { step, .. } => Some(*step),
            _ => None,
        });
        self.state = State::new(self.setup.clone(), &self.records, whole.collect(), self.evaluated.clone());
        (0..self.workers.len()).for_each(|index| self.connect(index));
    }

    /// One thing happens, whichever `choice` says. False if nothing can.
    pub(crate) fn step(&mut self, choice: u64) -> bool {
        let mut possible: Vec<(u8, Connection)> = vec![];
        if !self.appends.is_empty() {
            possible.push((0, Connection(0)));
        }
        if !self.events.is_empty() {
            possible.push((1, Connection(0)));
        }
        possible.extend(self.reports.iter().filter(|(_, queue)| !queue.is_empty()).map(|(c, _)| (2, *c)));
        possible.extend(self.orders.iter().filter(|(_, queue)| !queue.is_empty()).map(|(c, _)| (3, *c)));
        if possible.is_empty() {
            self.now_ms += 100;
            self.apply(Event::Tick);
            let away = std::mem::take(&mut self.away);
            for index in 0..self.workers.len() {
                if away.contains(&self.workers[index].name) {
                    self.connect(index);
                }
            }
            return !away.is_empty() || !self.orders.values().all(VecDeque::is_empty) || !self.appends.is_empty();
        }
        match possible[choice as usize % possible.len()] {
            (0, _) => {
                let record = self.appends.pop_front().expect("not empty");
                self.records.push(record.clone());
                self.apply(Event::Appended(record));
            }
            (1, _) => {
                let event = self.events.pop_front().expect("not empty");
                self.apply(event);
            }
            (2, connection) => {
                let report = self.reports.get_mut(&connection).and_then(VecDeque::pop_front).expect("not empty");
                self.apply(Event::Said(connection, report));
            }
            (_, connection) => {
                let order = self.orders.get_mut(&connection).and_then(VecDeque::pop_front).expect("not empty");
                self.obey(connection, order);
            }
        }
        true
    }

    /// Applies an event and executes the actions.
    pub(crate) fn apply(&mut self, event: Event) {
        if self.end.is_some() {
            return;
        }
        let actions = transition(&mut self.state, event, self.now_ms);
        assert_eq!(invariants::check(&self.state), Ok(()), "seed and history above");
        for action in actions {
            match action {
                Action::Send(connection, order) => {
                    self.orders.entry(connection).and_modify(|queue| queue.push_back(order));
                }
                Action::Recruit => self.recruits += 1,
                Action::Close(connection, _) | Action::Kill(connection, _) => {
                    self.orders.remove(&connection);
                    self.reports.remove(&connection);
                    if let Some(worker) = self.workers.iter_mut().find(|w| w.connection == Some(connection)) {
                        worker.connection = None;
                        self.away.insert(worker.name.clone());
                    }
                }
                Action::Append(record) => self.appends.push_back(record),
                Action::PlanEvaluation { purpose, step } => {
                    self.evaluating = Some((purpose, step));
                    self.events.push_back(Event::EvaluationPlanned { units: 3 });
                }
                Action::ScoreEvaluation => {
                    self.evaluated.extend(self.evaluating.take().map(|(purpose, step)| match purpose {
                        coordinator_core::Purpose::Base => (purpose, 0),
                        _ => (purpose, step),
                    }));
                    self.events.push_back(Event::EvaluationScored);
                }
                Action::DropEvaluation => self.evaluating = None,
                Action::Note(_) => {}
                Action::End(end) => self.end = Some(end),
            }
        }
    }

    fn say(&mut self, connection: Connection, report: Report) {
        self.reports.entry(connection).and_modify(|queue| queue.push_back(report));
    }

    fn obey(&mut self, connection: Connection, order: Order) {
        let Some(index) = self.workers.iter().position(|worker| worker.connection == Some(connection)) else { return };
        let worker = &mut self.workers[index];
        match order {
            Order::Load { step, .. } => {
                let held = if step == 0 { initial() } else { self.checkpoints[&step] };
                worker.clear();
                worker.held = Some(held);
                self.say(connection, Report::Idle(held));
            }
            Order::Fetch { step, state, peer_address } => {
                let source = self.workers.iter().find(|w| w.name == peer_address).and_then(|w| w.held);
                if source == Some(Held { step, state }) {
                    let worker = &mut self.workers[index];
                    worker.clear();
                    worker.held = source;
                    self.say(connection, Report::Idle(Held { step, state }));
                } else {
                    self.disconnect(index as u64); // the peer is gone or went on: come again
                }
            }
            Order::Plan { plan, .. } if worker.ready.is_some() && worker.is_of(plan.step, plan.attempt) => {
                self.disconnect(index as u64); // R4: it comes again with its READY
            }
            Order::Plan { plan, .. } => {
                worker.clear();
                worker.plan = Some(plan);
            }
            Order::Lease { step, attempt, microbatch } => self.compute(index, connection, step, attempt, microbatch),
            Order::Keep { step, attempt, .. } | Order::Drop { step, attempt, .. } if !worker.is_of(step, attempt) => {}
            Order::Keep { microbatch, .. } => {
                let done = worker.computed.remove(&microbatch).expect("only what was computed is kept");
                worker.kept.insert(microbatch, done);
            }
            Order::Drop { microbatch, .. } => drop(worker.computed.remove(&microbatch)),
            Order::Reduce { group, table, world_size, .. } => {
                worker.reducing = Some((group, table));
                self.reduce(group, world_size as usize);
            }
            Order::Abort(group) => {
                if worker.reducing.as_ref().is_some_and(|(mine, _)| *mine == group) {
                    worker.reducing = None;
                    self.say(connection, Report::Broken(group));
                }
            }
            Order::Commit { step, state } => {
                let (_, shadow) = worker.ready.take().expect("only a READY worker is told to flip");
                assert_eq!(shadow, Held { step, state }, "a worker flips to the committed state only");
                worker.clear();
                worker.held = Some(shadow);
                self.say(connection, Report::Idle(shadow));
            }
            Order::Save { step } => {
                let held = worker.held.expect("only a holder is told to save");
                assert_eq!(held.step, step);
                self.checkpoints.insert(step, held);
                let manifest = held.state;
                self.events.push_back(Event::CheckpointWritten { step, manifest });
            }
            Order::Recheck => {
                let held = worker.held.expect("only a READY worker is asked");
                self.say(connection, Report::Rechecked(held));
            }
            Order::Evaluate { unit } => self.say(connection, Report::EvaluationDone(unit)),
            Order::Fence { .. } => {
                if worker.ready.is_none() {
                    worker.clear();
                }
                worker.reducing = None;
                worker.kept.clear(); // a READY is a value and stays (R4)
                worker.computed.clear();
                worker.incarnation += 1;
                let hello = worker.hello();
                self.say(connection, Report::Hello(Box::new(hello)));
            }
            Order::Leave { .. } | Order::Refuse { .. } => {
                self.workers.remove(index);
                self.orders.remove(&connection);
            }
            Order::Welcome => {
                if !std::mem::replace(&mut worker.is_built, true) {
                    self.say(connection, Report::Class(class()));
                }
            }
        }
    }

    fn compute(&mut self, index: usize, connection: Connection, step: u64, attempt: u32, microbatch: u32) {
        let worker = &mut self.workers[index];
        let plan = worker.plan.as_ref().expect("a lease follows its plan");
        assert_eq!((plan.step, plan.attempt), (step, attempt));
        let held = worker.held.expect("a worker with a plan holds a state");
        assert_eq!(held.step + 1, step, "work begins from the state before the step");
        let indices = &self.setup.schedule.microbatches(step)[microbatch as usize];
        let statistics = Statistics {
            samples: indices.len() as u32,
            magnitudes: magnitudes(step),
            stages: [0, 1, 2, 3].map(|stage| stage_statistics(step, stage)),
            ..Statistics::default()
        };
        let done = Done {
            step,
            attempt,
            microbatch,
            digest: gradient(held, plan, microbatch) ^ u64::from(worker.lies),
            statistics,
        };
        worker.computed.insert(microbatch, done.clone());
        self.say(connection, Report::Done(done));
    }

    /// The reduction ends for all once every member has come; one that never comes leaves the others to an Abort.
    fn reduce(&mut self, group: Group, world_size: usize) {
        let members: Vec<usize> = (0..self.workers.len())
            .filter(|&i| self.workers[i].reducing.as_ref().is_some_and(|(mine, _)| *mine == group))
            .collect();
        if members.len() < world_size {
            return;
        }
        let sum =
            members.iter().flat_map(|&i| self.workers[i].kept.values()).fold(0u64, |sum, d| sum.wrapping_add(d.digest));
        for index in members {
            let worker = &mut self.workers[index];
            let (_, table) = worker.reducing.take().expect("a member reduces");
            let plan = worker.plan.clone().expect("a member has a plan");
            let held = worker.held.expect("a member holds a state");
            let rate = plan.learning_rate.to_bits().to_le_bytes();
            let next = Held { step: plan.step, state: fold(&[&held.state.0, &sum.to_le_bytes(), &rate]) };
            let ready = Ready {
                step: plan.step,
                attempt: plan.attempt,
                sum_digest: sum,
                state: next.state,
                gradient_norm_bits: 0,
                own_digest: worker.kept.values().fold(0, |sum, done| sum.wrapping_add(done.digest)),
                table,
            };
            worker.ready = Some((ready.clone(), next));
            let connection = worker.connection.expect("a member is connected");
            self.say(connection, Report::Ready(ready));
        }
    }

    /// S_t of every committed step.
    pub(crate) fn digests(&self) -> Vec<Digest> {
        let state = |record: &Record| match record {
            Record::Commit(commit) => Some(commit.state),
            _ => None,
        };
        self.records.iter().filter_map(state).collect()
    }
}
