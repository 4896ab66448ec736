//! Gloo as a transport, the one inside libtorch: words of the processor's memory over TCP.

use std::sync::Arc;

use worker_member::trainer::Rendezvous;

use super::group::{Seat, Transport};
use crate::ffi::gloo::RawGroup;

/// Connects a full mesh.
pub(crate) fn connect(store: &dyn Rendezvous, seat: &Seat) -> Result<Arc<dyn Transport>, String> {
    let group = RawGroup::connect(store, seat.rank, seat.world_size, &seat.host, seat.timeout)?;
    Ok(Arc::new(group))
}

impl Transport for RawGroup {
    fn all_reduce_i32(&self, words: &mut [i32]) -> Result<(), String> {
        RawGroup::all_reduce_i32(self, words)
    }

    fn close(&self) {
        if let Err(reason) = self.abort() {
            tracing::debug!(reason, "closing a group's connections");
        }
    }
}
