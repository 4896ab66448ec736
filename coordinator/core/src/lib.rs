//! The coordinator's pure core: `transition(state, event, now) -> actions`.
//!
//! No clock, no socket, no disk, no randomness: time is an argument, every effect an [`Action`], everything that can go
//! wrong an [`Event`]. One step, in reading order: `boundary` plans it, `step` leases its microbatches, keeps the
//! first result of each, orders the reduction, and appends the Commit once every live worker agrees. The numbered
//! invariants of docs/architecture.md are checked before every append, in debug builds and tests after every event
//! ([`invariants`]).

pub mod action;
pub mod audit;
mod boundary;
mod class;
pub mod digest;
mod evaluation;
pub mod event;
mod fold;
pub mod invariants;
mod lease;
pub mod limits;
mod membership;
pub mod plan;
pub mod reason;
mod recheck;
pub mod record;
mod second;
pub mod state;
pub mod statistics;
mod step;

pub use action::{Action, End, Order, Purpose};
pub use digest::Digest;
pub use event::{Class, Connection, Event, Report};
pub use fold::Journal;
pub use record::Record;
pub use state::{Setup, State};

use state::Phase;

/// Exit codes of a worker that the core decides on (polya.v1 has the same).
pub mod exit {
    /// The run is finished.
    pub const FINISHED: i32 = 0;
    /// Dismissed or drained.
    pub const LEFT: i32 = 75;
    /// Its arithmetic differs from the run's.
    pub const OTHER_CLASS: i32 = 76;
    /// Refused for good.
    pub const REFUSED: i32 = 78;
}

/// Applies one event and says what to do about it, in order. `now_ms` only grows.
pub fn transition(state: &mut State, event: Event, now_ms: u64) -> Vec<Action> {
    transition_all(state, [event], now_ms)
}

/// The same with events that have come together: what is due is decided once, after the last of them.
pub fn transition_all(state: &mut State, events: impl IntoIterator<Item = Event>, now_ms: u64) -> Vec<Action> {
    let mut actions = Vec::new();
    state.began_ms.get_or_insert(now_ms);
    for event in events {
        if matches!(state.phase, Phase::Over) {
            return actions;
        }
        apply(state, event, now_ms, &mut actions);
    }
    proceed(state, now_ms, &mut actions);
    reason::note_cause(state, now_ms);
    let is_append = |action: &Action| matches!(action, Action::Append(_));
    if (cfg!(debug_assertions) || actions.iter().any(is_append))
        && let Err(broken) = invariants::check(state)
    {
        actions.retain(|action| !is_append(action)); // nothing wrong becomes durable
        stop(state, format!("invariant broken: {broken}"), &mut actions);
    }
    actions
}

fn apply(state: &mut State, event: Event, now_ms: u64, actions: &mut Vec<Action>) {
    match event {
        Event::Said(connection, report) => said(state, connection, report, now_ms, actions),
        Event::Disconnected(connection) => membership::lost(state, connection, "its stream ended", actions),
        Event::Appended(record) => appended(state, &record, actions),
        Event::CheckpointWritten { step, manifest } => {
            actions.push(Action::Append(Record::Checkpoint { step, manifest }));
        }
        Event::CheckpointLost { step } => {
            state.saving = None;
            actions.push(Action::Note(format!("checkpoint of step {step} was not completed; it is saved again later")));
        }
        Event::CheckpointWrong { step, worker, state: sent } => {
            let what = format!("step {step}: state {sent}, sent for the checkpoint, is not the committed one");
            membership::disagreement(state, &what, &[worker], actions);
        }
        Event::EvaluationPlanned { units } => evaluation::planned(state, units, actions),
        Event::EvaluationScored => evaluation::scored(state),
        Event::Drain => {
            state.draining = true;
            evaluation::give_up(state, actions);
        }
        Event::Dismiss(worker) => {
            state.members.values_mut().filter(|m| m.worker == worker).for_each(|member| member.dismissed = true);
        }
        Event::Tick => membership::tick(state, now_ms, actions),
    }
}

fn said(state: &mut State, connection: Connection, report: Report, now_ms: u64, actions: &mut Vec<Action>) {
    if let Report::Hello(hello) = report {
        return membership::hello(state, connection, *hello, now_ms, actions);
    }
    let Some(member) = state.members.get_mut(&connection) else {
        return; // I6: who has not been welcomed, or is lost, influences nothing
    };
    member.heard_ms = now_ms;
    match report {
        Report::Hello(_) | Report::Heartbeat => {}
        Report::Class(class) => class::presented(state, connection, class, actions),
        Report::Idle(held) => membership::idle(state, connection, held, actions),
        Report::Done(done) => lease::done(state, connection, done, now_ms, actions),
        Report::Broken(group) => step::broken(state, connection, group, actions),
        Report::Rechecked(held) => recheck::answered(state, connection, held),
        Report::Ready(ready) => step::ready(state, connection, ready),
        Report::EvaluationDone(unit) => evaluation::unit_done(state, connection, unit),
        Report::Left(reason) => {
            membership::lost(state, connection, &format!("it left on purpose ({reason})"), actions);
        }
        Report::Failed(culprit) => {
            let worker = state.members.get(&connection).map(|member| member.worker.clone()).unwrap_or_default();
            stop(state, format!("worker {worker} cannot go on: {culprit}"), actions);
        }
    }
}

fn appended(state: &mut State, record: &Record, actions: &mut Vec<Action>) {
    state.fold(record);
    match record {
        Record::Commit(commit) => step::committed(state, commit.step, commit.state, actions),
        Record::Retry(_) => state.phase = Phase::Boundary,
        Record::End { .. } => {
            dismiss_all(state, "the run is finished", exit::FINISHED, actions);
            state.phase = Phase::Over;
            actions.push(Action::End(End::Finished));
        }
        Record::Checkpoint { .. } => state.saving = None,
        Record::Class { digest, .. } => {
            state.admitting.remove(digest);
            class::admitted(state, actions);
        }
        Record::Open { .. } | Record::Epoch { .. } => {}
    }
}

/// Takes every decision that is due. Phases may follow one another at once, so it goes on until nothing changes.
fn proceed(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    loop {
        let before = actions.len();
        match state.phase {
            Phase::Boundary => boundary::proceed(state, now_ms, actions),
            Phase::Step(_) => step::proceed(state, now_ms, actions),
            Phase::Evaluation(_) => evaluation::proceed(state, now_ms, actions),
            Phase::Ending | Phase::Over => {}
        }
        if actions.len() == before {
            return;
        }
    }
}

/// Stops the run with a reason that names the culprit.
pub(crate) fn stop(state: &mut State, reason: String, actions: &mut Vec<Action>) {
    if !matches!(state.phase, Phase::Over) {
        dismiss_all(state, "the run was stopped", exit::LEFT, actions);
        state.phase = Phase::Over;
        actions.push(Action::End(End::Stopped(reason)));
    }
}

pub(crate) fn dismiss_all(state: &mut State, reason: &str, exit_code: i32, actions: &mut Vec<Action>) {
    for &connection in state.members.keys() {
        actions.push(Action::Send(connection, Order::Leave { reason: reason.to_owned(), exit_code }));
    }
}
