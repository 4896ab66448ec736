//! Requests and tokens a minute: when the next request may go out.
//!
//! Requests are spread evenly, not sent in bursts: each takes its share of the minute after the one before. So any minute
//! holds at most the limit, and one.

use std::time::{Duration, Instant};

/// The limits, and the time from which there is room again.
#[derive(Debug, Clone)]
pub struct Pace {
    requests: Lane,
    tokens: Lane,
    held_until: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Lane {
    /// Seconds that one unit takes; none without a limit.
    unit: Option<f64>,
    free_at: Option<Instant>,
}

impl Lane {
    fn new(a_minute: Option<f64>) -> Self {
        Lane { unit: a_minute.map(|limit| 60.0 / limit), free_at: None }
    }

    fn take(&mut self, from: Instant, units: u64) {
        self.free_at = self.unit.map(|unit| from + Duration::from_secs_f64((unit * units as f64).min(86_400.0)));
    }
}

impl Pace {
    /// Limits a minute, above zero; none where there is none.
    pub fn new(requests: Option<f64>, tokens: Option<f64>) -> Self {
        Pace { requests: Lane::new(requests), tokens: Lane::new(tokens), held_until: None }
    }

    /// Takes the place of one request of about so many tokens; when it may go out.
    pub fn reserve(&mut self, now: Instant, tokens: u64) -> Instant {
        let frees = [self.requests.free_at, self.tokens.free_at, self.held_until];
        let start = frees.into_iter().flatten().fold(now, Instant::max);
        self.requests.take(start, 1);
        self.tokens.take(start, tokens);
        start
    }

    /// Gives back the room of tokens that were reserved and not used.
    pub fn give_back(&mut self, now: Instant, tokens: u64) {
        if let (Some(unit), Some(free_at)) = (self.tokens.unit, self.tokens.free_at) {
            let back = Duration::from_secs_f64((unit * tokens as f64).min(86_400.0));
            self.tokens.free_at = Some(free_at.checked_sub(back).map_or(now, |earlier| earlier.max(now)));
        }
    }

    /// Until when nothing may go out, if that is yet to come.
    pub fn held(&self, now: Instant) -> Option<Instant> {
        self.held_until.filter(|held| *held > now)
    }

    /// Nothing goes out before then: the server asked for it.
    pub fn hold_until(&mut self, then: Instant) {
        self.held_until = Some(self.held_until.map_or(then, |held| held.max(then)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(start: Instant, times: &[Instant]) -> Vec<u64> {
        times.iter().map(|time| time.duration_since(start).as_secs()).collect()
    }

    #[test]
    fn requests_are_spread_over_the_minute() {
        let (start, mut pace) = (Instant::now(), Pace::new(Some(30.0), None));
        let times: Vec<Instant> = (0..4).map(|_| pace.reserve(start, 1_000)).collect();
        assert_eq!(seconds(start, &times), [0, 2, 4, 6]);
        let later = start + Duration::from_secs(100);
        assert_eq!(pace.reserve(later, 0), later, "a pause is no credit");
        assert_eq!(pace.reserve(later, 0), later + Duration::from_secs(2));
    }

    #[test]
    fn unused_tokens_come_back() {
        let (start, mut pace) = (Instant::now(), Pace::new(None, Some(600.0)));
        assert_eq!(pace.reserve(start, 100), start);
        pace.give_back(start, 60);
        let times = [pace.reserve(start, 100), pace.reserve(start, 0)];
        assert_eq!(seconds(start, &times), [4, 14]);
        pace.give_back(start, u64::MAX);
        assert_eq!(pace.reserve(start, 0), start);
    }

    #[test]
    fn a_hold_is_for_everybody_and_never_shortened() {
        let (start, mut pace) = (Instant::now(), Pace::new(None, None));
        let (soon, late) = (start + Duration::from_secs(1), start + Duration::from_secs(9));
        pace.hold_until(late);
        pace.hold_until(soon);
        assert_eq!((pace.reserve(start, 5), pace.held(start), pace.held(late)), (late, Some(late), None));
    }
}
