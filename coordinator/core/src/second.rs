//! Second computations: a seeded share of all microbatches is computed again by another worker and compared, because a
//! digest cannot show that the arithmetic of the only worker was wrong. The outcome never depends on them.

use std::collections::BTreeMap;

use crate::action::{Action, Order};
use crate::digest::Digest;
use crate::event::{Connection, Done};
use crate::lease::withdraw;
use crate::state::{Member, OpenStep, Phase, State};
use crate::statistics::Statistics;
use crate::stop;

/// One computation of a disputed microbatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    worker: String,
    digest: u64,
    statistics: Statistics,
}

/// Two workers found different results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dispute {
    first: Answer,
    second: Answer,
    since_ms: u64,
}

impl Answer {
    fn of(worker: &str, done: &Done) -> Self {
        Answer { worker: worker.to_owned(), digest: done.digest, statistics: done.statistics.clone() }
    }

    fn agrees(&self, other: &Answer) -> bool {
        self.digest == other.digest && self.statistics == other.statistics
    }
}

impl Dispute {
    /// Whether a worker is one of the two.
    pub(crate) fn is_between(&self, worker: &str) -> bool {
        self.first.worker == worker || self.second.worker == worker
    }
}

/// Whether a microbatch is one of those that are computed twice: about one in `every`.
pub(crate) fn is_chosen(seed: u64, every: u32, step: u64, microbatch: u32) -> bool {
    if every == 0 {
        return false;
    }
    let mut bytes = b"polya second 1".to_vec();
    bytes.extend_from_slice(&seed.to_le_bytes());
    bytes.extend_from_slice(&step.to_le_bytes());
    bytes.extend_from_slice(&microbatch.to_le_bytes());
    let hash = Digest::of(&bytes).0;
    let number = u64::from_le_bytes(hash[..8].try_into().expect("a digest has more than 8 bytes"));
    number.is_multiple_of(u64::from(every))
}

/// Leases what is to be computed again to idle workers other than the first.
pub(crate) fn lease(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    let State { phase: Phase::Step(open), members, .. } = state else { return };
    let OpenStep { plan, participants, slots, .. } = &mut **open;
    for (microbatch, slot) in (0u32..).zip(slots) {
        if slot.second.is_some() || !(slot.wants_second() || slot.dispute.is_some()) {
            continue;
        }
        let is_other = |member: &Member| match (&slot.dispute, &slot.part) {
            (Some(dispute), _) => !dispute.is_between(&member.worker),
            (None, Some(part)) => part.worker != member.worker,
            (None, None) => false,
        };
        let idle = participants.iter().find(|connection| {
            members.get(connection).is_some_and(|member| member.leases.is_empty() && is_other(member))
        });
        let Some(&connection) = idle else { continue };
        slot.second = Some(connection);
        if let Some(member) = members.get_mut(&connection) {
            member.leases.insert(microbatch, now_ms);
        }
        let (step, attempt) = (plan.step, plan.attempt);
        actions.push(Action::Send(connection, Order::Lease { step, attempt, microbatch }));
    }
}

/// Whether everything that is to be computed again was, as far as there is another worker.
pub(crate) fn is_settled(open: &OpenStep, members: &BTreeMap<Connection, Member>) -> bool {
    let is_other =
        |worker: &str| open.participants.iter().any(|c| members.get(c).is_some_and(|member| member.worker != worker));
    open.slots.iter().all(|slot| {
        let misses = slot.wants_second() && slot.part.as_ref().is_some_and(|part| is_other(&part.worker));
        slot.dispute.is_none() && !misses
    })
}

/// A second result is here.
pub(crate) fn compare(state: &mut State, connection: Connection, done: Done, now_ms: u64, actions: &mut Vec<Action>) {
    let State { phase: Phase::Step(open), members, .. } = state else { return };
    let (step, attempt, microbatch) = (done.step, done.attempt, done.microbatch);
    actions.push(Action::Send(connection, Order::Drop { step, attempt, microbatch }));
    let slot = &mut open.slots[microbatch as usize];
    slot.second = None;
    let (Some(part), Some(member)) = (&mut slot.part, members.get(&connection)) else { return };
    let first = Answer { worker: part.worker.clone(), digest: part.digest, statistics: part.statistics.clone() };
    let second = Answer::of(&member.worker, &done);
    if first.agrees(&second) {
        part.second = Some(second.worker);
        return;
    }
    let note = format!(
        "step {step}, microbatch {microbatch}: {} and {} find different results; a third worker decides",
        first.worker, second.worker
    );
    actions.push(Action::Note(note));
    let dispute = Dispute { first, second, since_ms: now_ms };
    if !members.values().any(|member| !dispute.is_between(&member.worker)) {
        actions.push(Action::Recruit);
    }
    slot.dispute = Some(dispute);
}

/// A third worker has computed a disputed microbatch: the run stops and names whose arithmetic is wrong.
pub(crate) fn decide(state: &mut State, connection: Connection, done: &Done, actions: &mut Vec<Action>) {
    let Phase::Step(open) = &state.phase else { return };
    let Some(Dispute { first, second, .. }) = open.slots[done.microbatch as usize].dispute.clone() else { return };
    let worker = state.members.get(&connection).map(|member| member.worker.clone()).unwrap_or_default();
    let third = Answer::of(&worker, done);
    let place = format!("step {}, microbatch {}", done.step, done.microbatch);
    let reason = if third.agrees(&first) {
        format!("{place}: the arithmetic of worker {} is wrong: {worker} and {} agree", second.worker, first.worker)
    } else if third.agrees(&second) {
        format!("{place}: the arithmetic of worker {} is wrong: {worker} and {} agree", first.worker, second.worker)
    } else {
        let (first, second) = (&first.worker, &second.worker);
        format!("{place}: {first}, {second} and {worker} find three different results; workers involved: all three")
    };
    let reason = format!("{reason}; {}", last_covered(state, &[&first.worker, &second.worker]));
    stop(state, reason, actions);
}

/// Nobody comes to decide: both are named.
pub(crate) fn give_up_waiting(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    let Phase::Step(open) = &state.phase else { return };
    let limit_ms = state.setup.limits().arbiter_ms;
    let overdue = (0u32..).zip(&open.slots).find_map(|(microbatch, slot)| {
        slot.dispute
            .clone()
            .filter(|dispute| now_ms >= dispute.since_ms + limit_ms)
            .map(|dispute| (microbatch, dispute))
    });
    let Some((microbatch, Dispute { first, second, .. })) = overdue else { return };
    let reason = format!(
        "step {}, microbatch {microbatch}: {} and {} find different results, and no third worker came within {limit_ms} ms \
         to decide; workers involved: both; {}",
        open.plan.step,
        first.worker,
        second.worker,
        last_covered(state, &[&first.worker, &second.worker])
    );
    stop(state, reason, actions);
}

/// Whether somebody is waited for who can decide.
pub(crate) fn awaits_arbiter(open: &OpenStep) -> bool {
    open.slots.iter().any(|slot| slot.dispute.is_some() && slot.second.is_none())
}

/// A microbatch is done anew: what was leased for a comparison is of no use any more.
pub(crate) fn withdraw_second(state: &mut State, microbatch: u32, actions: &mut Vec<Action>) {
    let Phase::Step(open) = &mut state.phase else { return };
    let (step, attempt) = (open.plan.step, open.plan.attempt);
    if let Some(connection) = open.slots[microbatch as usize].second.take() {
        withdraw(state, connection, (step, attempt, microbatch), actions);
    }
}

/// Up to where the work of these workers was seen to be right.
fn last_covered(state: &State, workers: &[&str]) -> String {
    let step = workers.iter().map(|worker| state.journal.checked.get(*worker).copied().unwrap_or(0)).min();
    match step.unwrap_or(0) {
        0 => "no earlier comparison covers both of them".to_owned(),
        step => format!("the last step with a comparison that covers each of them is {step}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_one_microbatch_in_sixty_four_is_chosen_from_the_seed_alone() {
        let chosen = |seed, every| {
            let all = (1..=8_000u64).flat_map(|step| (0..8).map(move |microbatch| (step, microbatch)));
            all.filter(|(step, microbatch)| is_chosen(seed, every, *step, *microbatch)).count()
        };
        let count = chosen(7, 64);
        assert!((850..1_150).contains(&count), "{count} of 64,000");
        assert_eq!(count, chosen(7, 64));
        assert_eq!((chosen(7, 0), chosen(7, 1)), (0, 64_000));
        let differs = (1..100).any(|t| is_chosen(1, 4, t, 0) != is_chosen(2, 4, t, 0));
        assert!(differs, "another seed chooses others");
    }
}
