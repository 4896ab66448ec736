//! A worker's life: the real member on a runtime of its own. A crash ends that runtime with everything in it, wherever it
//! stands, and the network sees the ends of its connections.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use worker_member::trainer::TrainerFactory;
use worker_member::{MemberOptions, Outcome, run_member};

use crate::storm::Happened;

/// Longer than any storm.
const PARK_LIMIT: Duration = Duration::from_secs(600);

/// A living worker.
pub(crate) struct Worker {
    crash: Option<oneshot::Sender<()>>,
    leave: Option<oneshot::Sender<()>>,
}

impl Worker {
    /// Starts one; its end is told.
    pub(crate) fn start(
        index: usize,
        incarnation: u64,
        coordinator: SocketAddr,
        factory: Box<dyn TrainerFactory>,
        happened: mpsc::UnboundedSender<Happened>,
    ) -> Worker {
        let options = MemberOptions {
            coordinator: coordinator.to_string(),
            token: None,
            tls: None,
            worker: name(index),
            incarnation,
            host: None,
            park_limit: Some(PARK_LIMIT),
            software: "a storm's".to_owned(),
            device: "cpu".to_owned(),
        };
        let (crash, crashed) = oneshot::channel();
        let (leave, told) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let told = async {
                match told.await {
                    Ok(()) => "the storm wants it to leave".to_owned(),
                    Err(_) => std::future::pending().await,
                }
            };
            let outcome: Option<Outcome> = runtime.block_on(async {
                tokio::select! {
                    outcome = run_member(options, factory, told) => Some(outcome),
                    _ = crashed => None,
                }
            });
            drop(runtime);
            // The storm may be over.
            let _ = happened.send(Happened::WorkerEnded(index, outcome));
        });
        Worker { crash: Some(crash), leave: Some(leave) }
    }

    /// Ends it as SIGKILL does. False if it was dying already.
    pub(crate) fn crash(&mut self) -> bool {
        self.crash.take().is_some_and(|crash| crash.send(()).is_ok())
    }

    /// Tells it to leave, as SIGTERM does. False if it was told before.
    pub(crate) fn leave(&mut self) -> bool {
        self.leave.take().is_some_and(|leave| leave.send(()).is_ok())
    }
}

/// A worker's name in the run.
pub(crate) fn name(index: usize) -> String {
    format!("w{index}")
}
