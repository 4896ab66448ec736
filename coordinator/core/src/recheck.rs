//! Workers made different states of one sum. Nobody votes: each folds the state that it began with once more, and the
//! one whose memory no longer holds the committed state is named.

use std::collections::BTreeMap;

use crate::action::{Action, Order};
use crate::digest::Digest;
use crate::event::{Connection, Held};
use crate::membership::disagreement;
use crate::state::{Phase, State};

/// What was found and what was asked.
#[derive(Debug, Clone)]
pub(crate) struct Recheck {
    since_ms: u64,
    /// The state that each worker made.
    made: BTreeMap<String, Digest>,
    asked: BTreeMap<Connection, String>,
    answers: BTreeMap<Connection, Held>,
}

/// Asks everybody who is READY. From here the run can only stop.
pub(crate) fn ask(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    let State { phase: Phase::Step(open), members, .. } = state else { return };
    let name = |connection: &Connection| members.get(connection).map(|m| m.worker.clone()).unwrap_or_default();
    let made = open.ready.iter().map(|(connection, ready)| (name(connection), ready.state)).collect();
    let asked: BTreeMap<Connection, String> = open.ready.keys().map(|c| (*c, name(c))).collect();
    actions.extend(asked.keys().map(|connection| Action::Send(*connection, Order::Recheck)));
    open.recheck = Some(Recheck { since_ms: now_ms, made, asked, answers: BTreeMap::new() });
}

/// A worker has folded its state once more.
pub(crate) fn answered(state: &mut State, connection: Connection, held: Held) {
    if let Phase::Step(open) = &mut state.phase
        && let Some(recheck) = &mut open.recheck
    {
        recheck.answers.insert(connection, held);
    }
}

/// Stops the run once all that still live have answered, or had the time to.
pub(crate) fn decide(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    let Phase::Step(open) = &state.phase else { return };
    let Some(recheck) = &open.recheck else { return };
    let is_awaited = |c: &&Connection| state.members.contains_key(c) && !recheck.answers.contains_key(c);
    let until_ms = recheck.since_ms + state.setup.limits().copy_ms;
    if recheck.asked.keys().any(|connection| is_awaited(&connection)) && now_ms < until_ms {
        return;
    }
    let (step, before) = (open.plan.step, open.plan.step - 1);
    let expected = if before == 0 { state.initial } else { state.journal.state(before) };
    let is_wrong = |held: &Held| held.step != before || Some(held.state) != expected;
    let wrong: Vec<String> = recheck
        .answers
        .iter()
        .filter(|(_, held)| is_wrong(held))
        .filter_map(|(c, _)| recheck.asked.get(c).cloned())
        .collect();
    if !wrong.is_empty() {
        let what = format!("step {step}: the state of step {before} has changed in a worker's memory");
        return disagreement(state, &what, &wrong, actions);
    }
    let all: Vec<String> = recheck.made.iter().map(|(worker, digest)| format!("{worker} ({digest})")).collect();
    let what =
        format!("step {step}: the states after the step differ although the sums and the states before it agree");
    disagreement(state, &what, &all, actions);
}
