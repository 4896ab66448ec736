//! Wire messages to the core's events, the core's orders to wire messages. No decisions.

use coordinator_core::digest::Digest;
use coordinator_core::event::{Class, Connection, Done, Group, Held, Hello, Owned, Ready, Report};
use coordinator_core::statistics::{StageStatistics, Statistics};
use coordinator_core::{Order, plan::Plan};
use polya_proto::v1;
use polya_proto::v1::coordinator_message::Body;
use polya_proto::v1::worker_message;

/// A message that breaks the protocol; its sender is cut off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A message without a body.
    #[error("an empty message")]
    Empty,
    /// A digest that is not 32 bytes.
    #[error("{0} is not a digest of 32 bytes")]
    Digest(&'static str),
    /// A part of a message is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Statistics that are not of four stages.
    #[error("statistics of {0} stages instead of 4")]
    Stages(usize),
}

fn digest(bytes: &[u8], name: &'static str) -> Result<Digest, WireError> {
    Digest::from_bytes(bytes).ok_or(WireError::Digest(name))
}

/// What a worker said. `EvaluationDone` keeps only its unit here; the shell keeps the result.
pub fn report(body: worker_message::Body) -> Result<Report, WireError> {
    use worker_message::Body;
    Ok(match body {
        Body::Hello(hello) => Report::Hello(Box::new(self::hello(hello)?)),
        Body::Done(done) => Report::Done(self::done(done)?),
        Body::Broken(broken) => Report::Broken(group(broken.group)?),
        Body::Ready(ready) => Report::Ready(self::ready(ready)?),
        Body::Idle(idle) => Report::Idle(held(&idle)?),
        Body::EvaluationDone(done) => Report::EvaluationDone(done.unit),
        Body::Heartbeat(_) => Report::Heartbeat,
        Body::Left(left) => Report::Left(left.reason),
        Body::Failed(failed) => Report::Failed(failed.culprit),
        Body::Rechecked(idle) => Report::Rechecked(held(&idle)?),
        Body::Class(class) => Report::Class(self::class(class)?),
    })
}

fn hello(hello: v1::Hello) -> Result<Hello, WireError> {
    Ok(Hello {
        worker: hello.worker,
        incarnation: hello.incarnation,
        peer_address: hello.peer_address,
        held: hello.idle.as_ref().map(held).transpose()?,
        step: hello.step,
        attempt: hello.attempt,
        plan: if hello.plan_hash.is_empty() { None } else { Some(digest(&hello.plan_hash, "plan_hash")?) },
        kept: hello.kept.into_iter().map(done).collect::<Result<_, _>>()?,
        ready: hello.ready.map(ready).transpose()?,
        class: hello.class.map(class).transpose()?,
    })
}

fn class(class: v1::Class) -> Result<Class, WireError> {
    Ok(Class { digest: digest(&class.digest, "class")?, words: class.words })
}

fn held(idle: &v1::Idle) -> Result<Held, WireError> {
    Ok(Held { step: idle.step, state: digest(&idle.state_digest, "state_digest")? })
}

fn group(group: Option<v1::Group>) -> Result<Group, WireError> {
    let group = group.ok_or(WireError::Missing("group"))?;
    Ok(Group { epoch: group.epoch, generation: group.generation })
}

fn done(done: v1::Done) -> Result<Done, WireError> {
    Ok(Done {
        step: done.step,
        attempt: done.attempt,
        microbatch: done.microbatch,
        digest: done.digest,
        statistics: statistics(done.statistics.ok_or(WireError::Missing("statistics"))?)?,
    })
}

fn ready(ready: v1::Ready) -> Result<Ready, WireError> {
    let row = |row: v1::OwnedMicrobatch| {
        Ok(Owned {
            microbatch: row.microbatch,
            worker: row.worker,
            digest: row.digest,
            statistics: statistics(row.statistics.ok_or(WireError::Missing("statistics"))?)?,
            second: Some(row.second_worker).filter(|worker| !worker.is_empty()),
        })
    };
    Ok(Ready {
        step: ready.step,
        attempt: ready.attempt,
        sum_digest: ready.sum_digest,
        state: digest(&ready.state_digest, "state_digest")?,
        gradient_norm_bits: ready.gradient_norm_bits,
        own_digest: ready.own_digest,
        table: ready.table.into_iter().map(row).collect::<Result<_, WireError>>()?,
    })
}

/// Statistics of a microbatch.
pub fn statistics(wire: v1::MicrobatchStatistics) -> Result<Statistics, WireError> {
    let stage = |stage: &v1::StageStatistics| StageStatistics {
        tokens: stage.tokens,
        loss: stage.loss,
        correct: stage.correct,
        clean_tokens: stage.clean_tokens,
        clean_loss: stage.clean_loss,
    };
    let stages: Vec<StageStatistics> = wire.stages.iter().map(stage).collect();
    Ok(Statistics {
        stages: stages.try_into().map_err(|stages: Vec<_>| WireError::Stages(stages.len()))?,
        transition: wire.transition,
        samples: wire.samples,
        tokens: wire.tokens,
        magnitudes: wire.magnitudes,
    })
}

fn statistics_to_wire(statistics: Statistics) -> v1::MicrobatchStatistics {
    let stage = |stage: StageStatistics| v1::StageStatistics {
        tokens: stage.tokens,
        loss: stage.loss,
        correct: stage.correct,
        clean_tokens: stage.clean_tokens,
        clean_loss: stage.clean_loss,
    };
    v1::MicrobatchStatistics {
        stages: statistics.stages.map(stage).to_vec(),
        transition: statistics.transition,
        samples: statistics.samples,
        tokens: statistics.tokens,
        magnitudes: statistics.magnitudes,
    }
}

fn group_to_wire(group: Group) -> v1::Group {
    v1::Group { epoch: group.epoch, generation: group.generation }
}

fn plan_to_wire(plan: Plan, replay: bool, coordinator_epoch: u64) -> v1::Plan {
    v1::Plan {
        coordinator_epoch,
        step: plan.step,
        attempt: plan.attempt,
        learning_rate_bits: plan.learning_rate.to_bits(),
        loss_scale_log2: plan.scale_log2,
        exponents: plan.exponents,
        stage_weight_bits: plan.stage_weights.map(f32::to_bits).to_vec(),
        samples: plan.samples,
        learned_tokens: plan.learned_tokens,
        microbatches: plan.microbatches,
        bits: plan.bits,
        hash: plan.hash.0.to_vec(),
        replay,
    }
}

/// What only the shell can add to an order.
pub trait Contents {
    /// The coordinator's epoch.
    fn epoch(&self) -> u64;
    /// Welcome, with the run's settings.
    fn welcome(&self) -> v1::Welcome;
    /// The samples of a microbatch.
    fn samples(&self, step: u64, microbatch: u32) -> Vec<v1::Sample>;
    /// A unit of evaluation.
    fn evaluate(&self, unit: u64) -> Option<v1::Evaluate>;
}

/// The message of an order; none where its unit of evaluation is void by now.
pub fn message(order: Order, contents: &impl Contents) -> Option<v1::CoordinatorMessage> {
    let epoch = contents.epoch();
    let body = match order {
        Order::Welcome => Body::Welcome(contents.welcome()),
        Order::Refuse { reason, exit_code } => Body::Refuse(v1::Refuse { reason, exit_code }),
        Order::Load { step, state } => {
            Body::Load(v1::Load { step, state_digest: state.map(|state| state.0.to_vec()).unwrap_or_default() })
        }
        Order::Fetch { step, state, peer_address } => {
            Body::Fetch(v1::Fetch { step, state_digest: state.0.to_vec(), peer_address })
        }
        Order::Plan { plan, replay } => Body::Plan(plan_to_wire(plan, replay, epoch)),
        Order::Lease { step, attempt, microbatch } => {
            let samples = contents.samples(step, microbatch);
            Body::Lease(v1::Lease { step, attempt, microbatch, samples, measure: false })
        }
        Order::Keep { step, attempt, microbatch } => Body::Keep(v1::Keep { step, attempt, microbatch }),
        Order::Drop { step, attempt, microbatch } => Body::Drop(v1::Drop { step, attempt, microbatch }),
        Order::Reduce { group, step, attempt, rank, world_size, table } => {
            let row = |row: Owned| v1::OwnedMicrobatch {
                microbatch: row.microbatch,
                worker: row.worker,
                digest: row.digest,
                statistics: Some(statistics_to_wire(row.statistics)),
                second_worker: row.second.unwrap_or_default(),
            };
            let table = table.into_iter().map(row).collect();
            Body::Reduce(v1::Reduce { group: Some(group_to_wire(group)), step, attempt, rank, world_size, table })
        }
        Order::Abort(group) => Body::Abort(v1::Abort { group: Some(group_to_wire(group)) }),
        Order::Commit { step, state } => {
            Body::Commit(v1::Commit { coordinator_epoch: epoch, step, state_digest: state.0.to_vec() })
        }
        Order::Save { step } => Body::Save(v1::Save { step }),
        Order::Evaluate { unit } => Body::Evaluate(contents.evaluate(unit)?),
        Order::Leave { reason, exit_code } => Body::Leave(v1::Leave { reason, exit_code }),
        Order::Recheck => Body::Recheck(v1::Recheck {}),
        Order::Fence { reason, incarnation } => Body::Fence(v1::Fence { reason, incarnation }),
    };
    Some(v1::CoordinatorMessage { body: Some(body) })
}

/// What the driver hears from a stream.
#[derive(Debug)]
pub struct Heard {
    /// Whose.
    pub connection: Connection,
    /// What.
    pub body: worker_message::Body,
}
