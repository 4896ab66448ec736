//! A coordinator's core in the hands of a test: one event at a time, every action in words.

use std::collections::{BTreeMap, BTreeSet};

use coordinator_core::event::{Class, Done, Group, Held, Hello, Owned, Ready};
use coordinator_core::plan::Plan;
use coordinator_core::plan::learning_rate::LearningRate;
use coordinator_core::plan::schedule::{Cut, Length, SampleSummary, Schedule};
use coordinator_core::statistics::Statistics;
use coordinator_core::{
    Action, Connection, Digest, End, Event, Order, Record, Report, Setup, State, invariants, transition,
};

/// Microbatches of a step; each holds one sample.
pub(crate) const K: u32 = 4;

/// Steps of [`K`] microbatches, without checkpoints and scores.
pub(crate) fn setup() -> Setup {
    let samples = (0..4 * K).map(|i| SampleSummary { id: format!("s{i}"), tokens: 8, learned: 4 }).collect();
    let cut = Cut { seed: 1, tokens_per_microbatch: 8, microbatches_per_step: K };
    let schedule = Schedule::new(samples, cut, Length::Epochs(1)).expect("the samples fit");
    let steps = schedule.steps();
    Setup {
        seed: 1,
        second_computation: 0,
        allow_mixed: false,
        schedule,
        learning_rate: LearningRate { peak: 1e-3, minimum: 0.0, warmup_steps: 0, steps },
        stage_weights: [0.25; 4],
        dynamic_weights: false,
        scale_log2: 0,
        checkpoint_every: 0,
        evaluation_every: 0,
        evaluate: false,
        holdout: false,
        min_workers: 1,
        failure_detection_ms: 2_000,
    }
}

/// S_t of the stories.
pub(crate) fn state(step: u64) -> Digest {
    Digest::of(&step.to_le_bytes())
}

fn held(step: u64) -> Held {
    Held { step, state: state(step) }
}

/// The digest of a microbatch, whoever computes it rightly.
pub(crate) fn digest(step: u64, microbatch: u32) -> u64 {
    1_000 * step + u64::from(microbatch)
}

/// The core and the clock.
pub(crate) struct Story {
    pub(crate) core: State,
    pub(crate) now_ms: u64,
    pub(crate) records: Vec<Record>,
    plans: BTreeMap<String, Plan>,
    tables: BTreeMap<String, Vec<Owned>>,
    names: BTreeMap<Connection, String>,
    appends: Vec<Record>,
    connections: u64,
}

impl Story {
    pub(crate) fn new(setup: Setup) -> Self {
        Self::after(setup, vec![])
    }

    /// A coordinator on a journal of these records and one more Epoch.
    pub(crate) fn after(setup: Setup, mut records: Vec<Record>) -> Self {
        let epoch = records.iter().filter(|record| matches!(record, Record::Epoch { .. })).count() as u64 + 1;
        records.push(Record::Epoch { epoch, time_ms: 0 });
        let core = State::new(setup, &records, BTreeSet::new(), BTreeSet::new());
        let mut story = Story {
            core,
            now_ms: 10_000,
            records,
            plans: BTreeMap::new(),
            tables: BTreeMap::new(),
            names: BTreeMap::new(),
            appends: vec![],
            connections: 0,
        };
        story.apply(Event::Tick);
        story
    }

    /// A journal of these workers' class and of step 1, and the coordinator that wrote it.
    pub(crate) fn with_step_one(setup: Setup, workers: &[&str]) -> Self {
        let mut story = Story::new(setup);
        story.join_all(workers);
        for k in 0..K {
            story.done(workers[k as usize % workers.len()], 1, k);
        }
        workers.iter().for_each(|worker| drop(story.ready(worker, 1)));
        story.durable();
        story
    }

    pub(crate) fn apply(&mut self, event: Event) -> Vec<String> {
        let actions = transition(&mut self.core, event, self.now_ms);
        assert_eq!(invariants::check(&self.core), Ok(()));
        actions.into_iter().filter_map(|action| self.words(action)).collect()
    }

    /// Time passes in beats, in which everybody but `silent` is heard.
    pub(crate) fn pass(&mut self, ms: u64, silent: &[&str]) -> Vec<String> {
        let (mut said, end) = (vec![], self.now_ms + ms);
        while self.now_ms < end {
            self.now_ms = end.min(self.now_ms + 500);
            let heard: Vec<Connection> =
                self.names.iter().filter(|(_, name)| !silent.contains(&name.as_str())).map(|(c, _)| *c).collect();
            for connection in heard {
                said.extend(self.apply(Event::Said(connection, Report::Heartbeat)));
            }
            said.extend(self.apply(Event::Tick));
        }
        said
    }

    /// The oldest record on its way is durable.
    pub(crate) fn durable(&mut self) -> Vec<String> {
        let record = self.appends.remove(0);
        self.records.push(record.clone());
        self.apply(Event::Appended(record))
    }

    pub(crate) fn class(name: &str) -> Class {
        Class { digest: Digest::of(name.as_bytes()), words: name.to_owned() }
    }

    /// A worker without anything says Hello.
    pub(crate) fn hello(&mut self, worker: &str) -> Vec<String> {
        self.hello_with(Hello { worker: worker.to_owned(), ..Hello::default() })
    }

    pub(crate) fn hello_with(&mut self, hello: Hello) -> Vec<String> {
        self.connections += 1;
        let connection = Connection(self.connections);
        self.names.insert(connection, hello.worker.clone());
        let incarnation = hello.incarnation.max(self.connections);
        let hello = Hello { peer_address: hello.worker.clone(), incarnation, ..hello };
        self.apply(Event::Said(connection, Report::Hello(Box::new(hello))))
    }

    /// A worker comes, is built, of the usual class, and holds S_0.
    pub(crate) fn join(&mut self, worker: &str) -> Vec<String> {
        self.hello(worker);
        let mut said = self.say(worker, Report::Class(Story::class("usual")));
        if self.appends.iter().any(|record| matches!(record, Record::Class { .. })) {
            said.extend(self.durable());
        }
        said.extend(self.idle(worker, 0));
        said
    }

    /// Several join before the run's class is durable, and begin step 1 together.
    pub(crate) fn join_all(&mut self, workers: &[&str]) -> Vec<String> {
        for worker in workers {
            self.hello(worker);
            self.say(worker, Report::Class(Story::class("usual")));
            self.idle(worker, 0);
        }
        self.durable()
    }

    /// What a worker holds when its stream breaks, or its coordinator.
    pub(crate) fn holding(&self, worker: &str, step: u64, kept: &[u32]) -> Hello {
        let plan = self.plans.get(worker);
        Hello {
            worker: worker.to_owned(),
            held: Some(held(step)),
            step: plan.map_or(0, |plan| plan.step),
            attempt: plan.map_or(0, |plan| plan.attempt),
            plan: plan.map(|plan| plan.hash),
            kept: kept
                .iter()
                .map(|&k| Done { attempt: plan.map_or(0, |plan| plan.attempt), ..done(step + 1, k) })
                .collect(),
            class: Some(Story::class("usual")),
            ..Hello::default()
        }
    }

    fn connection(&self, worker: &str) -> Connection {
        let found = self.names.iter().rfind(|(_, name)| name.as_str() == worker);
        *found.expect("the worker has said Hello").0
    }

    pub(crate) fn say(&mut self, worker: &str, report: Report) -> Vec<String> {
        self.apply(Event::Said(self.connection(worker), report))
    }

    pub(crate) fn idle(&mut self, worker: &str, step: u64) -> Vec<String> {
        self.say(worker, Report::Idle(held(step)))
    }

    pub(crate) fn done(&mut self, worker: &str, step: u64, microbatch: u32) -> Vec<String> {
        self.done_as(worker, done(step, microbatch))
    }

    /// Done, of the attempt that the worker was told.
    pub(crate) fn done_as(&mut self, worker: &str, done: Done) -> Vec<String> {
        let attempt = self.plans[worker].attempt;
        self.say(worker, Report::Done(Done { attempt, ..done }))
    }

    /// The worker's shadow, with the table that it was told.
    pub(crate) fn shadow(&self, worker: &str, step: u64) -> Ready {
        let table = self.tables[worker].clone();
        let sum = |rows: &mut dyn Iterator<Item = &Owned>| rows.fold(0u64, |sum, row| sum.wrapping_add(row.digest));
        Ready {
            step,
            attempt: self.plans[worker].attempt,
            sum_digest: (0..K).map(|k| digest(step, k)).sum(),
            state: state(step),
            gradient_norm_bits: 0,
            own_digest: sum(&mut table.iter().filter(|row| row.worker == worker)),
            table,
        }
    }

    pub(crate) fn ready(&mut self, worker: &str, step: u64) -> Vec<String> {
        let ready = self.shadow(worker, step);
        self.say(worker, Report::Ready(ready))
    }

    pub(crate) fn broken(&mut self, worker: &str, generation: u64) -> Vec<String> {
        let epoch = self.core.journal().epoch();
        self.say(worker, Report::Broken(Group { epoch, generation }))
    }

    pub(crate) fn cut(&mut self, worker: &str) -> Vec<String> {
        let connection = self.connection(worker);
        self.names.remove(&connection);
        self.apply(Event::Disconnected(connection))
    }

    fn words(&mut self, action: Action) -> Option<String> {
        Some(match action {
            Action::Send(connection, order) => {
                let worker = self.names[&connection].clone();
                let order = self.order(&worker, order);
                format!("{worker}: {order}")
            }
            Action::Append(record) => {
                self.appends.push(record.clone());
                match record {
                    Record::Class { words, .. } => format!("append class {words}"),
                    Record::Commit(commit) => format!("append commit {}/{}", commit.step, commit.attempt),
                    Record::Retry(retry) => {
                        format!("append retry {}/{} scale {}", retry.step, retry.attempt, retry.scale_log2)
                    }
                    other => format!("append {other:?}"),
                }
            }
            Action::Kill(connection, _) => format!("kill {}", self.names.remove(&connection)?),
            Action::Close(connection, _) => format!("close {}", self.names.remove(&connection)?),
            Action::Recruit => "recruit".to_owned(),
            Action::End(End::Stopped(reason)) => format!("stopped: {reason}"),
            Action::End(end) => format!("{end:?}"),
            Action::Note(_) => return None,
            other => format!("{other:?}"),
        })
    }

    fn order(&mut self, worker: &str, order: Order) -> String {
        match order {
            Order::Welcome => "welcome".to_owned(),
            Order::Load { step, .. } => format!("load {step}"),
            Order::Fetch { step, peer_address, .. } => format!("fetch {step} from {peer_address}"),
            Order::Plan { plan, .. } => {
                let words = format!("plan {}/{}", plan.step, plan.attempt);
                self.plans.insert(worker.to_owned(), plan);
                words
            }
            Order::Lease { microbatch, .. } => format!("lease {microbatch}"),
            Order::Keep { microbatch, .. } => format!("keep {microbatch}"),
            Order::Drop { microbatch, .. } => format!("drop {microbatch}"),
            Order::Reduce { group, world_size, table, .. } => {
                self.tables.insert(worker.to_owned(), table);
                format!("reduce in group {} of {world_size}", group.generation)
            }
            Order::Abort(group) => format!("abort {}", group.generation),
            Order::Commit { step, .. } => format!("commit {step}"),
            Order::Leave { exit_code, .. } => format!("leave {exit_code}"),
            Order::Refuse { reason, exit_code } => format!("refused {exit_code}: {reason}"),
            Order::Recheck => "recheck".to_owned(),
            Order::Fence { .. } => "fence".to_owned(),
            other => format!("{other:?}"),
        }
    }
}

/// A right result.
pub(crate) fn done(step: u64, microbatch: u32) -> Done {
    Done { step, attempt: 0, microbatch, digest: digest(step, microbatch), statistics: Statistics::default() }
}
