//! The data plane: sums of integers over a group of workers.
//!
//! A group serves one all-reduce and is never used again. What moves the words is a [`Backend`]: Gloo between processors,
//! NCCL between GPUs. Integers have one sum, so both give the same words.

use std::sync::Arc;
use std::time::Duration;

use tch::Device;
use worker_member::trainer::{Membership, Rendezvous};

pub mod abort;
mod gloo;
pub mod group;
mod local_rendezvous;
mod nccl;
#[cfg(test)]
mod nccl_tests;
#[cfg(test)]
mod tests;

pub use abort::{AbortToken, Aborts};
pub use group::{Group, Seat};
pub use local_rendezvous::LocalRendezvous;

use group::Transport;

pub use crate::ffi::nccl::NcclLibrary;

/// Why a collective gave nothing. All of them mean the same to the protocol: the group is broken, the sum is kept.
#[derive(Debug, thiserror::Error)]
pub enum CollectiveError {
    /// The coordinator said so.
    #[error("aborted")]
    Aborted,
    /// The mesh did not come together.
    #[error("connecting rank {rank} of {world_size} on {host} over {backend}: {reason}")]
    Connect {
        /// What moves the words.
        backend: &'static str,
        /// This worker's rank.
        rank: u32,
        /// How many take part.
        world_size: u32,
        /// The address that was offered to the others.
        host: String,
        /// What the transport or the rendezvous said.
        reason: String,
    },
    /// A peer is gone or silent.
    #[error("all-reduce of {words} words: {reason}")]
    Reduce {
        /// How many 32-bit words.
        words: usize,
        /// What the transport said.
        reason: String,
    },
    /// The group has failed before.
    #[error("the group has failed before and is never used again")]
    Spent,
    /// No thread for the group.
    #[error("starting the group's thread: {0}")]
    Thread(std::io::Error),
}

/// What moves the words of a group.
#[derive(Clone)]
pub enum Backend {
    /// Between processors, over TCP.
    Gloo,
    /// Between GPUs.
    Nccl {
        /// The opened library.
        library: Arc<NcclLibrary>,
        /// Where words are staged.
        device: Device,
    },
}

impl Backend {
    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Backend::Gloo => "Gloo",
            Backend::Nccl { .. } => "NCCL",
        }
    }

    fn connect(&self, store: &dyn Rendezvous, seat: &Seat, token: &AbortToken) -> Result<Arc<dyn Transport>, String> {
        match self {
            Backend::Gloo => gloo::connect(store, seat),
            Backend::Nccl { library, device } => nccl::connect(library, *device, store, seat, token),
        }
    }
}

/// Sums a staging copy over the group of `membership`: connects, reduces, disconnects. The copy is lost with an error.
///
/// `timeout` limits each wait for a peer, not the whole. A group that was aborted before this call fails at once.
pub fn all_reduce_i32(
    backend: &Backend,
    words: Vec<i32>,
    membership: &Membership,
    rendezvous: Arc<dyn Rendezvous>,
    aborts: &Aborts,
    timeout: Duration,
) -> Result<Vec<i32>, CollectiveError> {
    let token = aborts.enter(&membership.group);
    if token.is_aborted() {
        return Err(CollectiveError::Aborted);
    }
    if membership.world_size <= 1 {
        return Ok(words);
    }
    let prefix = format!("e{}/g{}", membership.group.epoch, membership.group.generation);
    let (rank, world_size, host) = (membership.rank, membership.world_size, membership.host.clone());
    let group = Group::connect(backend, rendezvous, &prefix, &Seat { rank, world_size, host, timeout }, &token)?;
    group.all_reduce_i32(words)
}
