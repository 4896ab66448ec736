//! How long to wait before the next attempt: exponential with full jitter, never less than the server asks for.
//!
//! Full jitter (Brooker, "Exponential Backoff And Jitter", AWS 2015): uniform between nothing and the bound, so that those
//! who failed together do not come back together.

use std::time::{Duration, SystemTime};

/// No server's wish is honoured beyond this; what asks for more is given up for this time.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Bounds of the waits.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Attempts in all, at least one.
    pub attempts: u32,
    /// Bound of the first wait.
    pub first: Duration,
    /// Bound of any wait.
    pub most: Duration,
}

impl Backoff {
    /// The wait after attempt number `attempt` (from 0): `share`, in [0, 1), of the bound, which doubles each time.
    pub fn wait(&self, attempt: u32, share: f64) -> Duration {
        let bound = self.first.saturating_mul(1u32 << attempt.min(30)).min(self.most);
        bound.mul_f64(share.clamp(0.0, 1.0))
    }
}

/// The value of a `Retry-After` header: seconds, or a date (RFC 9110, section 10.2.3). None if it is neither.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_jitter_is_full() {
        let seconds = Duration::from_secs;
        let backoff = Backoff { attempts: 5, first: seconds(1), most: seconds(60) };
        let bounds: Vec<u64> = (0..8).map(|attempt| backoff.wait(attempt, 1.0).as_secs()).collect();
        assert_eq!(bounds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.wait(3, 0.0), Duration::ZERO);
        assert_eq!(backoff.wait(u32::MAX, 0.5), seconds(30));
    }

    #[test]
    fn a_server_asks_in_seconds_or_with_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:30 GMT").unwrap();
        assert_eq!(retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("0.5", now), Some(Duration::from_millis(500)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:00 GMT", now), Some(Duration::ZERO));
        for wrong in ["soon", "-1", "NaN", "1e400", ""] {
            assert_eq!(retry_after(wrong, now), None, "{wrong}");
        }
    }
}
