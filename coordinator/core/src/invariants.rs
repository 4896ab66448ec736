//! The numbered invariants that can be read off one state; docs/architecture.md lists all nine. I1, I3 and I8 need the
//! data or the disk: [`crate::audit`] and the shell prove those.

use std::collections::BTreeSet;

use crate::state::{Phase, Progress, State};

/// Checks everything after an event. The error names the invariant.
pub fn check(state: &State) -> Result<(), String> {
    i2_steps_are_contiguous(state)?;
    i6_only_live_holders_influence_state(state)?;
    i9_each_microbatch_has_one_owner(state)
}

/// I2: the open step follows the last committed one, or is a replay of a committed one.
fn i2_steps_are_contiguous(state: &State) -> Result<(), String> {
    let Phase::Step(open) = &state.phase else { return Ok(()) };
    let committed = state.journal.committed();
    let contiguous = if open.replay { open.plan.step <= committed } else { open.plan.step == committed + 1 };
    contiguous.then_some(()).ok_or(format!("I2: step {} is open after {committed} commits", open.plan.step))
}

/// I6: who takes part is connected, not fenced, and holds the state before the step. Once the append is in flight the
/// decision is made, and nobody takes part any more.
fn i6_only_live_holders_influence_state(state: &State) -> Result<(), String> {
    let Phase::Step(open) = &state.phase else { return Ok(()) };
    if open.progress == Progress::Appending {
        return Ok(());
    }
    for connection in &open.participants {
        let member = state.members.get(connection).ok_or("I6: a lost worker takes part".to_owned())?;
        if member.fenced || member.held.is_none_or(|held| held.step + 1 != open.plan.step) {
            return Err(format!("I6: {} takes part in step {} without its state", member.worker, open.plan.step));
        }
    }
    Ok(())
}

/// I9: while leasing, an owner is live, and a microbatch with an owner has a result and no lease.
fn i9_each_microbatch_has_one_owner(state: &State) -> Result<(), String> {
    let Phase::Step(open) = &state.phase else { return Ok(()) };
    for (k, slot) in open.slots.iter().enumerate() {
        if slot.owner.is_some() != slot.part.is_some() || (slot.owner.is_some() && slot.leased.is_some()) {
            return Err(format!("I9: microbatch {k} is owned, leased and done at odds"));
        }
        let dead = |owner| !open.participants.contains(owner);
        if open.progress == Progress::Leasing && slot.owner.as_ref().is_some_and(dead) {
            return Err(format!("I9: microbatch {k} is owned by a lost worker"));
        }
    }
    if let Progress::Reducing { members, .. } = &open.progress {
        let known: BTreeSet<_> = state.members.keys().copied().collect();
        if !members.is_subset(&known) {
            return Err("I6: a lost worker is waited for in a group".to_owned());
        }
    }
    Ok(())
}
