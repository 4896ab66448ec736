//! Publishing in the background: the run does not wait for the store.

use std::path::PathBuf;

use tokio::sync::mpsc;

use super::{Store, StoreError};
use crate::service::Input;

/// Checkpoints that may wait. A newer one that finds no room is not lost: the next one, or the end, copies it.
const WAITING_MAX: usize = 4;

/// Copies checkpoints and the journal to the store, one after the other.
#[derive(Debug)]
pub struct Publisher {
    jobs: mpsc::Sender<Option<u64>>,
    task: tokio::task::JoinHandle<()>,
}

struct Copier {
    store: Store,
    run_dir: PathBuf,
    epoch: u64,
    keep: u64,
}

impl Publisher {
    /// Starts it. `inputs` hears of a higher claim: then this coordinator no longer holds the run.
    pub fn start(store: Store, run_dir: PathBuf, epoch: u64, keep: u64, inputs: mpsc::Sender<Input>) -> Self {
        let (jobs, mut waiting) = mpsc::channel::<Option<u64>>(WAITING_MAX);
        let copier = Copier { store, run_dir, epoch, keep };
        let task = tokio::spawn(async move {
            while let Some(step) = waiting.recv().await {
                match copier.copy(step).await {
                    Ok(highest) if highest > copier.epoch => {
                        // The driver is gone only when the run is over.
                        let _ = inputs.send(Input::Superseded(highest)).await;
                        return;
                    }
                    Ok(_) => tracing::info!(?step, "the checkpoint and the journal are in the store"),
                    Err(error) => {
                        tracing::warn!(?step, %error, "the store could not be written; the next checkpoint is tried again");
                    }
                }
            }
        });
        Publisher { jobs, task }
    }

    /// A checkpoint is complete on disk; none: only the journal has grown.
    pub fn publish(&self, step: Option<u64>) {
        if self.jobs.try_send(step).is_err() {
            tracing::warn!(?step, "the store is slower than the checkpoints; this one is left out");
        }
    }

    /// Waits until everything that was published is copied.
    pub async fn finish(self) {
        drop(self.jobs);
        if self.task.await.is_err() {
            tracing::error!("copying to the store ended early");
        }
    }
}

impl Copier {
    /// Copies a checkpoint and the journal, unless somebody else holds the run. Gives the highest claim.
    async fn copy(&self, step: Option<u64>) -> Result<u64, StoreError> {
        let highest = self.store.highest_claim().await?;
        if highest > self.epoch {
            return Ok(highest);
        }
        if let Some(step) = step {
            self.store.put_checkpoint(&self.run_dir, step).await?;
        }
        self.store.put_journal(&self.run_dir).await?;
        self.store.prune(&self.run_dir, self.keep).await?;
        self.store.highest_claim().await
    }
}
