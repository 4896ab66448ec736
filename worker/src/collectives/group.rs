//! One group of workers, whatever moves the words.
//!
//! All of the transport runs on the group's own thread; the caller waits for its answer, for the abort or for the watchdog,
//! whichever is first. So an abort returns at once wherever the transport is stuck, and the thread ends by itself. It works
//! on words that it owns: nothing that the caller holds is written to late.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use worker_member::trainer::Rendezvous;

use super::{AbortToken, Backend, CollectiveError};

/// What a group connects over and reduces with. Calls block.
pub(crate) trait Transport: Send + Sync {
    /// Sums over all ranks in place. After an error the words are garbage and the transport is dead.
    fn all_reduce_i32(&self, words: &mut [i32]) -> Result<(), String>;
    /// Makes a running all-reduce fail, here and at the peers. May come from another thread, and more than once.
    fn close(&self);
}

/// Who connects: the place of this worker, and how long it waits for another.
#[derive(Debug, Clone)]
pub struct Seat {
    /// From 0.
    pub rank: u32,
    /// How many take part.
    pub world_size: u32,
    /// The address of this worker that the others reach.
    pub host: String,
    /// The longest wait for a peer, here and later.
    pub timeout: Duration,
}

/// A connected group. Dropping it disconnects.
pub struct Group {
    requests: Sender<Vec<i32>>,
    answers: Receiver<Answer>,
    transport: Arc<OnceLock<Arc<dyn Transport>>>,
    watchdog: Duration,
    spent: AtomicBool,
}

enum Answer {
    Connected(Result<(), String>),
    Reduced(Result<Vec<i32>, String>),
    Aborted,
}

impl Group {
    /// Connects to all other ranks through the rendezvous; keys begin with `prefix`, which no other group may use.
    pub fn connect(
        backend: &Backend,
        rendezvous: Arc<dyn Rendezvous>,
        prefix: &str,
        seat: &Seat,
        token: &AbortToken,
    ) -> Result<Group, CollectiveError> {
        let (requests, inbox) = channel::<Vec<i32>>();
        let (outbox, answers) = channel();
        let transport = Arc::new(OnceLock::new());
        let store = PrefixedStore { inner: rendezvous, prefix: prefix.to_owned(), token: token.clone() };
        let thread = GroupThread { backend: backend.clone(), store, seat: seat.clone(), transport: transport.clone() };
        let aborted = outbox.clone();
        std::thread::Builder::new()
            .name(format!("group {prefix}"))
            .spawn(move || thread.run(&inbox, &outbox))
            .map_err(CollectiveError::Thread)?;
        token.on_abort(move || {
            // Nobody listens any more once the group is dropped.
            let _ = aborted.send(Answer::Aborted);
        });
        // A transport has time limits of its own; the watchdog is for one that does not keep them.
        let group =
            Group { requests, answers, transport, watchdog: seat.timeout * (seat.world_size + 1), spent: false.into() };
        let failed = |reason| CollectiveError::Connect {
            backend: backend.name(),
            rank: seat.rank,
            world_size: seat.world_size,
            host: seat.host.clone(),
            reason,
        };
        match group.answer().map_err(failed)? {
            Answer::Connected(result) => result.map_err(failed).map(|()| group),
            Answer::Aborted => Err(CollectiveError::Aborted),
            Answer::Reduced(_) => Err(failed("the group's thread is confused".to_owned())),
        }
    }

    /// Sums over all ranks; the words are lost with an error.
    pub fn all_reduce_i32(&self, words: Vec<i32>) -> Result<Vec<i32>, CollectiveError> {
        if self.spent.load(Ordering::Acquire) {
            return Err(CollectiveError::Spent);
        }
        let count = words.len();
        let failed = |reason| CollectiveError::Reduce { words: count, reason };
        let gone = |_| "the group's thread is gone".to_owned();
        let answer = self.requests.send(words).map_err(gone).and_then(|()| self.answer());
        let result = match answer {
            Ok(Answer::Reduced(Ok(sum))) => Ok(sum),
            Ok(Answer::Reduced(Err(reason))) | Err(reason) => Err(failed(reason)),
            Ok(Answer::Aborted) => Err(CollectiveError::Aborted),
            Ok(Answer::Connected(_)) => Err(failed("the group's thread is confused".to_owned())),
        };
        if result.is_err() {
            self.spent.store(true, Ordering::Release);
            self.close();
        }
        result
    }

    fn answer(&self) -> Result<Answer, String> {
        self.answers.recv_timeout(self.watchdog).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("no answer in {:?}: the transport hangs", self.watchdog),
            RecvTimeoutError::Disconnected => "the group's thread is gone".to_owned(),
        })
    }

    /// Closes every connection, so that peers that wait for this rank fail as well. On a thread of its own: whatever hung
    /// may hang here too.
    fn close(&self) {
        let Some(transport) = self.transport.get().cloned() else { return };
        let closing = std::thread::Builder::new().name("group close".to_owned()).spawn(move || transport.close());
        if let Err(error) = closing {
            tracing::warn!(%error, "no thread to close a group's connections");
        }
    }
}

struct GroupThread {
    backend: Backend,
    store: PrefixedStore,
    seat: Seat,
    transport: Arc<OnceLock<Arc<dyn Transport>>>,
}

impl GroupThread {
    /// Connects, then reduces what comes in until the group is dropped. A receiver that is gone has been aborted.
    fn run(self, inbox: &Receiver<Vec<i32>>, outbox: &Sender<Answer>) {
        let connected = self.backend.connect(&self.store, &self.seat, &self.store.token);
        let transport = match connected {
            Ok(transport) => self.transport.get_or_init(|| transport),
            Err(reason) => {
                let _ = outbox.send(Answer::Connected(Err(reason)));
                return;
            }
        };
        if outbox.send(Answer::Connected(Ok(()))).is_err() {
            return;
        }
        while let Ok(mut words) = inbox.recv() {
            let result = transport.all_reduce_i32(&mut words).map(|()| words);
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
