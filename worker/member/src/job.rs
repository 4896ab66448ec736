//! The trainer's thread: one job after the other, each answered by one report.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use polya_proto::v1::evaluate::Work;
use polya_proto::v1::evaluation_done::Result as Scored;
use polya_proto::v1::{Class, Done, Evaluate, EvaluationDone, Generated, Group, Idle, Lease, Plan, Settings};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::trainer::{
    AbortHandle, Membership, Rendezvous, Shadow, StateDigest, StateFiles, Trainer, TrainerError, TrainerFactory,
};

/// What the trainer shall do. The queue is bounded by the protocol: a few leases and one order a step.
#[derive(Debug)]
pub(crate) enum Job {
    Build(Box<Settings>),
    Initial,
    Load {
        step: u64,
        files: StateFiles,
        expected: Vec<u8>,
        source: String,
    },
    Compute {
        work: u64,
        plan: Plan,
        lease: Lease,
    },
    Keep {
        microbatch: u32,
    },
    Discard {
        microbatch: u32,
    },
    Clear,
    Reduce {
        plan: Plan,
        group: Group,
        rank: u32,
        world_size: u32,
        host: String,
    },
    Flip {
        now: Idle,
    },
    Recheck {
        step: u64,
    },
    Save {
        step: u64,
        session: u64,
    },
    /// Save, for a peer that waits.
    Serve(oneshot::Sender<StateFiles>),
    Evaluate {
        evaluate: Evaluate,
        session: u64,
    },
}

/// What came of it.
pub(crate) enum Report {
    Built(Arc<dyn AbortHandle>, Class),
    Loaded { step: u64, digest: StateDigest, expected: Vec<u8>, source: String },
    Computed { work: u64, done: Done },
    Reduced { group: Group, result: Result<Shadow, TrainerError> },
    Flipped(Idle),
    Rechecked(Idle),
    Saved { step: u64, session: u64, files: StateFiles },
    Evaluated { done: EvaluationDone, session: u64 },
    Quiet,
    Failed { during: &'static str, error: TrainerError },
    Panicked(String),
}

/// Makes the rendezvous of a group.
pub(crate) type MakeRendezvous = Box<dyn Fn(Group) -> Arc<dyn Rendezvous> + Send>;

/// A handle on the trainer's thread.
pub(crate) struct TrainerThread {
    jobs: mpsc::Sender<Job>,
    /// Grows with every job that is done.
    pub(crate) progress: Arc<AtomicU64>,
}

impl TrainerThread {
    /// Starts the thread. It ends with the handle, or with the first failure.
    pub(crate) fn start(
        factory: Box<dyn TrainerFactory>,
        rendezvous: MakeRendezvous,
        reports: UnboundedSender<Report>,
    ) -> std::io::Result<TrainerThread> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let progress = Arc::new(AtomicU64::new(0));
        let count = progress.clone();
        std::thread::Builder::new().name("trainer".to_owned()).spawn(move || {
            let mut bench = Bench { factory, rendezvous, trainer: None };
            while let Ok(job) = inbox.recv() {
                let report = catch_unwind(AssertUnwindSafe(|| bench.run(job)))
                    .unwrap_or_else(|cause| Report::Panicked(text(&*cause)));
                count.fetch_add(1, Ordering::Relaxed);
                let is_last = matches!(report, Report::Failed { .. } | Report::Panicked(_));
                if reports.send(report).is_err() || is_last {
                    return;
                }
            }
        })?;
        Ok(TrainerThread { jobs, progress })
    }

    /// Queues a job. Nothing happens after a failure: its report is on the way and ends the process.
    pub(crate) fn queue(&self, job: Job) {
        let _ = self.jobs.send(job);
    }
}

struct Bench {
    factory: Box<dyn TrainerFactory>,
    rendezvous: MakeRendezvous,
    trainer: Option<Box<dyn Trainer>>,
}

impl Bench {
    fn run(&mut self, job: Job) -> Report {
        let during = job.name();
        self.try_run(job).unwrap_or_else(|error| Report::Failed { during, error })
    }

    fn try_run(&mut self, job: Job) -> Result<Report, TrainerError> {
        if let Job::Build(settings) = job {
            let trainer = self.trainer.insert(self.factory.build(&settings)?);
            return Ok(Report::Built(trainer.abort_handle(), trainer.class()?));
        }
        let trainer =
            self.trainer.as_mut().ok_or_else(|| TrainerError::Fatal("an order before a Welcome".to_owned()))?;
        Ok(match job {
            Job::Build(_) => Report::Quiet,
            Job::Initial => {
                let digest = trainer.initial_state()?;
                // The coordinator compares: a difference is another class of processor, which it refuses by name.
                Report::Loaded { step: 0, digest, expected: vec![], source: String::new() }
            }
            Job::Load { step, files, expected, source } => {
                let digest = trainer.load(step, &files)?;
                Report::Loaded { step, digest, expected, source }
            }
            Job::Compute { work, plan, lease } => Report::Computed { work, done: trainer.compute(&plan, &lease)? },
            Job::Keep { microbatch } => {
                trainer.keep(microbatch)?;
                Report::Quiet
            }
            Job::Discard { microbatch } => {
                trainer.discard(microbatch);
                Report::Quiet
            }
            Job::Clear => {
                trainer.clear();
                Report::Quiet
            }
            Job::Reduce { plan, group, rank, world_size, host } => {
                let membership = Membership { group, rank, world_size, host };
                let result = trainer.reduce(&plan, &membership, (self.rendezvous)(group));
                Report::Reduced { group, result }
            }
            Job::Flip { now } => {
                trainer.flip()?;
                Report::Flipped(now)
            }
            Job::Recheck { step } => {
                Report::Rechecked(Idle { step, state_digest: trainer.committed_digest()?.to_vec() })
            }
            Job::Save { step, session } => Report::Saved { step, session, files: trainer.save()? },
            Job::Serve(reply) => {
                // The peer may have gone; that is its own affair.
                let _ = reply.send(trainer.save()?);
                Report::Quiet
            }
            Job::Evaluate { evaluate, session } => {
                Report::Evaluated { done: score(&mut **trainer, evaluate)?, session }
            }
        })
    }
}

impl Job {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Job::Build(_) => "loading the base",
            Job::Initial => "making the state of step 0",
            Job::Load { .. } => "loading a state",
            Job::Compute { .. } => "computing a microbatch",
            Job::Keep { .. } => "adding to the sum",
            Job::Discard { .. } => "dropping a microbatch",
            Job::Clear => "clearing the sum",
            Job::Reduce { .. } => "reducing",
            Job::Flip { .. } => "flip",
            Job::Recheck { .. } => "folding the state again",
            Job::Save { .. } | Job::Serve(_) => "saving the state",
            Job::Evaluate { .. } => "evaluating",
        }
    }
}

fn score(trainer: &mut dyn Trainer, evaluate: Evaluate) -> Result<EvaluationDone, TrainerError> {
    let result = match &evaluate.work {
        Some(Work::Generate(work)) => {
            Some(Scored::Generated(Generated { continuations: trainer.generate(evaluate.adapters, work)? }))
        }
        Some(Work::Holdout(work)) => Some(Scored::Holdout(trainer.holdout(evaluate.adapters, work)?)),
        None => None,
    };
    Ok(EvaluationDone { unit: evaluate.unit, result })
}

/// The words of a panic.
fn text(cause: &(dyn std::any::Any + Send)) -> String {
    let known = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    known.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
