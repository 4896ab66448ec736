//! Time limits: all of them follow from one, so that their order cannot be got wrong.

/// Limits in milliseconds, each of use only if it is longer than the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A worker says that it lives this often, and the coordinator looks at the clock.
    pub heartbeat_ms: u64,
    /// Workers of the last step that may come back have this long before a new coordinator goes on without them.
    pub return_ms: u64,
    /// A worker that is silent for longer is lost.
    pub failure_detection_ms: u64,
    /// Longest wait for a peer inside a collective; an Abort of the coordinator comes long before.
    pub collective_ms: u64,
    /// A step waits this long for a joiner that copies the state.
    pub copy_ms: u64,
    /// A microbatch that nobody knows the usual time of may take this long; others twenty times the usual.
    pub microbatch_ms: u64,
    /// A worker that can decide between two others is waited for this long.
    pub arbiter_ms: u64,
}

impl Limits {
    /// All limits of a run with this `failure_detection`.
    pub fn derived_from(failure_detection_ms: u64) -> Self {
        let heartbeat_ms = (failure_detection_ms / 4).clamp(25, 1_000);
        let failure_detection_ms = failure_detection_ms.max(2 * heartbeat_ms);
        let collective_ms = (2 * failure_detection_ms).max(4_000);
        let copy_ms = (5 * failure_detection_ms).max(collective_ms + 1_000);
        Limits {
            heartbeat_ms,
            return_ms: (failure_detection_ms / 2).min(1_000),
            failure_detection_ms,
            collective_ms,
            copy_ms,
            arbiter_ms: (10 * copy_ms).max(60_000),
            microbatch_ms: (20 * copy_ms).max(600_000),
        }
    }

    /// After this long a microbatch that usually takes `usual_ms` hangs.
    pub fn hangs_after_ms(&self, usual_ms: Option<u64>) -> u64 {
        usual_ms.map_or(self.microbatch_ms, |usual| (20 * usual).max(3 * self.copy_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_limits_holds_for_every_failure_detection() {
        for detection in (100..600_000).step_by(37) {
            let limits = Limits::derived_from(detection);
            assert_eq!(limits.failure_detection_ms, detection);
            let order = [
                limits.heartbeat_ms,
                limits.return_ms,
                limits.failure_detection_ms,
                limits.collective_ms,
                limits.copy_ms,
                limits.arbiter_ms,
                limits.microbatch_ms,
            ];
            assert!(order.is_sorted(), "{detection}: {order:?}");
            assert!(limits.heartbeat_ms * 2 <= limits.failure_detection_ms, "one lost heartbeat is no lost worker");
        }
    }

    #[test]
    fn a_microbatch_hangs_after_twenty_times_its_usual_time() {
        let limits = Limits::derived_from(2_000);
        assert_eq!(limits.hangs_after_ms(Some(5)), 30_000, "a busy machine is no hung worker");
        assert_eq!(limits.hangs_after_ms(Some(10_000)), 200_000);
        assert_eq!(limits.hangs_after_ms(None), 600_000);
        assert_eq!(limits.hangs_after_ms(Some(100_000)), 2_000_000);
    }
}
