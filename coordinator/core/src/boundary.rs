//! Between two steps: who must copy what from whom, what is saved and scored, and the plan of the next step.

use crate::action::{Action, End, Order, Purpose};
use crate::event::{Connection, Held};
use crate::lease::withdraw;
use crate::membership::{current, fence, lost};
use crate::record::Record;
use crate::state::{Evaluation, Member, OpenStep, Phase, Progress, Slot, State};
use crate::{dismiss_all, exit, stop};

/// Decides what is due between two steps.
pub(crate) fn proceed(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    leave_dismissed(state, actions);
    let Some(position) = position(state) else {
        return leave_without_workers(state, actions);
    };
    if awaits_return(state, now_ms) {
        return;
    }
    if load_newer_checkpoint(state, position, now_ms, actions) {
        return;
    }
    if catch_up(state, position, now_ms, actions) || current(state, position).len() < state.setup.min_workers {
        return;
    }
    if position < state.journal.committed() {
        return open_step(state, position + 1, true, actions);
    }
    let saved = save(state, position, actions);
    if state.draining {
        if saved {
            dismiss_all(state, "the run is saved and stops", exit::LEFT, actions);
            state.phase = Phase::Over;
            actions.push(Action::End(End::Drained));
        }
        return;
    }
    if let Some(purpose) = due_evaluation(state, position) {
        state.phase = Phase::Evaluation(Evaluation {
            purpose,
            step: position,
            waiting: None,
            leased: Default::default(),
            scoring: false,
        });
        return actions.push(Action::PlanEvaluation { purpose, step: position });
    }
    if position < state.setup.schedule.steps() {
        return open_step(state, position + 1, false, actions);
    }
    if saved {
        state.phase = Phase::Ending;
        actions.push(Action::Append(Record::End { step: position }));
    }
}

/// The newest state that a live worker holds.
pub(crate) fn position(state: &State) -> Option<u64> {
    let holders = state.members.values().filter(|member| !member.fenced && member.loading.is_none());
    holders.filter_map(|member| member.held).map(|held| held.step).max()
}

/// Lets those go who are to leave: they have nothing that others would have to do again.
fn leave_dismissed(state: &mut State, actions: &mut Vec<Action>) {
    let leaving: Vec<Connection> = state.members.iter().filter(|(_, m)| m.dismissed).map(|(c, _)| *c).collect();
    for connection in leaving {
        let reason = "fewer workers are wanted".to_owned();
        actions.push(Action::Send(connection, Order::Leave { reason, exit_code: exit::LEFT }));
        lost(state, connection, "it was dismissed", actions);
    }
}

/// After a restart: whether somebody of the last step is still to come back. What they hold is not computed again.
pub(crate) fn awaits_return(state: &State, now_ms: u64) -> bool {
    let is_here = |worker: &String| state.members.values().any(|member| member.worker == *worker);
    let until_ms = state.began_ms.unwrap_or(now_ms) + state.setup.limits().return_ms;
    !state.has_stepped && now_ms < until_ms && !state.journal.last_workers.iter().all(is_here)
}

/// A drain with nobody there has nothing to save beyond the newest checkpoint: the journal has it all.
fn leave_without_workers(state: &mut State, actions: &mut Vec<Action>) {
    if state.draining && state.members.is_empty() {
        state.phase = Phase::Over;
        actions.push(Action::End(End::Drained));
    }
}

/// Where nobody holds a newer state than the newest checkpoint, all load that one and replay from there.
fn load_newer_checkpoint(state: &mut State, position: u64, now_ms: u64, actions: &mut Vec<Action>) -> bool {
    let committed = state.journal.committed();
    let Some((&newest, _)) = state.journal.checkpoints().range(..=committed).next_back() else { return false };
    if newest <= position {
        return false;
    }
    let Some(digest) = state.journal.state(newest) else { return false };
    for (connection, member) in &mut state.members {
        if member.loading.is_none() && !member.fenced {
            member.loading = Some(newest);
            member.loading_since_ms = now_ms;
            member.source = None;
            actions.push(Action::Send(*connection, Order::Load { step: newest, state: Some(digest) }));
        }
    }
    true
}

/// Lets workers that are behind copy the state from a peer. True while the step must wait for one of them: the copy is
/// short, and without waiting a joiner would never catch up.
pub(crate) fn catch_up(state: &mut State, position: u64, now_ms: u64, actions: &mut Vec<Action>) -> bool {
    let source = state
        .members
        .iter()
        .find(|(_, member)| {
            !member.fenced && member.loading.is_none() && member.confirmed.is_some_and(|h| h.step == position)
        })
        .map(|(source, member)| (*source, member.peer_address.clone(), member.confirmed));
    let behind = |member: &Member| member.held.is_some_and(|held| held.step < position) && !member.fenced;
    // Whoever copies from a lost worker would wait until the network tells: it copies from another one.
    let is_orphan = |member: &Member| {
        member.loading == Some(position) && member.source.is_some_and(|source| !state.members.contains_key(&source))
    };
    let starts = |member: &Member| behind(member) && (member.loading.is_none() || is_orphan(member));
    let copiers: Vec<Connection> = state.members.iter().filter(|(_, m)| starts(m)).map(|(c, _)| *c).collect();
    if let Some((source, peer_address, Some(Held { state: digest, .. }))) = source {
        for connection in copiers {
            let Some(member) = state.members.get_mut(&connection) else { continue };
            member.loading = Some(position);
            member.loading_since_ms = now_ms;
            member.source = Some(source);
            let peer_address = peer_address.clone();
            actions.push(Action::Send(connection, Order::Fetch { step: position, state: digest, peer_address }));
        }
    }
    let patience = state.setup.limits().copy_ms;
    state.members.values().any(|member| match member.loading {
        Some(step) => step == position && member.held.is_some() && now_ms < member.loading_since_ms + patience,
        None => behind(member),
    })
}

/// Orders the checkpoint that is due. True when nothing is left to save at this position.
fn save(state: &mut State, position: u64, actions: &mut Vec<Action>) -> bool {
    if state.saving.is_some() {
        return false;
    }
    let newest = state.journal.checkpoints().keys().next_back().copied().unwrap_or(0);
    let every = state.setup.checkpoint_every;
    let last_due = if every == 0 { 0 } else { position - position % every };
    let at_end = position == state.setup.schedule.steps() || state.draining;
    if position == 0 || newest >= position || (newest >= last_due && !at_end) {
        return true;
    }
    if let Some(&uploader) = current(state, position).first() {
        state.saving = Some((position, uploader));
        actions.push(Action::Send(uploader, Order::Save { step: position }));
    }
    false
}

fn due_evaluation(state: &State, position: u64) -> Option<Purpose> {
    let setup = &state.setup;
    let every = |steps: u64| steps > 0 && position > 0 && position.is_multiple_of(steps);
    let last = position == setup.schedule.steps();
    let due = [
        (Purpose::Base, 0, setup.evaluate),
        (Purpose::Holdout, position, setup.holdout && position > 0 && (every(setup.checkpoint_every) || last)),
        (Purpose::Interval, position, setup.evaluate && every(setup.evaluation_every) && !last),
        (Purpose::Final, position, setup.evaluate && last),
    ];
    due.into_iter()
        .find(|(purpose, step, due)| *due && !state.evaluated.contains(&(*purpose, *step)))
        .map(|(p, _, _)| p)
}

fn open_step(state: &mut State, step: u64, replay: bool, actions: &mut Vec<Action>) {
    let plan = state.plan(step);
    if replay && state.journal.commit(step).is_none_or(|commit| commit.plan != plan.hash) {
        let reason = format!("the plan of step {step} is not the journal's: its data or configuration changed");
        return stop(state, reason, actions);
    }
    let mut open = OpenStep {
        slots: Slot::of(&state.setup, &plan, replay),
        plan,
        replay,
        participants: Default::default(),
        ready: Default::default(),
        progress: Progress::Leasing,
        recheck: None,
    };
    state.has_stepped = true;
    for connection in current(state, step - 1) {
        admit(state, &mut open, connection, actions);
    }
    state.phase = Phase::Step(Box::new(open));
}

/// Lets those into the open step who came too late for its beginning and hold the state before it.
pub(crate) fn admit_newcomers(state: &mut State, actions: &mut Vec<Action>) {
    let Phase::Step(open) = &state.phase else { return };
    if open.participants.len() == state.members.len() {
        return;
    }
    let mut newcomers = current(state, open.plan.step - 1);
    newcomers.retain(|connection| !open.participants.contains(connection));
    if newcomers.is_empty() {
        return;
    }
    let Phase::Step(mut open) = std::mem::replace(&mut state.phase, Phase::Boundary) else { return };
    for connection in newcomers {
        admit(state, &mut open, connection, actions);
    }
    state.phase = Phase::Step(open);
}

/// Lets a worker take part: by the plan, or with what it brought along for the same plan (R8).
fn admit(state: &mut State, open: &mut OpenStep, connection: Connection, actions: &mut Vec<Action>) {
    let Some(member) = state.members.get_mut(&connection) else { return };
    member.leases.clear();
    let worker = member.worker.clone();
    match member.offer.take() {
        Some(offer) if offer.plan == open.plan.hash => {
            let adoptable = |k: u32| open.slots.get(k as usize).is_some_and(|slot| slot.owner.is_none());
            if !offer.kept.iter().all(|done| adoptable(done.microbatch)) {
                let reason = "what it kept has another owner by now".to_owned();
                return fence(state, connection, reason, actions);
            }
            for done in offer.kept {
                let microbatch = done.microbatch;
                if let Some(other) = open.slots[microbatch as usize].leased {
                    withdraw(state, other, (open.plan.step, open.plan.attempt, microbatch), actions);
                }
                open.slots[microbatch as usize].adopt(connection, worker.clone(), done);
            }
        }
        _ => actions.push(Action::Send(connection, Order::Plan { plan: open.plan.clone(), replay: open.replay })),
    }
    open.participants.insert(connection);
}
