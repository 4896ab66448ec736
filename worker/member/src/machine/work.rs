//! The open step: plan, leases, the sum, the all-reduce, READY, Commit.

use std::collections::{BTreeMap, VecDeque};

use polya_proto::v1::worker_message::Body as Message;
use polya_proto::v1::{Broken, Commit, Done, Drop, Group, Idle, Keep, Lease, Plan, Ready, Reduce};

use super::{Effect, Machine, crash, hex};
use crate::job::Job;
use crate::trainer::{Shadow, TrainerError};

#[derive(Debug)]
pub(super) enum Phase {
    /// No step is open. The state, if any, is in `held`.
    Idle,
    Work(Work),
    Reducing(Work, Reduce),
    Ready(Work, Ready),
}

/// The sum of one attempt and what may still come into it.
#[derive(Debug)]
pub(super) struct Work {
    /// Distinguishes this sum from every other of this process.
    pub(super) id: u64,
    pub(super) plan: Plan,
    pub(super) kept: BTreeMap<u32, Done>,
    /// Done, neither kept nor dropped yet.
    pub(super) done: BTreeMap<u32, Done>,
    pub(super) leases: VecDeque<Lease>,
}

#[derive(Debug)]
pub(super) struct Computing {
    pub(super) work: u64,
    pub(super) microbatch: u32,
    /// Its stream is gone or the lease was withdrawn.
    pub(super) void: bool,
}

impl Machine {
    pub(super) fn plan(&mut self, plan: Plan) -> Result<Vec<Effect>, String> {
        if plan.coordinator_epoch < self.epoch {
            return Err(format!("a plan of epoch {}, the run is at {}", plan.coordinator_epoch, self.epoch)); // R6
        }
        if self.held.as_ref().map(|held| held.step + 1) != Some(plan.step) {
            return Err(format!("a plan of step {}, but the state here is {}", plan.step, self.describe_held()));
        }
        if let Phase::Ready(work, _) = &self.phase
            && plan.attempt <= work.plan.attempt
        {
            return Err(format!("a plan of attempt {} while READY({})", plan.attempt, work.plan.attempt)); // R4
        }
        self.fetching = None; // the plan is for the state here: a second copy of it, from another peer, is not awaited
        let mut effects = self.drop_work();
        let id = self.count();
        self.phase =
            Phase::Work(Work { id, plan, kept: BTreeMap::new(), done: BTreeMap::new(), leases: VecDeque::new() });
        effects.push(Effect::Job(Job::Clear));
        Ok(effects)
    }

    pub(super) fn lease(&mut self, lease: Lease) -> Result<Vec<Effect>, String> {
        let Phase::Work(work) = &mut self.phase else {
            return Err(format!("a lease of step {} without a plan to work on", lease.step));
        };
        let k = lease.microbatch;
        if !is_of(&work.plan, lease.step, lease.attempt) {
            return Err(format!("a lease of step {}, attempt {}, which is not planned", lease.step, lease.attempt));
        }
        if work.kept.contains_key(&k) || work.done.contains_key(&k) {
            return Err(format!("microbatch {k} is leased again, it is here"));
        }
        work.leases.push_back(lease);
        Ok(self.next_compute())
    }

    /// One microbatch at a time, so that those behind it can be withdrawn.
    fn next_compute(&mut self) -> Vec<Effect> {
        let Phase::Work(work) = &mut self.phase else { return vec![] };
        if self.computing.is_some() {
            return vec![];
        }
        let Some(lease) = work.leases.pop_front() else { return vec![] };
        self.computing = Some(Computing { work: work.id, microbatch: lease.microbatch, void: false });
        vec![Effect::Job(Job::Compute { work: work.id, plan: work.plan.clone(), lease })]
    }

    pub(super) fn computed(&mut self, work_id: u64, done: Done) -> Vec<Effect> {
        let void = self.computing.take().is_none_or(|computing| computing.void);
        let mut effects = Vec::new();
        if let Phase::Work(work) = &mut self.phase
            && work.id == work_id
        {
            if void {
                effects.push(Effect::Job(Job::Discard { microbatch: done.microbatch }));
            } else {
                work.done.insert(done.microbatch, done.clone());
                effects.push(Effect::Send(Message::Done(done)));
            }
        }
        effects.extend(self.next_compute());
        effects
    }

    /// R1: only what is kept comes into the sum.
    pub(super) fn keep(&mut self, keep: &Keep) -> Result<Vec<Effect>, String> {
        let k = keep.microbatch;
        let Phase::Work(work) = &mut self.phase else { return Ok(vec![]) };
        if !is_of(&work.plan, keep.step, keep.attempt) {
            return Ok(vec![]); // of an attempt that is over
        }
        let Some(done) = work.done.remove(&k) else { return Err(format!("told to keep microbatch {k}, not here")) };
        work.kept.insert(k, done);
        Ok(vec![Effect::Job(Job::Keep { microbatch: k })])
    }

    pub(super) fn drop(&mut self, drop: &Drop) -> Vec<Effect> {
        let Phase::Work(work) = &mut self.phase else { return vec![] };
        if !is_of(&work.plan, drop.step, drop.attempt) {
            return vec![];
        }
        let k = drop.microbatch;
        work.leases.retain(|lease| lease.microbatch != k);
        if let Some(computing) = &mut self.computing
            && (computing.work, computing.microbatch) == (work.id, k)
        {
            computing.void = true;
        }
        work.done.remove(&k).map(|_| Effect::Job(Job::Discard { microbatch: k })).into_iter().collect()
    }

    pub(super) fn reduce(&mut self, reduce: Reduce) -> Result<Vec<Effect>, String> {
        let Some(group) = reduce.group else { return Err("a Reduce without a group".to_owned()) };
        if group.epoch != self.epoch || group.generation <= self.generation {
            let (epoch, generation) = (self.epoch, self.generation);
            return Err(format!("group {}/{} after {epoch}/{generation}", group.epoch, group.generation)); // R5, R6
        }
        let Phase::Work(work) = &self.phase else {
            return Err("told to reduce without a sum".to_owned()); // R5: a READY joins no new group
        };
        if !is_of(&work.plan, reduce.step, reduce.attempt) {
            return Err(format!("told to reduce step {}, attempt {}", reduce.step, reduce.attempt));
        }
        let mine: BTreeMap<u32, u64> = reduce
            .table
            .iter()
            .filter(|row| row.worker == self.identity.worker)
            .map(|row| (row.microbatch, row.digest))
            .collect();
        let kept: BTreeMap<u32, u64> = work.kept.iter().map(|(k, done)| (*k, done.digest)).collect();
        if mine != kept {
            return Err(format!("the table says that this sum holds {:?}, it holds {:?}", mine.keys(), kept.keys()));
        }
        self.generation = group.generation;
        let Phase::Work(work) = std::mem::replace(&mut self.phase, Phase::Idle) else { return Ok(vec![]) };
        let job = Job::Reduce {
            plan: work.plan.clone(),
            group,
            rank: reduce.rank,
            world_size: reduce.world_size,
            host: self.identity.host.clone(),
        };
        self.phase = Phase::Reducing(work, reduce);
        Ok(vec![Effect::Job(job)])
    }

    pub(super) fn reduced(&mut self, group: Group, result: Result<Shadow, TrainerError>) -> Vec<Effect> {
        let is_current = matches!(&self.phase, Phase::Reducing(_, reduce) if reduce.group == Some(group));
        if !is_current {
            return vec![]; // given up for a newer plan or state
        }
        let Phase::Reducing(work, reduce) = std::mem::replace(&mut self.phase, Phase::Idle) else { return vec![] };
        match result {
            Ok(shadow) => {
                let ready = Ready {
                    step: work.plan.step,
                    attempt: work.plan.attempt,
                    sum_digest: shadow.sum_digest,
                    state_digest: shadow.state_digest.to_vec(),
                    table: reduce.table,
                    gradient_norm_bits: shadow.gradient_norm.to_bits(),
                    own_digest: shadow.own_digest,
                };
                self.phase = Phase::Ready(work, ready.clone());
                // Who made the table knows it; a coordinator that does not gets it with the Hello.
                vec![Effect::Send(Message::Ready(Ready { table: vec![], ..ready }))]
            }
            // R5: back to WORK with the sum.
            Err(TrainerError::Broken { reason, .. }) => {
                self.phase = Phase::Work(work);
                vec![Effect::Send(Message::Broken(Broken { group: Some(group), reason }))]
            }
            // R5: past the all-reduce there is no way back.
            Err(error) => vec![crash(format!("optimiser step of step {}: {error}", work.plan.step))],
        }
    }

    pub(super) fn commit(&mut self, commit: &Commit) -> Result<Vec<Effect>, String> {
        if commit.coordinator_epoch < self.epoch {
            let (of, at) = (commit.coordinator_epoch, self.epoch);
            return Err(format!("a Commit of epoch {of}, the run is at {at}")); // R6
        }
        let committed = Idle { step: commit.step, state_digest: commit.state_digest.clone() };
        if self.held.as_ref() == Some(&committed) {
            return Ok(vec![Effect::Send(Message::Idle(committed))]); // told twice
        }
        match &self.phase {
            Phase::Ready(work, ready) if work.plan.step == commit.step => {
                if ready.state_digest != commit.state_digest {
                    let (here, there) = (hex(&ready.state_digest), hex(&commit.state_digest));
                    return Ok(vec![crash(format!("step {}: {here} here, {there} committed", commit.step))]);
                }
                self.held = Some(committed.clone());
                self.phase = Phase::Idle;
                Ok(vec![Effect::Job(Job::Flip { now: committed })])
            }
            _ => Ok(vec![]), // a Fetch follows
        }
    }

    /// Gives up the open step. A running all-reduce is aborted, its result ignored.
    pub(super) fn drop_work(&mut self) -> Vec<Effect> {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Reducing(_, reduce) => reduce.group.map(Effect::Abort).into_iter().collect(),
            Phase::Idle | Phase::Work(_) | Phase::Ready(..) => vec![],
        }
    }
}

fn is_of(plan: &Plan, step: u64, attempt: u32) -> bool {
    plan.step == step && plan.attempt == attempt
}
