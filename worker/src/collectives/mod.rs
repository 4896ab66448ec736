//! The data plane: sums of integers over a group of workers.
//!
//! A group serves one all-reduce and is never used again; after an error or an abort the words are garbage, which is why
//! the caller hands in a staging copy.

use std::sync::Arc;
use std::time::Duration;

use worker_member::trainer::{Membership, Rendezvous};

pub mod abort;
pub mod gloo;
mod local_rendezvous;
#[cfg(test)]
mod tests;

pub use abort::{AbortToken, Aborts};
pub use gloo::GlooGroup;
pub use local_rendezvous::LocalRendezvous;

/// Why a collective gave nothing. All of them mean the same to the protocol: the group is broken, the sum is kept.
#[derive(Debug, thiserror::Error)]
pub enum CollectiveError {
    /// The coordinator said so.
    #[error("aborted")]
    Aborted,
    /// The mesh did not come together.
    #[error("connecting rank {rank} of {world_size} on {host}: {reason}")]
    Connect {
        /// This worker's rank.
        rank: u32,
        /// How many take part.
        world_size: u32,
        /// The address that was offered to the others.
        host: String,
        /// What gloo or the rendezvous said.
        reason: String,
    },
    /// A peer is gone or silent.
    #[error("all-reduce of {words} words: {reason}")]
    Reduce {
        /// How many 32-bit words.
        words: usize,
        /// What gloo said.
        reason: String,
    },
    /// The group has failed before.
    #[error("the group has failed before and is never used again")]
    Spent,
    /// No thread for the group.
    #[error("starting the group's thread: {0}")]
    Thread(std::io::Error),
}

/// Sums a staging copy over the group of `membership`: connects, reduces, disconnects.
///
/// `timeout` limits each wait for a peer, not the whole. A group that was aborted before this call fails at once.
pub fn all_reduce_i32(
    words: &mut [i32],
    membership: &Membership,
    rendezvous: Arc<dyn Rendezvous>,
    aborts: &Aborts,
    timeout: Duration,
) -> Result<(), CollectiveError> {
    let token = aborts.enter(&membership.group);
    if token.is_aborted() {
        return Err(CollectiveError::Aborted);
    }
    if membership.world_size <= 1 {
        return Ok(());
    }
    let prefix = format!("e{}/g{}", membership.group.epoch, membership.group.generation);
    let group = GlooGroup::connect(
        rendezvous,
        &prefix,
        membership.rank,
        membership.world_size,
        &membership.host,
        timeout,
        &token,
    )?;
    group.all_reduce_i32(words)
}
