//! Aborting a collective from another thread, also one that has not begun yet.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use polya_proto::v1::Group;
use worker_member::trainer::AbortHandle;

/// Says to everybody who holds it that the collective is off. Cheap to clone.
#[derive(Clone, Default)]
pub struct AbortToken(Arc<(Mutex<TokenState>, Condvar)>);

#[derive(Default)]
struct TokenState {
    aborted: bool,
    hooks: Vec<Box<dyn FnOnce() + Send>>,
}

impl AbortToken {
    /// Calls off, runs every hook once.
    pub fn abort(&self) {
        let hooks = {
            let mut state = lock(&self.0.0);
            state.aborted = true;
            self.0.1.notify_all();
            std::mem::take(&mut state.hooks)
        };
        hooks.into_iter().for_each(|hook| hook());
    }

    /// Whether it is off.
    pub fn is_aborted(&self) -> bool {
        lock(&self.0.0).aborted
    }

    /// Waits so long, or until it is off; says whether it is.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let waited = self.0.1.wait_timeout_while(lock(&self.0.0), time, |state| !state.aborted);
        waited.unwrap_or_else(PoisonError::into_inner).0.aborted
    }

    /// Runs `hook` on abort, at once if that has been. It must not block.
    pub(crate) fn on_abort(&self, hook: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.0.0);
        if state.aborted {
            drop(state);
            hook();
        } else {
            state.hooks.push(Box::new(hook));
        }
    }
}

/// A trainer's [`AbortHandle`]: knows the group it is in and the newest one that was aborted.
#[derive(Clone, Default)]
pub struct Aborts(Arc<Mutex<AbortsState>>);

#[derive(Default)]
struct AbortsState {
    current: Option<(Group, AbortToken)>,
    newest_aborted: Option<(u64, u64)>,
}

impl Aborts {
    /// The token of a group that is about to begin. An Abort that came first (it overtakes the queue) holds.
    pub fn enter(&self, group: &Group) -> AbortToken {
        let token = AbortToken::default();
        let mut state = lock(&self.0);
        if state.newest_aborted.is_some_and(|aborted| order(group) <= aborted) {
            token.abort();
        }
        state.current = Some((*group, token.clone()));
        token
    }
}

impl AbortHandle for Aborts {
    fn abort(&self, group: &Group) {
        let token = {
            let mut state = lock(&self.0);
            state.newest_aborted = state.newest_aborted.max(Some(order(group)));
            state.current.as_ref().filter(|(current, _)| current == group).map(|(_, token)| token.clone())
        };
        if let Some(token) = token {
            token.abort();
        }
    }
}

/// Groups are counted: a later one is larger.
fn order(group: &Group) -> (u64, u64) {
    (group.epoch, group.generation)
}

/// The state stays whole even if a hook panicked: it is changed before hooks run.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
