//! The coordinator's state: what the journal says (folded) and what lives now (volatile).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::action::Purpose;
use crate::digest::Digest;
use crate::event::{Class, Connection, Done, Group, Held, Ready};
use crate::fold::{Attempt, Journal};
use crate::limits::Limits;
use crate::plan::Plan;
use crate::plan::exponents;
use crate::plan::learning_rate::LearningRate;
use crate::plan::schedule::Schedule;
use crate::reason::Cause;
use crate::recheck::Recheck;
use crate::record::{CommittedMicrobatch, Record};
use crate::second::{self, Dispute};

/// Constants of a run.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The run's seed: it chooses what is computed twice.
    pub seed: u64,
    /// One microbatch in so many is computed by a second worker and compared; 0: none.
    pub second_computation: u32,
    /// Workers of another class of arithmetic are admitted and written down.
    pub allow_mixed: bool,
    /// Which samples a step holds.
    pub schedule: Schedule,
    /// Rate of a step.
    pub learning_rate: LearningRate,
    /// Weight of each stage in the loss, at the start or for all steps.
    pub stage_weights: [f32; 4],
    /// Whether the weights follow the stages' progress.
    pub dynamic_weights: bool,
    /// log2 of the loss scale at the start; 0 in fp32.
    pub scale_log2: i32,
    /// A checkpoint every so many steps; 0: at the end only.
    pub checkpoint_every: u64,
    /// Scores every so many steps; 0: before and after only.
    pub evaluation_every: u64,
    /// Whether scores are wanted at all.
    pub evaluate: bool,
    /// Whether there is a holdout to measure the loss on.
    pub holdout: bool,
    /// Fewer current workers than this: wait.
    pub min_workers: usize,
    /// A worker that is silent for longer is lost.
    pub failure_detection_ms: u64,
}

impl Setup {
    /// All time limits.
    pub fn limits(&self) -> Limits {
        Limits::derived_from(self.failure_detection_ms)
    }
}

/// A connected worker.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) worker: String,
    pub(crate) incarnation: u64,
    pub(crate) peer_address: String,
    /// What it said that it holds; set ahead when a Commit was sent, since orders are obeyed in order.
    pub(crate) held: Option<Held>,
    /// The last state it confirmed itself: only such a one is a source for others.
    pub(crate) confirmed: Option<Held>,
    pub(crate) loading: Option<u64>,
    pub(crate) loading_since_ms: u64,
    /// Whom it copies from, if it does.
    pub(crate) source: Option<Connection>,
    pub(crate) fenced: bool,
    /// Its class, once it said so.
    pub(crate) class: Option<Class>,
    /// It is to leave at the next boundary.
    pub(crate) dismissed: bool,
    /// Microbatches and when they were leased.
    pub(crate) leases: BTreeMap<u32, u64>,
    /// What a microbatch takes it, once it has made one.
    pub(crate) pace_ms: Option<u64>,
    /// When it was last done with one.
    pub(crate) finished_ms: u64,
    /// How many it has made.
    pub(crate) microbatches: u64,
    pub(crate) unit: Option<u64>,
    pub(crate) offer: Option<Offer>,
    pub(crate) heard_ms: u64,
}

/// Work that a worker brought along in its Hello.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) plan: Digest,
    pub(crate) kept: Vec<Done>,
}

/// One microbatch of the open step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot {
    pub(crate) leased: Option<Connection>,
    pub(crate) owner: Option<Connection>,
    pub(crate) part: Option<CommittedMicrobatch>,
    /// It is to be computed by a second worker too, where there is one.
    pub(crate) is_checked: bool,
    /// Who computes it for comparison.
    pub(crate) second: Option<Connection>,
    pub(crate) dispute: Option<Dispute>,
}

impl Slot {
    /// The slots of a step.
    pub(crate) fn of(setup: &Setup, plan: &Plan, replay: bool) -> Vec<Slot> {
        let chosen = |k| !replay && second::is_chosen(setup.seed, setup.second_computation, plan.step, k);
        (0..plan.microbatches).map(|k| Slot { is_checked: chosen(k), ..Slot::default() }).collect()
    }

    pub(crate) fn adopt(&mut self, owner: Connection, worker: String, done: Done) {
        self.leased = None;
        self.owner = Some(owner);
        let Done { digest, statistics, .. } = done;
        self.part = Some(CommittedMicrobatch { digest, worker, second: None, statistics });
    }

    /// Nobody has it any more. A dispute about it stays.
    pub(crate) fn free(&mut self) {
        self.leased = None;
        self.owner = None;
        self.part = None;
    }

    /// Whether it is done and waits for a second computation.
    pub(crate) fn wants_second(&self) -> bool {
        self.is_checked && self.part.as_ref().is_some_and(|part| part.second.is_none())
    }
}

/// How far the open step is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    Leasing,
    Reducing { group: Group, members: BTreeSet<Connection>, broken: BTreeSet<Connection> },
    Appending,
}

/// The open step.
#[derive(Debug, Clone)]
pub(crate) struct OpenStep {
    pub(crate) plan: Plan,
    pub(crate) replay: bool,
    pub(crate) participants: BTreeSet<Connection>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) ready: BTreeMap<Connection, Ready>,
    pub(crate) progress: Progress,
    /// The states after the step differ, and everybody is asked about the state before it.
    pub(crate) recheck: Option<Recheck>,
}

/// A running evaluation.
#[derive(Debug, Clone)]
pub(crate) struct Evaluation {
    pub(crate) purpose: Purpose,
    pub(crate) step: u64,
    /// Units not yet leased; none until the shell has planned.
    pub(crate) waiting: Option<BTreeSet<u64>>,
    pub(crate) leased: BTreeMap<u64, Connection>,
    pub(crate) scoring: bool,
}

/// What the run is at.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// Between two steps.
    Boundary,
    Step(Box<OpenStep>),
    Evaluation(Evaluation),
    /// The End record is on its way.
    Ending,
    Over,
}

/// Everything the core knows.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) setup: Arc<Setup>,
    pub(crate) journal: Journal,
    pub(crate) members: BTreeMap<Connection, Member>,
    pub(crate) phase: Phase,
    pub(crate) generation: u64,
    pub(crate) units: u64,
    pub(crate) initial: Option<Digest>,
    pub(crate) saving: Option<(u64, Connection)>,
    pub(crate) evaluated: BTreeSet<(Purpose, u64)>,
    pub(crate) draining: bool,
    /// Classes on their way to the journal.
    pub(crate) admitting: BTreeSet<Digest>,
    /// When the first event came.
    pub(crate) began_ms: Option<u64>,
    /// When the clock was last looked at.
    pub(crate) ticked_ms: Option<u64>,
    /// Whether this coordinator has opened a step.
    pub(crate) has_stepped: bool,
    /// What is waited for, and since when.
    pub(crate) waiting: (Cause, u64),
    /// The highest incarnation of each worker that was ever here: a Hello of it again is a repetition.
    pub(crate) incarnations: BTreeMap<String, u64>,
}

impl State {
    /// The state after a journal's records. `checkpoints` are the steps whose checkpoints the shell found whole;
    /// `evaluated` the scores that are on disk.
    pub fn new(
        setup: Setup,
        records: &[Record],
        checkpoints: BTreeSet<u64>,
        evaluated: BTreeSet<(Purpose, u64)>,
    ) -> Self {
        let mut journal = Journal::new(setup.scale_log2);
        records.iter().for_each(|record| journal.fold(&setup, record));
        journal.retain_checkpoints(|step| checkpoints.contains(&step));
        State::of_journal(setup, journal, evaluated)
    }

    /// The state after a folded journal, which names only checkpoints that are whole.
    pub fn of_journal(setup: Setup, journal: Journal, evaluated: BTreeSet<(Purpose, u64)>) -> Self {
        State {
            setup: Arc::new(setup),
            journal,
            members: BTreeMap::new(),
            phase: Phase::Boundary,
            generation: 0,
            units: 0,
            initial: None,
            saving: None,
            evaluated,
            draining: false,
            admitting: BTreeSet::new(),
            began_ms: None,
            ticked_ms: None,
            has_stepped: false,
            waiting: (Cause::Nothing, 0),
            incarnations: BTreeMap::new(),
        }
    }

    /// What the journal says.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The run's constants.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Whether a worker's class of arithmetic is written down.
    pub(crate) fn is_admitted(&self, member: &Member) -> bool {
        let known = |class: &Class| self.journal.classes.iter().any(|known| known.digest == class.digest);
        member.class.as_ref().is_some_and(known)
    }

    /// Applies a durable record.
    pub(crate) fn fold(&mut self, record: &Record) {
        self.journal.fold(&self.setup, record);
    }

    /// The plan of a step, with the recorded attempt if it is committed.
    pub(crate) fn plan(&self, step: u64) -> Plan {
        self.journal.plan(&self.setup, step)
    }
}

pub(crate) fn plan_of(setup: &Setup, step: u64, attempt: Attempt, stage_weights: [f32; 4]) -> Plan {
    let microbatches = setup.schedule.microbatches(step);
    let samples = setup.schedule.samples();
    let all = || microbatches.iter().flatten().map(|&index| &samples[index as usize]);
    let plan = Plan {
        step,
        attempt: attempt.number,
        learning_rate: setup.learning_rate.at(step),
        scale_log2: attempt.scale_log2,
        exponents: attempt.exponents,
        stage_weights,
        samples: all().count() as u32,
        learned_tokens: all().map(|sample| u64::from(sample.learned)).sum(),
        microbatches: microbatches.len() as u32,
        bits: exponents::bits(microbatches.len() as u32),
        hash: Digest([0; 32]),
    };
    let ids = (0u32..)
        .zip(microbatches)
        .flat_map(|(k, indices)| indices.iter().map(move |&index| (k, samples[index as usize].id.as_str())));
    plan.sealed(ids)
}
