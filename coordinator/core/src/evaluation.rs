//! Scoring: a fixed list of units, leased like microbatches. Never feeds training.

use crate::action::{Action, Order, Purpose};
use crate::event::Connection;
use crate::membership::current;
use crate::state::{Phase, State};

/// Leases waiting units to idle workers; orders the scoring once all are done.
pub(crate) fn proceed(state: &mut State, _now_ms: u64, actions: &mut Vec<Action>) {
    let Phase::Evaluation(evaluation) = &state.phase else { return };
    let able: Vec<Connection> = match evaluation.purpose {
        // The bare base is the same whatever adapters a worker holds.
        Purpose::Base => state
            .members
            .iter()
            .filter(|(_, m)| m.held.is_some() && !m.fenced && state.is_admitted(m))
            .map(|(c, _)| *c)
            .collect(),
        _ => current(state, evaluation.step),
    };
    let State { phase: Phase::Evaluation(evaluation), members, .. } = state else { return };
    let Some(waiting) = &mut evaluation.waiting else { return };
    for connection in able {
        let Some(member) = members.get_mut(&connection).filter(|member| !member.dismissed) else { continue };
        let busy = member.unit.is_some_and(|unit| evaluation.leased.contains_key(&unit));
        if busy {
            continue;
        }
        let Some(unit) = waiting.pop_first() else { break };
        member.unit = Some(unit);
        evaluation.leased.insert(unit, connection);
        actions.push(Action::Send(connection, Order::Evaluate { unit }));
    }
    if waiting.is_empty() && evaluation.leased.is_empty() && !evaluation.scoring {
        evaluation.scoring = true;
        actions.push(Action::ScoreEvaluation);
    }
    if able_is_gone(state) {
        give_up(state, actions); // nobody holds the state any more: back to the boundary, which finds another way
    }
}

fn able_is_gone(state: &State) -> bool {
    let Phase::Evaluation(evaluation) = &state.phase else { return false };
    !evaluation.scoring && evaluation.purpose != Purpose::Base && current(state, evaluation.step).is_empty()
}

/// The shell says how many units there are.
pub(crate) fn planned(state: &mut State, units: u64, _actions: &mut Vec<Action>) {
    let first = state.units;
    if let Phase::Evaluation(evaluation) = &mut state.phase
        && evaluation.waiting.is_none()
    {
        evaluation.waiting = Some((first..first + units).collect());
        state.units += units;
    }
}

/// A unit came back. Its first result counts.
pub(crate) fn unit_done(state: &mut State, connection: Connection, unit: u64) {
    if let Phase::Evaluation(evaluation) = &mut state.phase
        && evaluation.leased.get(&unit) == Some(&connection)
    {
        evaluation.leased.remove(&unit);
    }
}

/// The scores are written.
pub(crate) fn scored(state: &mut State) {
    if let Phase::Evaluation(evaluation) = &state.phase {
        state
            .evaluated
            .insert((evaluation.purpose, if evaluation.purpose == Purpose::Base { 0 } else { evaluation.step }));
        state.phase = Phase::Boundary;
    }
}

/// Ends an evaluation without a result.
pub(crate) fn give_up(state: &mut State, actions: &mut Vec<Action>) {
    if matches!(&state.phase, Phase::Evaluation(evaluation) if !evaluation.scoring) {
        state.phase = Phase::Boundary;
        actions.push(Action::DropEvaluation);
    }
}
