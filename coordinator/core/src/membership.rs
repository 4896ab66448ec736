//! Who is there: Hello, leases of life, loss.

use crate::action::{Action, Order};
use crate::event::{Connection, Held, Hello};
use crate::state::{Member, Offer, Phase, State};
use crate::{class, exit, lease, step, stop};

/// A worker presents itself (R6, R8). Each of its streams has a higher incarnation than the one before.
pub(crate) fn hello(state: &mut State, connection: Connection, hello: Hello, now_ms: u64, actions: &mut Vec<Action>) {
    let other = state.members.iter().find(|(_, member)| member.worker == hello.worker).map(|(c, _)| *c);
    if let Some(&newest) = state.incarnations.get(&hello.worker).filter(|newest| hello.incarnation <= **newest) {
        // Of the past, or a repetition of what somebody has seen on the wire: it takes nobody's place.
        let reason = format!("incarnation {} of {} is stale, {newest} was here", hello.incarnation, hello.worker);
        actions.push(Action::Note(reason.clone()));
        // A process that was restarted where the clock is behind is told how to be the newest; not so beside a live one.
        let incarnation = if other.is_some() { 0 } else { newest };
        actions.push(Action::Send(connection, Order::Fence { reason: reason.clone(), incarnation }));
        return actions.push(Action::Close(connection, reason));
    }
    state.incarnations.insert(hello.worker.clone(), hello.incarnation);
    if let Some(other) = other {
        lost(state, other, "a newer stream of the same worker is here", actions);
        if other != connection {
            actions.push(Action::Close(other, "replaced by a newer stream".to_owned()));
        }
    }
    actions.push(Action::Send(connection, Order::Welcome));
    let offer = hello.plan.map(|plan| Offer { plan, kept: hello.kept });
    let mut member = Member {
        worker: hello.worker,
        incarnation: hello.incarnation,
        peer_address: hello.peer_address,
        held: hello.held,
        confirmed: hello.held,
        loading: None,
        loading_since_ms: now_ms,
        source: None,
        fenced: false,
        class: None,
        dismissed: false,
        leases: Default::default(),
        pace_ms: None,
        finished_ms: now_ms,
        microbatches: 0,
        unit: None,
        offer,
        heard_ms: now_ms,
    };
    if member.held.is_none() {
        // Every worker begins with the state of step 0: it warms the model up and compares S_0 at the door.
        member.loading = Some(0);
        actions.push(Action::Send(connection, Order::Load { step: 0, state: state.initial }));
    }
    state.members.insert(connection, member);
    if let Some(class) = hello.class {
        class::presented(state, connection, class, actions);
    }
    if let Some(held) = hello.held {
        check_held(state, connection, held, actions);
    }
    if let Some(ready) = hello.ready {
        step::ready_in_hello(state, connection, ready, now_ms, actions);
    }
}

/// A worker says what it holds.
pub(crate) fn idle(state: &mut State, connection: Connection, held: Held, actions: &mut Vec<Action>) {
    if !check_held(state, connection, held, actions) {
        return;
    }
    let Some(member) = state.members.get_mut(&connection) else { return };
    member.confirmed = Some(held);
    if member.loading == Some(held.step) {
        member.loading = None;
        member.source = None;
        member.held = Some(held);
    } else if member.loading.is_none() && member.held.is_none_or(|known| known.step <= held.step) {
        member.held = Some(held);
    }
}

/// Compares a state with the journal. A worker whose state differs is refused by name.
fn check_held(state: &mut State, connection: Connection, held: Held, actions: &mut Vec<Action>) -> bool {
    let forgotten = held.step > 0 && held.step < state.journal.first_remembered();
    if held.step > state.journal.committed() || forgotten {
        // Beyond the journal: it was restored from a copy that lagged. Forgotten: far behind. The worker begins anew.
        if let Some(member) = state.members.get_mut(&connection) {
            member.held = None;
            member.confirmed = None;
            member.loading = Some(0);
            actions.push(Action::Send(connection, Order::Load { step: 0, state: state.initial }));
        }
        return false;
    }
    let expected = if held.step == 0 { state.initial } else { state.journal.state(held.step) };
    match expected {
        None => state.initial = Some(held.state), // only step 0 can be unknown: the first worker defines S_0
        Some(expected) if expected == held.state => {}
        Some(expected) => {
            let worker = state.members.get(&connection).map(|m| m.worker.clone()).unwrap_or_default();
            let reason = format!(
                "worker {worker} holds state {} of step {}, the run has {expected}: another class of processor or \
                 another build",
                held.state, held.step
            );
            actions.push(Action::Note(reason.clone()));
            actions.push(Action::Send(connection, Order::Refuse { reason, exit_code: exit::OTHER_CLASS }));
            lost(state, connection, "its state differs from the run's", actions);
            return false;
        }
    }
    true
}

/// A worker is gone: everything that only it had is free again.
pub(crate) fn lost(state: &mut State, connection: Connection, why: &str, actions: &mut Vec<Action>) {
    let Some(member) = state.members.remove(&connection) else { return };
    actions.push(Action::Note(format!("worker {} is gone: {why}", member.worker)));
    if state.saving.is_some_and(|(_, uploader)| uploader == connection) {
        state.saving = None;
    }
    step::member_lost(state, connection, actions);
    if let Phase::Evaluation(evaluation) = &mut state.phase {
        let units: Vec<u64> = evaluation.leased.iter().filter(|(_, c)| **c == connection).map(|(u, _)| *u).collect();
        for unit in units {
            evaluation.leased.remove(&unit);
            evaluation.waiting.get_or_insert_default().insert(unit);
        }
    }
}

/// Time passes: who is silent for too long is lost, and who does not come to an end.
pub(crate) fn tick(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    forgive_own_pause(state, now_ms, actions);
    let limit = state.setup.limits().failure_detection_ms;
    let silent: Vec<(Connection, u64)> = state
        .members
        .iter()
        .map(|(connection, member)| (*connection, now_ms.saturating_sub(member.heard_ms)))
        .filter(|(_, silence)| *silence > limit)
        .collect();
    for (connection, silence) in silent {
        let why = format!("silent for {silence} ms");
        lost(state, connection, &why, actions);
        actions.push(Action::Kill(connection, why));
    }
    lease::lose_the_hung(state, now_ms, actions);
}

/// A coordinator that stood still itself (stopped, starved, on a machine that slept) has heard nobody meanwhile: that time
/// is not held against the workers, whose words are still on their way to it.
fn forgive_own_pause(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    let limits = state.setup.limits();
    let since_ms = now_ms.saturating_sub(state.ticked_ms.replace(now_ms).unwrap_or(now_ms));
    let paused_ms = since_ms.saturating_sub(limits.heartbeat_ms);
    if since_ms <= limits.failure_detection_ms / 2 || state.members.is_empty() {
        return;
    }
    actions.push(Action::Note(format!("the coordinator stood still for {paused_ms} ms; nobody is lost for that")));
    let later = |at_ms: &mut u64| *at_ms = (*at_ms + paused_ms).min(now_ms);
    for member in state.members.values_mut() {
        [&mut member.heard_ms, &mut member.finished_ms, &mut member.loading_since_ms].into_iter().for_each(later);
        member.leases.values_mut().for_each(later);
    }
}

/// Members that may work on the step after `position`: they hold its state, are of an admitted class, and are neither
/// loading nor fenced.
pub(crate) fn current(state: &State, position: u64) -> Vec<Connection> {
    let is_current = |member: &Member| {
        !member.fenced
            && member.loading.is_none()
            && member.held.is_some_and(|held| held.step == position)
            && state.is_admitted(member)
    };
    state.members.iter().filter(|(_, member)| is_current(member)).map(|(connection, _)| *connection).collect()
}

/// Tells a worker to clear its sum and to come again.
pub(crate) fn fence(state: &mut State, connection: Connection, reason: String, actions: &mut Vec<Action>) {
    if let Some(member) = state.members.get_mut(&connection) {
        member.fenced = true;
        member.offer = None;
        actions.push(Action::Send(connection, Order::Fence { reason, incarnation: 0 }));
    }
}

/// Two workers disagree about arithmetic: there is no vote, the run stops and names them.
pub(crate) fn disagreement(state: &mut State, what: &str, workers: &[String], actions: &mut Vec<Action>) {
    stop(state, format!("{what}; workers involved: {}", workers.join(", ")), actions);
}
