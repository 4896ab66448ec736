//! One group over Gloo, the one inside libtorch.
//!
//! All of Gloo runs on the group's own thread; the caller waits for its answer or for the abort, whichever is first. So
//! an abort returns at once wherever Gloo is stuck, and the thread ends by itself within the time limit. It works on
//! words of its own: what the caller holds is never written to late.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use worker_member::trainer::Rendezvous;

use super::{AbortToken, CollectiveError};
use crate::ffi::gloo::RawGroup;

/// A connected group. Dropping it closes its sockets.
pub struct GlooGroup {
    requests: Sender<Vec<i32>>,
    answers: Receiver<Answer>,
    raw: Arc<OnceLock<RawGroup>>,
    spent: AtomicBool,
}

enum Answer {
    Connected(Result<(), String>),
    Reduced(Result<Vec<i32>, String>),
    Aborted,
}

impl GlooGroup {
    /// Connects to all other ranks through the rendezvous; keys begin with `prefix`, which no other group may use.
    ///
    /// `host` is the address of this worker that the others reach. `timeout` limits each wait for a peer, here and later.
    pub fn connect(
        rendezvous: Arc<dyn Rendezvous>,
        prefix: &str,
        rank: u32,
        world_size: u32,
        host: &str,
        timeout: Duration,
        token: &AbortToken,
    ) -> Result<GlooGroup, CollectiveError> {
        let (requests, inbox) = channel::<Vec<i32>>();
        let (outbox, answers) = channel();
        let raw = Arc::new(OnceLock::new());
        let store = PrefixedStore { inner: rendezvous, prefix: prefix.to_owned(), token: token.clone() };
        let thread = GroupThread { store, rank, world_size, host: host.to_owned(), timeout, raw: raw.clone() };
        let aborted = outbox.clone();
        std::thread::Builder::new()
            .name(format!("gloo {prefix}"))
            .spawn(move || thread.run(&inbox, &outbox))
            .map_err(CollectiveError::Thread)?;
        token.on_abort(move || {
            // Nobody listens any more once the group is dropped.
            let _ = aborted.send(Answer::Aborted);
        });
        let failed = |reason| CollectiveError::Connect { rank, world_size, host: host.to_owned(), reason };
        match answers.recv() {
            Ok(Answer::Connected(Ok(()))) => {}
            Ok(Answer::Connected(Err(reason))) => return Err(failed(reason)),
            Ok(Answer::Aborted) => return Err(CollectiveError::Aborted),
            Ok(Answer::Reduced(_)) | Err(_) => return Err(failed("the group's thread is gone".to_owned())),
        }
        Ok(GlooGroup { requests, answers, raw, spent: AtomicBool::new(false) })
    }

    /// Sums over all ranks in place; on an error the words are as before.
    pub fn all_reduce_i32(&self, words: &mut [i32]) -> Result<(), CollectiveError> {
        if self.spent.load(Ordering::Acquire) {
            return Err(CollectiveError::Spent);
        }
        let count = words.len();
        let failed = |reason| CollectiveError::Reduce { words: count, reason };
        let result = match self.requests.send(words.to_vec()) {
            Err(_) => Err(failed("the group's thread is gone".to_owned())),
            Ok(()) => match self.answers.recv() {
                Ok(Answer::Reduced(Ok(sum))) => {
                    words.copy_from_slice(&sum);
                    Ok(())
                }
                Ok(Answer::Reduced(Err(reason))) => Err(failed(reason)),
                Ok(Answer::Aborted) => Err(CollectiveError::Aborted),
                Ok(Answer::Connected(_)) | Err(_) => Err(failed("the group's thread is gone".to_owned())),
            },
        };
        if result.is_err() {
            self.spent.store(true, Ordering::Release);
            self.close();
        }
        result
    }

    /// Closes every connection, so that peers that wait for this rank fail as well.
    fn close(&self) {
        if let Some(Err(reason)) = self.raw.get().map(RawGroup::abort) {
            tracing::debug!(reason, "closing a group's connections");
        }
    }
}

struct GroupThread {
    store: PrefixedStore,
    rank: u32,
    world_size: u32,
    host: String,
    timeout: Duration,
    raw: Arc<OnceLock<RawGroup>>,
}

impl GroupThread {
    /// Connects, then reduces what comes in until the group is dropped. A receiver that is gone has been aborted.
    fn run(self, inbox: &Receiver<Vec<i32>>, outbox: &Sender<Answer>) {
        let connected = RawGroup::connect(&self.store, self.rank, self.world_size, &self.host, self.timeout)
            .map(|group| self.raw.get_or_init(|| group));
        let group = match connected {
            Ok(group) => group,
            Err(reason) => {
                let _ = outbox.send(Answer::Connected(Err(reason)));
                return;
            }
        };
        if outbox.send(Answer::Connected(Ok(()))).is_err() {
            return;
        }
        while let Ok(mut words) = inbox.recv() {
            let result = group.all_reduce_i32(&mut words).map(|()| words);
            if outbox.send(Answer::Reduced(result)).is_err() {
                return;
            }
        }
    }
}

/// How long one question to the rendezvous waits before it looks at the abort again.
const SLICE_MS: u64 = 200;

/// Keys of one group only, and an end when it is aborted.
struct PrefixedStore {
    inner: Arc<dyn Rendezvous>,
    prefix: String,
    token: AbortToken,
}

impl PrefixedStore {
    fn key(&self, key: &str) -> Result<String, String> {
        if self.token.is_aborted() {
            return Err("the group was aborted".to_owned());
        }
        Ok(format!("{}/{key}", self.prefix))
    }
}

impl Rendezvous for PrefixedStore {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), String> {
        self.inner.set(&self.key(key)?, value)
    }

    fn get(&self, key: &str, wait_ms: u64) -> Result<Option<Vec<u8>>, String> {
        let started = std::time::Instant::now();
        loop {
            let waited = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let left = wait_ms.saturating_sub(waited);
            let found = self.inner.get(&self.key(key)?, left.min(SLICE_MS))?;
            if found.is_some() || left == 0 {
                return Ok(found);
            }
        }
    }

    fn add(&self, key: &str, amount: i64) -> Result<i64, String> {
        self.inner.add(&self.key(key)?, amount)
    }
}
