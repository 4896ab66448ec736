//! Why the run is where it is, in words: `status`, the log and people ask.

use crate::event::Group;
use crate::membership::current;
use crate::second;
use crate::state::{Member, OpenStep, Phase, Progress, State};

/// What the run is doing and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What it does.
    pub phase: String,
    /// What it waits for; empty when it waits for nothing.
    pub waiting_for: String,
    /// Since when, on the clock of the events.
    pub since_ms: u64,
}

/// A connected worker in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerReason {
    /// Its id.
    pub worker: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// What it does.
    pub state: String,
    /// Microbatches of the open step that it owns.
    pub owned: u32,
    /// Microbatches it has made.
    pub microbatches: u64,
    /// What one takes it, in milliseconds; 0 until it has made one.
    pub pace_ms: u64,
    /// When it was last heard.
    pub heard_ms: u64,
}

/// What is waited for. Two equal ones are one wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Nothing,
    AnyWorker,
    Return,
    State,
    Workers(usize),
    Copy,
    Checkpoint(u64),
    Microbatches { step: u64, attempt: u32 },
    Comparison { step: u64, attempt: u32 },
    Arbiter { step: u64 },
    Reduction(Group),
    Recheck { step: u64 },
    Journal { step: u64 },
    Units,
}

/// Notes what is waited for now, and since when.
pub(crate) fn note_cause(state: &mut State, now_ms: u64) {
    let cause = cause(state, now_ms);
    if state.waiting.0 != cause {
        state.waiting = (cause, now_ms);
    }
}

fn cause(state: &State, now_ms: u64) -> Cause {
    match &state.phase {
        Phase::Boundary => between_steps(state, now_ms),
        Phase::Step(open) => match &open.progress {
            Progress::Leasing => leasing(open),
            Progress::Reducing { .. } if open.recheck.is_some() => Cause::Recheck { step: open.plan.step },
            Progress::Reducing { group, .. } => Cause::Reduction(*group),
            Progress::Appending => Cause::Journal { step: open.plan.step },
        },
        Phase::Evaluation(_) => Cause::Units,
        Phase::Ending => Cause::Journal { step: state.journal.committed() },
        Phase::Over => Cause::Nothing,
    }
}

fn leasing(open: &OpenStep) -> Cause {
    let (step, attempt) = (open.plan.step, open.plan.attempt);
    if second::awaits_arbiter(open) {
        Cause::Arbiter { step }
    } else if open.slots.iter().all(|slot| slot.owner.is_some()) {
        Cause::Comparison { step, attempt }
    } else {
        Cause::Microbatches { step, attempt }
    }
}

fn between_steps(state: &State, now_ms: u64) -> Cause {
    let Some(position) = crate::boundary::position(state) else {
        return if state.members.is_empty() { Cause::AnyWorker } else { Cause::State };
    };
    let present = current(state, position).len();
    if crate::boundary::awaits_return(state, now_ms) {
        Cause::Return
    } else if present < state.setup.min_workers {
        Cause::Workers(present)
    } else if let Some((step, _)) = state.saving {
        Cause::Checkpoint(step)
    } else {
        Cause::Copy
    }
}

/// Explains the present phase.
pub fn why(state: &State) -> Reason {
    let phase = match &state.phase {
        Phase::Boundary => "between two steps".to_owned(),
        Phase::Step(open) => {
            let verb = if open.replay { "replaying" } else { "making" };
            let (step, steps, attempt) = (open.plan.step, state.setup.schedule.steps(), open.plan.attempt);
            format!("{verb} step {step} of {steps}, attempt {attempt}")
        }
        Phase::Evaluation(evaluation) => format!("scoring ({:?}) at step {}", evaluation.purpose, evaluation.step),
        Phase::Ending => "writing the end of the journal".to_owned(),
        Phase::Over => "over".to_owned(),
    };
    Reason { phase, waiting_for: waiting_for(state), since_ms: state.waiting.1 }
}

fn waiting_for(state: &State) -> String {
    match state.waiting.0 {
        Cause::Nothing => String::new(),
        Cause::AnyWorker => "a worker, because none is connected".to_owned(),
        Cause::State => {
            let loading = state.members.values().filter(|member| member.loading.is_some()).count();
            format!("a worker with the run's state, because {loading} of {} are loading it", state.members.len())
        }
        Cause::Return => {
            let here = |worker: &&String| state.members.values().any(|member| member.worker == **worker);
            let missing: Vec<&str> =
                state.journal.last_workers.iter().filter(|worker| !here(worker)).map(String::as_str).collect();
            format!("{}, who worked for the coordinator before and may come back", missing.join(", "))
        }
        Cause::Workers(present) => {
            let wanted = state.setup.min_workers;
            format!("{} worker, because run.min_workers = {wanted}", ordinal(present + 1))
        }
        Cause::Checkpoint(step) => format!("the checkpoint of step {step}"),
        Cause::Copy => "a worker that copies the state from another".to_owned(),
        Cause::Microbatches { .. } => {
            let Phase::Step(open) = &state.phase else { return String::new() };
            let kept = open.slots.iter().filter(|slot| slot.owner.is_some()).count();
            format!("{} of {} microbatches", open.slots.len() - kept, open.slots.len())
        }
        Cause::Comparison { .. } => "the second computation of a microbatch, to compare".to_owned(),
        Cause::Arbiter { .. } => "a third worker, because two find different results for a microbatch".to_owned(),
        Cause::Recheck { .. } => "workers to fold their states again, because they made different ones".to_owned(),
        Cause::Reduction(_) => {
            let Phase::Step(open) = &state.phase else { return String::new() };
            let Progress::Reducing { members, broken, .. } = &open.progress else { return String::new() };
            let missing = members.len().saturating_sub(broken.len() + open.ready.len());
            format!("the reduction of {missing} of {} workers", members.len())
        }
        Cause::Journal { .. } => "the journal's disk".to_owned(),
        Cause::Units => {
            let Phase::Evaluation(evaluation) = &state.phase else { return String::new() };
            let left = evaluation.waiting.as_ref().map_or(0, |waiting| waiting.len()) + evaluation.leased.len();
            format!("{left} units of the evaluation")
        }
    }
}

fn ordinal(number: usize) -> String {
    match number {
        1 => "a first".to_owned(),
        2 => "a second".to_owned(),
        3 => "a third".to_owned(),
        number => format!("a {number}th"),
    }
}

/// What is not wrong, but worth a change.
pub fn warnings(state: &State) -> Vec<String> {
    idle_workers(state.members.len(), state.setup.schedule.microbatches_per_step()).into_iter().collect()
}

/// The words for more workers than microbatches.
pub fn idle_workers(workers: usize, microbatches: usize) -> Option<String> {
    (workers > microbatches).then(|| {
        format!(
            "{workers} workers share {microbatches} microbatches a step, so some are idle; take fewer workers, or begin a \
             run with batch.microbatches_per_step of 2 to 4 times the workers"
        )
    })
}

/// Explains each worker.
pub fn workers(state: &State) -> Vec<WorkerReason> {
    state
        .members
        .iter()
        .map(|(connection, member)| {
            let owned = match &state.phase {
                Phase::Step(open) => open.slots.iter().filter(|slot| slot.owner == Some(*connection)).count() as u32,
                _ => 0,
            };
            WorkerReason {
                worker: member.worker.clone(),
                incarnation: member.incarnation,
                state: words(state, member),
                owned,
                microbatches: member.microbatches,
                pace_ms: member.pace_ms.unwrap_or(0),
                heard_ms: member.heard_ms,
            }
        })
        .collect()
}

fn words(state: &State, member: &Member) -> String {
    let leaving = if member.dismissed { ", leaves after the step" } else { "" };
    let doing = match (member.fenced, member.loading, member.held) {
        (true, _, _) => "fenced, comes again".to_owned(),
        (_, Some(step), _) => format!("loading the state of step {step}"),
        (_, _, None) => "without a state".to_owned(),
        (_, _, Some(_)) if !state.is_admitted(member) => "its class of arithmetic is not known yet".to_owned(),
        (_, _, Some(held)) if !member.leases.is_empty() => {
            let leases: Vec<String> = member.leases.keys().map(u32::to_string).collect();
            format!("at step {}, computing microbatch {}", held.step, leases.join(", "))
        }
        (_, _, Some(held)) => match member.unit {
            Some(unit) if matches!(&state.phase, Phase::Evaluation(e) if e.leased.contains_key(&unit)) => {
                format!("at step {}, evaluating unit {unit}", held.step)
            }
            _ => format!("at step {}", held.step),
        },
    };
    format!("{doing}{leaving}")
}
