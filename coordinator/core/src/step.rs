//! The open step: lease, keep the first result of each microbatch, reduce, agree, append, commit.
//!
//! Source: docs/architecture.md, "The commit", rules R1 to R8.

use std::collections::BTreeMap;

use crate::action::{Action, Order};
use crate::digest::Digest;
use crate::event::{Connection, Group, Held, Owned, Ready};
use crate::membership::{disagreement, fence, lost};
use crate::plan::Plan;
use crate::plan::exponents::{self, Verdict};
use crate::plan::loss_scale::LossScale;
use crate::record::{Commit, CommittedMicrobatch, Record, Retry};
use crate::state::{OpenStep, Phase, Progress, Slot, State};
use crate::statistics::{NOT_FINITE, Statistics};
use crate::{boundary, lease, recheck, second, stop};

/// Workers of a group that get the whole table of a step, from which a commit can be written without the coordinator that
/// made it. The second one is for when the first dies with the coordinator; the others get their own rows, so that what is
/// sent grows with the workers and not with their square.
const TABLES: u32 = 2;

impl OpenStep {
    pub(crate) fn is_attempt(&self, step: u64, attempt: u32) -> bool {
        self.plan.step == step && self.plan.attempt == attempt
    }

    fn statistics(&self) -> Statistics {
        let mut total = Statistics::default();
        self.slots.iter().filter_map(|slot| slot.part.as_ref()).for_each(|part| total.add(&part.statistics));
        total
    }

    fn sum_of_digests(&self) -> u64 {
        self.slots.iter().filter_map(|slot| slot.part.as_ref()).fold(0, |sum, part| sum.wrapping_add(part.digest))
    }

    /// What the digest of each worker's own sum must be.
    fn sums_of_digests(&self) -> BTreeMap<&str, u64> {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for part in self.slots.iter().filter_map(|slot| slot.part.as_ref()) {
            let sum = sums.entry(&part.worker).or_default();
            *sum = sum.wrapping_add(part.digest);
        }
        sums
    }

    fn table(&self) -> Vec<Owned> {
        let row = |(microbatch, slot): (u32, &Slot)| {
            let part = slot.part.clone()?;
            let CommittedMicrobatch { digest, worker, second, statistics } = part;
            Some(Owned { microbatch, worker, digest, statistics, second })
        };
        (0u32..).zip(&self.slots).filter_map(row).collect()
    }
}

/// Takes every decision that is due in the open step.
pub(crate) fn proceed(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    let Phase::Step(open) = &state.phase else { return };
    match &open.progress {
        Progress::Leasing if open.participants.is_empty() => state.phase = Phase::Boundary,
        Progress::Leasing => work(state, now_ms, actions),
        Progress::Reducing { .. } => decide(state, now_ms, actions),
        Progress::Appending => {}
    }
}

/// Admits who may take part, leases, and goes on once everything is done.
fn work(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    boundary::admit_newcomers(state, actions);
    lease::lease(state, now_ms, actions);
    second::lease(state, now_ms, actions);
    let State { phase: Phase::Step(open), members, .. } = state else { return };
    if second::awaits_arbiter(open) {
        let position = open.plan.step - 1;
        boundary::catch_up(state, position, now_ms, actions);
        return second::give_up_waiting(state, now_ms, actions);
    }
    if open.slots.iter().all(|slot| slot.owner.is_some()) && second::is_settled(open, members) {
        judge(state, now_ms, actions);
    }
}

/// All microbatches are done: is the sum exact? The decision depends on their magnitudes alone, never on timing.
fn judge(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    let Phase::Step(open) = &state.phase else { return };
    let total = open.statistics();
    let step = open.plan.step;
    match exponents::judge(&total.magnitudes, &open.plan.exponents, open.plan.bits) {
        Verdict::Fits => reduce(state, actions),
        _ if open.replay => {
            let reason = format!("replay of step {step} does not fit the recorded exponents: arithmetic differs here");
            stop(state, reason, actions);
        }
        Verdict::Again(reason) => {
            let mut magnitudes = state.journal.magnitudes.clone();
            exponents::remember(&mut magnitudes, &total.magnitudes);
            let bits = open.plan.bits;
            let exponents = magnitudes.iter().map(|&m| exponents::exponent(m, bits)).collect();
            let scale_log2 = open.plan.scale_log2;
            retry(state, scale_log2, exponents, reason, actions);
        }
        Verdict::NotFinite => not_finite(state, now_ms, actions),
    }
}

/// In fp16 with half the scale again; else the run stops, once a second worker has found the same where there is one.
fn not_finite(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    let State { phase: Phase::Step(open), members, .. } = state else { return };
    if let Some(scale_log2) = LossScale::halved(open.plan.scale_log2) {
        let exponents = open.plan.exponents.clone();
        return retry(
            state,
            scale_log2,
            exponents,
            "a gradient is not finite: half the loss scale".to_owned(),
            actions,
        );
    }
    open.slots.iter_mut().filter(|slot| is_not_finite(slot)).for_each(|slot| slot.is_checked = true);
    if !second::is_settled(open, members) {
        // A device that lies is found by the comparison, not taken for bad data.
        return second::lease(state, now_ms, actions);
    }
    let step = open.plan.step;
    let Phase::Step(open) = &state.phase else { return };
    let culprit = culprits(state, open);
    stop(state, format!("step {step}: a gradient is not finite in {culprit}"), actions);
}

fn is_not_finite(slot: &Slot) -> bool {
    slot.part.as_ref().is_some_and(|part| part.statistics.magnitudes.contains(&NOT_FINITE))
}

fn retry(state: &mut State, scale_log2: i32, exponents: Vec<i32>, reason: String, actions: &mut Vec<Action>) {
    let Phase::Step(open) = &mut state.phase else { return };
    open.progress = Progress::Appending;
    let (step, attempt) = (open.plan.step, open.plan.attempt + 1);
    actions.push(Action::Append(Record::Retry(Retry { step, attempt, scale_log2, exponents, reason })));
}

/// The microbatches with a gradient that is not finite, and their samples, in words.
fn culprits(state: &State, open: &OpenStep) -> String {
    let samples = state.setup.schedule.samples();
    let microbatches = state.setup.schedule.microbatches(open.plan.step);
    let name = |k: usize| {
        let ids: Vec<&str> = microbatches[k].iter().map(|&index| samples[index as usize].id.as_str()).collect();
        let by = open.slots[k].part.as_ref().map_or(String::new(), |part| match &part.second {
            Some(second) => format!("computed by {} and by {second}", part.worker),
            None => format!("computed by {}", part.worker),
        });
        format!("microbatch {k} (samples {}; {by})", ids.join(", "))
    };
    let named: Vec<String> = (0..open.slots.len()).filter(|&k| is_not_finite(&open.slots[k])).map(name).collect();
    named.join("; ")
}

/// Every microbatch has one live owner: form a new group. R5: a group is never used again.
fn reduce(state: &mut State, actions: &mut Vec<Action>) {
    state.generation += 1;
    let group = Group { epoch: state.journal.epoch, generation: state.generation };
    let State { phase: Phase::Step(open), members: workers, .. } = state else { return };
    let table = open.table();
    let mut own: BTreeMap<&str, Vec<Owned>> = BTreeMap::new();
    table.iter().for_each(|row| own.entry(&row.worker).or_default().push(row.clone()));
    let members = open.participants.clone();
    let world_size = members.len() as u32;
    for (rank, &connection) in (0u32..).zip(&members) {
        let (step, attempt) = (open.plan.step, open.plan.attempt);
        let worker = workers.get(&connection).map_or("", |member| &member.worker);
        let table = if rank < TABLES { table.clone() } else { own.remove(worker).unwrap_or_default() };
        actions.push(Action::Send(connection, Order::Reduce { group, step, attempt, rank, world_size, table }));
    }
    open.progress = Progress::Reducing { group, members, broken: Default::default() };
}

/// R5: a failed all-reduce keeps the sum.
pub(crate) fn broken(state: &mut State, connection: Connection, broken_group: Group, actions: &mut Vec<Action>) {
    let Phase::Step(open) = &mut state.phase else { return };
    if let Progress::Reducing { group, members, broken } = &mut open.progress
        && *group == broken_group
        && members.contains(&connection)
    {
        broken.insert(connection);
        abort(open, actions);
    }
}

/// Tells those that still wait in the group to stop.
fn abort(open: &OpenStep, actions: &mut Vec<Action>) {
    let Progress::Reducing { group, members, broken } = &open.progress else { return };
    let waits = |connection: &&Connection| !broken.contains(connection) && !open.ready.contains_key(connection);
    for &connection in members.iter().filter(waits) {
        actions.push(Action::Send(connection, Order::Abort(*group)));
    }
}

/// A worker has the step in its shadow.
pub(crate) fn ready(state: &mut State, connection: Connection, ready: Ready) {
    let Phase::Step(open) = &mut state.phase else { return };
    let Progress::Reducing { members, .. } = &open.progress else { return };
    if !open.is_attempt(ready.step, ready.attempt) || !members.contains(&connection) {
        return; // I6: a stale report
    }
    open.ready.insert(connection, ready);
}

/// A worker comes back with the step in its shadow: after the coordinator was lost, or after a broken stream (R4).
pub(crate) fn ready_in_hello(
    state: &mut State,
    connection: Connection,
    ready: Ready,
    now_ms: u64,
    actions: &mut Vec<Action>,
) {
    let worker = state.members.get(&connection).map(|member| member.worker.clone()).unwrap_or_default();
    let held = Held { step: ready.step, state: ready.state };
    if let Some(known) = state.journal.state(ready.step) {
        if known != ready.state {
            let what = format!("step {}: state {} is not the committed {known}", ready.step, ready.state);
            return disagreement(state, &what, &[worker], actions);
        }
        if let Some(member) = state.members.get_mut(&connection)
            && member.held.is_some_and(|held| held.step + 1 == ready.step)
        {
            member.held = Some(held);
            member.offer = None;
            actions.push(Action::Send(connection, Order::Commit { step: ready.step, state: ready.state }));
        }
        return;
    }
    adopt_ready(state, connection, ready, now_ms, actions);
}

/// Makes the open step from a READY and its table, if they are of the current attempt.
fn adopt_ready(state: &mut State, connection: Connection, ready: Ready, now_ms: u64, actions: &mut Vec<Action>) {
    if ready.step != state.journal.committed() + 1 {
        return;
    }
    match &mut state.phase {
        Phase::Step(open) if open.progress == Progress::Appending => {
            if open.is_attempt(ready.step, ready.attempt) {
                open.ready.insert(connection, ready); // it flips with the others
            }
            return;
        }
        Phase::Ending | Phase::Over => return,
        Phase::Step(_) | Phase::Boundary | Phase::Evaluation(_) => {}
    }
    let plan = state.plan(ready.step);
    let offered = state.members.get_mut(&connection).and_then(|member| member.offer.take()).map(|offer| offer.plan);
    if ready.attempt != plan.attempt || offered != Some(plan.hash) {
        return;
    }
    if ready.table.len() != plan.microbatches as usize {
        return await_table(state, connection, plan, now_ms, actions);
    }
    let mut slots = Slot::of(&state.setup, &plan, false);
    for Owned { microbatch, worker, digest, statistics, second } in ready.table.iter().cloned() {
        let Some(slot) = slots.get_mut(microbatch as usize) else { return };
        let part = CommittedMicrobatch { digest, worker, second, statistics };
        slot.owner = Some(connection);
        slot.part = Some(part);
    }
    if slots.iter().any(|slot| slot.part.is_none()) {
        return;
    }
    // The others of the replaced step must come anew: should this READY die, the same attempt opens again, and a result
    // of theirs that is still on its way would be taken for one of the new sum, which their new Plan has cleared.
    if let Phase::Step(replaced) = &state.phase {
        for other in replaced.participants.clone() {
            let reason = format!("a worker with the whole sum of step {} came back", ready.step);
            fence(state, other, reason, actions);
        }
    }
    let group = Group { epoch: state.journal.epoch, generation: state.generation };
    let members = std::collections::BTreeSet::from([connection]);
    let progress = Progress::Reducing { group, members: members.clone(), broken: Default::default() };
    let ready = BTreeMap::from([(connection, ready)]);
    let open = OpenStep { plan, replay: false, participants: members, slots, ready, progress, recheck: None };
    state.phase = Phase::Step(Box::new(open));
}

/// A READY with its own rows only. Whoever has the whole table commits with it, or others commit the step without it: it
/// comes again until then. If nobody is left who could, the step is planned anew, since nothing else ends a READY (R4).
fn await_table(state: &mut State, connection: Connection, plan: Plan, now_ms: u64, actions: &mut Vec<Action>) {
    let others_work = match &state.phase {
        Phase::Step(open) => !open.participants.is_empty(),
        Phase::Evaluation(_) => true,
        Phase::Boundary | Phase::Ending | Phase::Over => false,
    };
    if others_work || boundary::awaits_return(state, now_ms) {
        let reason = "it is READY without the whole table, and comes again";
        lost(state, connection, reason, actions);
        return actions.push(Action::Close(connection, reason.to_owned()));
    }
    let (step, attempt, scale_log2) = (plan.step, plan.attempt + 1, plan.scale_log2);
    let (exponents, slots) = (plan.exponents.clone(), Slot::of(&state.setup, &plan, false));
    state.phase = Phase::Step(Box::new(OpenStep {
        plan,
        replay: false,
        participants: Default::default(),
        slots,
        ready: Default::default(),
        progress: Progress::Appending,
        recheck: None,
    }));
    let reason = "nobody lives who has the table of the attempt".to_owned();
    actions.push(Action::Append(Record::Retry(Retry { step, attempt, scale_log2, exponents, reason })));
}

/// R2: commit when every live member of the group is READY, or waits for a Fetch while a READY lives.
fn decide(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    let Phase::Step(open) = &mut state.phase else { return };
    if open.recheck.is_some() {
        return recheck::decide(state, now_ms, actions);
    }
    let Progress::Reducing { members, broken, .. } = &open.progress else { return };
    if !members.iter().all(|c| open.ready.contains_key(c) || broken.contains(c)) {
        return;
    }
    if open.ready.is_empty() {
        open.progress = Progress::Leasing;
        free_orphans(open);
        let message =
            format!("step {}: the reduction broke; what only a lost worker had is leased again", open.plan.step);
        return actions.push(Action::Note(message));
    }
    agree(state, now_ms, actions);
}

fn agree(state: &mut State, now_ms: u64, actions: &mut Vec<Action>) {
    let State { phase: Phase::Step(open), members, journal, .. } = state else { return };
    let expected = open.sum_of_digests();
    let name = |connection: &Connection| members.get(connection).map(|m| m.worker.clone()).unwrap_or_default();
    let step = open.plan.step;
    let names = |is_wrong: &dyn Fn(&str, &Ready) -> bool| -> Vec<String> {
        let all = open.ready.iter().map(|(connection, ready)| (name(connection), ready));
        all.filter(|(worker, ready)| is_wrong(worker, ready)).map(|(worker, _)| worker).collect()
    };
    let own = open.sums_of_digests();
    let wrong = names(&|worker, ready| ready.own_digest != own.get(worker).copied().unwrap_or(0));
    if !wrong.is_empty() {
        let what = format!("step {step}: a worker's sum is not that of the microbatches it was told to keep");
        return disagreement(state, &what, &wrong, actions);
    }
    let wrong = names(&|_, ready| ready.sum_digest != expected);
    if !wrong.is_empty() {
        let what = format!("step {step}: the digest of the reduced sum is not the sum of the microbatches' digests");
        return disagreement(state, &what, &wrong, actions);
    }
    let first = open.ready.values().next().expect("agree is called with at least one READY").clone();
    if open.ready.values().any(|ready| ready.state != first.state) {
        return recheck::ask(state, now_ms, actions);
    }
    if open.replay {
        let known = journal.commit(step).expect("a step is replayed only while it is remembered");
        if known.sum_digest != expected || known.state != first.state {
            let all: Vec<String> = open.ready.keys().map(name).collect();
            let what = format!("replay of step {step} gives state {}, the journal has {}", first.state, known.state);
            return disagreement(state, &what, &all, actions);
        }
        return committed(state, step, first.state, actions);
    }
    let parts = (0u32..).zip(&open.slots).filter_map(|(k, slot)| Some((k, slot.part.clone()?))).collect();
    let commit = Commit {
        step,
        attempt: open.plan.attempt,
        time_ms: now_ms,
        plan: open.plan.hash,
        microbatches: parts,
        sum_digest: expected,
        state: first.state,
        gradient_norm_bits: first.gradient_norm_bits,
    };
    open.progress = Progress::Appending;
    actions.push(Action::Append(Record::Commit(Box::new(commit))));
}

/// The step is durable (or replayed): those that are READY flip, the others fetch at the boundary.
pub(crate) fn committed(state: &mut State, step: u64, digest: Digest, actions: &mut Vec<Action>) {
    let Phase::Step(open) = std::mem::replace(&mut state.phase, Phase::Boundary) else { return };
    for (connection, ready) in open.ready {
        if ready.state != digest {
            let worker = state.members.get(&connection).map(|member| member.worker.clone()).unwrap_or_default();
            let what = format!("step {step}: {worker} is ready with state {}, committed is {digest}", ready.state);
            return disagreement(state, &what, &[worker], actions);
        }
        if let Some(member) = state.members.get_mut(&connection) {
            member.offer = None;
            member.held = Some(Held { step, state: digest });
            member.leases.clear();
            actions.push(Action::Send(connection, Order::Commit { step, state: digest }));
        }
    }
}

/// A worker of the open step is gone: its leases and, until a READY lives, its microbatches are free again.
pub(crate) fn member_lost(state: &mut State, connection: Connection, actions: &mut Vec<Action>) {
    let Phase::Step(open) = &mut state.phase else { return };
    if open.progress == Progress::Appending || !open.participants.remove(&connection) {
        return;
    }
    open.ready.remove(&connection);
    let mut anew = vec![];
    for (microbatch, slot) in (0u32..).zip(&mut open.slots) {
        slot.leased.take_if(|leased| *leased == connection);
        slot.second.take_if(|second| *second == connection);
        // The parts of a lost worker stay in the table while a READY may live: the Commit names who computed them.
        if slot.owner == Some(connection) && open.progress == Progress::Leasing {
            slot.free();
            anew.push(microbatch);
        }
    }
    if let Progress::Reducing { members, broken, .. } = &mut open.progress {
        members.remove(&connection);
        broken.remove(&connection);
        abort(open, actions);
    }
    for microbatch in anew {
        second::withdraw_second(state, microbatch, actions);
    }
}

/// Frees what dead owners had, now that it is sure that no READY lives.
fn free_orphans(open: &mut OpenStep) {
    let OpenStep { slots, participants, .. } = open;
    for slot in slots.iter_mut().filter(|slot| slot.owner.is_some_and(|owner| !participants.contains(&owner))) {
        slot.free();
    }
}
