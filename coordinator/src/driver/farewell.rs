//! The end of a run on the wire: what was said last arrives before the server goes.

use std::time::Duration;

use coordinator_core::{End, Order};
use polya_proto::exit;
use tokio::sync::mpsc;

use super::Driver;
use crate::service::Input;

impl Driver {
    /// Waits until the workers that were told to leave have ended their streams: only then has the order arrived. Who
    /// comes meanwhile is told too. After `limit` the rest is left to its park limit.
    pub async fn see_off(&mut self, end: &End, inputs: &mut mpsc::Receiver<Input>, limit: Duration) {
        let (reason, exit_code) = match end {
            End::Finished => ("the run is finished", exit::FINISHED),
            End::Drained | End::Stopped(_) => ("the run has stopped", exit::LEFT),
        };
        let all_gone = async {
            while !self.outboxes.is_empty() {
                match inputs.recv().await {
                    Some(Input::Connected(connection, outbox)) => {
                        self.outboxes.insert(connection, outbox);
                        self.send(connection, Order::Leave { reason: reason.to_owned(), exit_code });
                    }
                    Some(Input::Disconnected(connection)) => drop(self.outboxes.remove(&connection)),
                    Some(_) => {} // the run is over: whoever asks for something hears that the coordinator stops
                    None => return,
                }
            }
        };
        if tokio::time::timeout(limit, all_gone).await.is_err() {
            tracing::warn!(
                workers = self.outboxes.len(),
                "not all workers left in {limit:?}; they will park and give up"
            );
        }
    }
}
