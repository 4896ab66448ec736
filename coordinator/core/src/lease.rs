//! Who computes what: each microbatch goes to whoever is expected to finish it first, so a slow worker gets fewer.
//! This decides about time alone; the sum is the same whoever computes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::action::{Action, Order};
use crate::event::{Connection, Done};
use crate::membership;
use crate::second;
use crate::state::{Member, OpenStep, Phase, Progress, State};

/// What a microbatch is taken to cost while nobody has computed one.
const UNKNOWN_PACE_MS: u64 = 1_000;

/// A worker as a queue of work; the least of two is done first with one microbatch more.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Lane {
    /// When it is expected to be done with one more.
    done_in_ms: u64,
    /// When it is expected to have nothing to do.
    free_in_ms: u64,
    leases: usize,
    connection: Connection,
    pace_ms: u64,
}

/// Leases free microbatches to workers that have room for them.
pub(crate) fn lease(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    let State { phase: Phase::Step(open), members, .. } = state else { return };
    let OpenStep { plan, participants, slots, .. } = &mut **open;
    let free = (0u32..).zip(slots.iter()).filter(|(_, slot)| slot.owner.is_none() && slot.leased.is_none());
    let free: Vec<u32> = free.map(|(microbatch, _)| microbatch).collect();
    if free.is_empty() {
        return;
    }
    // A second lease hides the way there and back; near the end it would only bind work to a slow worker.
    let room = if free.len() > participants.len() { 2 } else { 1 };
    let usual = usual_pace(participants.iter().filter_map(|connection| members.get(connection)));
    let lane = |connection: &Connection| Some(Reverse(Lane::of(*connection, members.get(connection)?, usual, now_ms)));
    let mut lanes: BinaryHeap<Reverse<Lane>> = participants.iter().filter_map(lane).collect();
    for microbatch in free {
        let Some(mut first_done) = lanes.peek_mut() else { return };
        let lane = &mut first_done.0;
        lane.done_in_ms += lane.pace_ms;
        lane.free_in_ms += lane.pace_ms;
        if lane.leases >= room {
            continue; // whoever is idle now would still be later
        }
        lane.leases += 1;
        slots[microbatch as usize].leased = Some(lane.connection);
        if let Some(member) = members.get_mut(&lane.connection) {
            member.leases.insert(microbatch, now_ms);
        }
        let (step, attempt) = (plan.step, plan.attempt);
        actions.push(Action::Send(lane.connection, Order::Lease { step, attempt, microbatch }));
    }
}

impl Lane {
    fn of(connection: Connection, member: &Member, usual_ms: u64, now_ms: u64) -> Self {
        let pace_ms = member.pace_ms.unwrap_or(usual_ms).max(1);
        let work_ms = member.leases.len() as u64 * pace_ms;
        let since_ms = member.leases.values().min().map_or(0, |since| now_ms.saturating_sub(*since));
        // Who is late is expected to be late for as long again.
        let free_in_ms = if since_ms < work_ms { work_ms - since_ms } else { since_ms };
        Lane { done_in_ms: free_in_ms + pace_ms, free_in_ms, leases: member.leases.len(), connection, pace_ms }
    }
}

/// The mean pace of those who have one.
fn usual_pace<'a>(members: impl Iterator<Item = &'a Member>) -> u64 {
    let (sum, count) = members.filter_map(|member| member.pace_ms).fold((0, 0), |(s, n), pace| (s + pace, n + 1));
    sum.checked_div(count).unwrap_or(UNKNOWN_PACE_MS)
}

/// R1: the first result of a microbatch is kept, every other one dropped.
pub(crate) fn done(state: &mut State, connection: Connection, done: Done, now_ms: u64, actions: &mut Vec<Action>) {
    let (step, attempt, microbatch) = (done.step, done.attempt, done.microbatch);
    let State { phase, members, .. } = state;
    let Some(member) = members.get_mut(&connection) else { return };
    if let Phase::Step(open) = phase
        && open.is_attempt(step, attempt)
        && open.progress == Progress::Leasing
        && open.participants.contains(&connection)
    {
        member.finished(microbatch, now_ms);
        if let Some(slot) = open.slots.get_mut(microbatch as usize) {
            let is_leased = slot.leased == Some(connection) || slot.second == Some(connection);
            if is_leased && slot.dispute.as_ref().is_some_and(|dispute| !dispute.is_between(&member.worker)) {
                return second::decide(state, connection, &done, actions);
            }
            if slot.second == Some(connection) {
                return second::compare(state, connection, done, now_ms, actions);
            }
            if slot.leased == Some(connection) {
                slot.adopt(connection, member.worker.clone(), done);
                return actions.push(Action::Send(connection, Order::Keep { step, attempt, microbatch }));
            }
        }
    }
    actions.push(Action::Send(connection, Order::Drop { step, attempt, microbatch }));
}

/// Takes back a lease whose result is here from somebody else.
pub(crate) fn withdraw(
    state: &mut State,
    connection: Connection,
    (step, attempt, microbatch): (u64, u32, u32),
    actions: &mut Vec<Action>,
) {
    if let Some(member) = state.members.get_mut(&connection)
        && member.leases.remove(&microbatch).is_some()
    {
        actions.push(Action::Send(connection, Order::Drop { step, attempt, microbatch }));
    }
}

impl Member {
    /// Notes a result and how long it took.
    fn finished(&mut self, microbatch: u32, now_ms: u64) {
        let Some(since) = self.leases.remove(&microbatch) else { return };
        let took = now_ms.saturating_sub(since.max(self.finished_ms));
        self.pace_ms = Some(self.pace_ms.map_or(took, |pace| (3 * pace + took) / 4));
        self.finished_ms = now_ms;
        self.microbatches += 1;
    }
}

/// A worker that lives but does not come to an end with a microbatch hangs: it is lost.
pub(crate) fn lose_the_hung(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    let limits = state.setup.limits();
    let slowest = state.members.values().filter_map(|member| member.pace_ms).max();
    let limit_ms = limits.hangs_after_ms(slowest);
    let waits = |member: &Member| {
        let (microbatch, since) = member.leases.iter().min_by_key(|(_, since)| **since)?;
        let waited_ms = now_ms.saturating_sub((*since).max(member.finished_ms));
        (waited_ms > limit_ms).then_some((*microbatch, waited_ms))
    };
    let hung: Vec<(Connection, u32, u64)> =
        state.members.iter().filter_map(|(c, member)| waits(member).map(|(k, ms)| (*c, k, ms))).collect();
    for (connection, microbatch, ms) in hung {
        let why = format!("it hangs: microbatch {microbatch} is with it for {ms} ms, {limit_ms} ms are the limit");
        membership::lost(state, connection, &why, actions);
        actions.push(Action::Kill(connection, why));
    }
}
