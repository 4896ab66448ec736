//! NCCL as a transport: words of a GPU's memory, between GPUs.
//!
//! The unique id goes through the coordinator's rendezvous. Every call is non-blocking and polled, so that an abort, a peer
//! that is gone or the time limit ends it: then the communicator is aborted and never used again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};
use worker_member::trainer::Rendezvous;

use super::AbortToken;
use super::group::{Seat, Transport};
use crate::ffi::cuda_stream::Stream;
use crate::ffi::nccl::{Communicator, NcclLibrary, Progress, UNIQUE_ID_BYTES};

/// Key of the unique id in the group's rendezvous.
const UNIQUE_ID: &str = "nccl_unique_id";
/// Time between two looks at a call that goes on.
const POLL: Duration = Duration::from_micros(200);

/// Joins the communicator of all ranks; words are staged on `device`.
pub(crate) fn connect(
    library: &Arc<NcclLibrary>,
    device: Device,
    store: &dyn Rendezvous,
    seat: &Seat,
    token: &AbortToken,
) -> Result<Arc<dyn Transport>, String> {
    let wait_ms = u64::try_from(seat.timeout.as_millis()).unwrap_or(u64::MAX);
    let id = if seat.rank == 0 {
        let id = library.unique_id()?;
        store.set(UNIQUE_ID, &id)?;
        id
    } else {
        let id = store.get(UNIQUE_ID, wait_ms)?;
        let id = id.ok_or_else(|| format!("rank 0 gave no unique id in {:?}", seat.timeout))?;
        <[u8; UNIQUE_ID_BYTES]>::try_from(id).map_err(|id| format!("a unique id of {} bytes", id.len()))?
    };
    let stream = Stream::current(device)?;
    let communicator = Communicator::join(library.clone(), &id, seat.rank, seat.world_size)?;
    let ranks = NcclRanks { communicator, device, stream, timeout: seat.timeout, token: token.clone() };
    ranks.until("joining", || ranks.communicator.progress())?;
    Ok(Arc::new(ranks))
}

struct NcclRanks {
    communicator: Communicator,
    device: Device,
    stream: Stream,
    timeout: Duration,
    token: AbortToken,
}

impl NcclRanks {
    /// Polls until done; whatever else happens aborts the communicator.
    fn until(&self, what: &str, mut poll: impl FnMut() -> Result<Progress, String>) -> Result<(), String> {
        let started = Instant::now();
        let reason = loop {
            match poll() {
                Ok(Progress::Done) => return Ok(()),
                Ok(Progress::GoesOn) if started.elapsed() >= self.timeout => {
                    break format!("not done in {:?}", self.timeout);
                }
                Ok(Progress::GoesOn) => {}
                Err(reason) => break reason,
            }
            if self.token.wait(POLL) {
                break "the group was aborted".to_owned();
            }
        };
        self.communicator.abort();
        Err(format!("{what}: {reason}"))
    }
}

impl Drop for NcclRanks {
    /// In order where all went well: peers may still wait for words that are on their way.
    fn drop(&mut self) {
        if self.communicator.finalize().is_ok() && self.until("leaving", || self.communicator.progress()).is_ok() {
            self.communicator.destroy();
        }
    }
}

impl Transport for NcclRanks {
    fn all_reduce_i32(&self, words: &mut [i32]) -> Result<(), String> {
        let staging = Tensor::from_slice(words).to_device(self.device);
        if let Err(reason) = self.communicator.all_reduce_i32(&staging, &self.stream) {
            self.communicator.abort();
            return Err(format!("starting: {reason}"));
        }
        self.until("all-reduce", || match self.communicator.progress()? {
            Progress::Done => self.stream.progress(),
            Progress::GoesOn => Ok(Progress::GoesOn),
        })?;
        let sum = staging.to_device(Device::Cpu);
        debug_assert_eq!(sum.kind(), Kind::Int);
        let count = words.len();
        sum.f_copy_data(words, count).map_err(|error| error.to_string())
    }

    fn close(&self) {
        self.communicator.abort();
    }
}
