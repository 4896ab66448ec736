//! A wish to stop that wakes whoever waits. Ctrl-C and SIGTERM express it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Exit code of what was stopped on purpose and can go on later.
pub const STOPPED: u8 = 75;

/// A flag that is set once; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// A flag that the first SIGINT or SIGTERM sets. The second one ends the process at once with [`STOPPED`]: what was
    /// said to be done is on disk by then.
    ///
    /// # Errors
    /// Those of installing a signal handler.
    pub fn on_signals() -> std::io::Result<Stop> {
        let stop = Stop::default();
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let flag = stop.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for _ in signals.forever() {
                if flag.is_requested() {
                    std::process::exit(STOPPED.into());
                }
                eprintln!("stopping; once more to stop at once");
                flag.request();
            }
        })?;
        Ok(stop)
    }

    /// Sets the flag.
    pub fn request(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether it is set.
    pub fn is_requested(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until then, or until the flag is set; whether it was *not* set.
    #[must_use]
    pub fn wait_until(&self, then: Instant) -> bool {
        let mut requested = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = then.saturating_duration_since(Instant::now());
            if *requested || left == Duration::ZERO {
                return !*requested;
            }
            requested = self.0.1.wait_timeout(requested, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_is_woken() {
        let stop = Stop::default();
        assert!(stop.wait_until(Instant::now()));
        let waiting = stop.clone();
        let waiter = std::thread::spawn(move || waiting.wait_until(Instant::now() + Duration::from_secs(3_600)));
        stop.request();
        assert!(!waiter.join().unwrap());
        assert!(stop.is_requested() && !stop.wait_until(Instant::now()));
    }
}
