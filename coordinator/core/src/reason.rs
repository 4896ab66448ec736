//! Why the run is where it is, in words: `status`, the log and people ask.

use crate::membership::current;
use crate::state::{Member, Phase, Progress, State};

/// What the run is doing and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What it does.
    pub phase: String,
    /// What it waits for; empty when it waits for nothing but arithmetic.
    pub waiting_for: String,
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
}

/// Explains the present phase.
pub fn why(state: &State) -> Reason {
    let (phase, waiting_for) = match &state.phase {
        Phase::Boundary => ("between two steps".to_owned(), boundary(state)),
        Phase::Step(open) => {
            let verb = if open.replay { "replaying" } else { "making" };
            let phase = format!(
                "{verb} step {} of {}, attempt {}",
                open.plan.step,
                state.setup.schedule.steps(),
                open.plan.attempt
            );
            let waiting = match &open.progress {
                Progress::Leasing => {
                    let kept = open.slots.iter().filter(|slot| slot.owner.is_some()).count();
                    format!("{} of {} microbatches", open.slots.len() - kept, open.slots.len())
                }
                Progress::Reducing { members, broken, .. } => {
                    let missing = members.len() - broken.len() - open.ready.len();
                    format!("the reduction of {missing} of {} workers", members.len())
                }
                Progress::Appending => "the journal's disk".to_owned(),
            };
            (phase, waiting)
        }
        Phase::Evaluation(evaluation) => {
            let left = evaluation.waiting.as_ref().map_or(0, |waiting| waiting.len()) + evaluation.leased.len();
            (format!("scoring ({:?}) at step {}", evaluation.purpose, evaluation.step), format!("{left} units"))
        }
        Phase::Ending => ("writing the end of the journal".to_owned(), "the journal's disk".to_owned()),
        Phase::Over => ("over".to_owned(), String::new()),
    };
    Reason { phase, waiting_for }
}

fn boundary(state: &State) -> String {
    let Some(position) = crate::boundary::position(state) else {
        let loading = state.members.values().filter(|member| member.loading.is_some()).count();
        return match (state.members.len(), loading) {
            (0, _) => "a worker: none is connected".to_owned(),
            (all, loading) => format!("a worker with the run's state: {loading} of {all} are loading"),
        };
    };
    let (present, wanted) = (current(state, position).len(), state.setup.min_workers);
    if present < wanted {
        return format!("{} more workers, because run.min_workers = {wanted}", wanted - present);
    }
    if let Some((step, _)) = state.saving {
        return format!("the checkpoint of step {step}");
    }
    "a worker that copies the state".to_owned()
}

/// Explains each worker.
pub fn workers(state: &State) -> Vec<WorkerReason> {
    let words = |member: &Member| match (member.fenced, member.loading, member.held) {
        (true, _, _) => "fenced, comes again".to_owned(),
        (_, Some(step), _) => format!("loading the state of step {step}"),
        (_, _, Some(held)) if !member.leases.is_empty() => {
            format!("at step {}, {} leases", held.step, member.leases.len())
        }
        (_, _, Some(held)) => format!("at step {}", held.step),
        (_, _, None) => "without a state".to_owned(),
    };
    let describe = |member: &Member| WorkerReason {
        worker: member.worker.clone(),
        incarnation: member.incarnation,
        state: words(member),
    };
    state.members.values().map(describe).collect()
}
