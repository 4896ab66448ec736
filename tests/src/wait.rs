//! Waiting for a condition, the only place that pauses.

use std::time::{Duration, Instant};

/// Looks every 50 ms until `condition` gives something. Panics with `what` after `limit`.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "waited {limit:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}
