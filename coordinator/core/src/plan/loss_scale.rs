//! The loss scale of fp16: a function of committed records alone. In fp32 it is 1 and stays so.

use serde::{Deserialize, Serialize};

/// log2 of the scale with which fp16 begins.
pub const START_LOG2: i32 = 12;
/// log2 of the largest scale.
const MAX_LOG2: i32 = 16;
/// log2 of the smallest scale: a gradient that is not finite without any scaling has another reason.
const FLOOR_LOG2: i32 = 0;
/// Commits without a gradient that is not finite, after which the scale doubles.
const COMMITS_TO_DOUBLE: u64 = 2_000;

/// The scale after some records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossScale {
    log2: i32,
    /// Commits since the scale changed.
    commits: u64,
    /// Whether it may change at all.
    is_dynamic: bool,
}

impl LossScale {
    /// The scale before the first step; 0 is fp32.
    pub fn starting_at(log2: i32) -> Self {
        LossScale { log2, commits: 0, is_dynamic: log2 > 0 }
    }

    /// log2 of the scale.
    pub fn log2(&self) -> i32 {
        self.log2
    }

    /// Half of it; none at the floor.
    pub fn halved(log2: i32) -> Option<i32> {
        (log2 > FLOOR_LOG2).then_some(log2 - 1)
    }

    /// A step was committed.
    pub fn committed(&mut self) {
        self.commits += 1;
        if self.is_dynamic && self.commits >= COMMITS_TO_DOUBLE && self.log2 < MAX_LOG2 {
            self.log2 += 1;
            self.commits = 0;
        }
    }

    /// A Retry was recorded with this scale.
    pub fn retried(&mut self, log2: i32) {
        if log2 != self.log2 {
            self.log2 = log2;
            self.commits = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(mut scale: LossScale, commits: u64) -> LossScale {
        (0..commits).for_each(|_| scale.committed());
        scale
    }

    #[test]
    fn it_doubles_after_two_thousand_commits_up_to_its_limit() {
        let start = LossScale::starting_at(START_LOG2);
        assert_eq!(after(start, 1_999).log2(), 12);
        assert_eq!(after(start, 2_000).log2(), 13);
        assert_eq!(after(start, 3_999).log2(), 13);
        assert_eq!(after(start, 100_000).log2(), 16);
    }

    #[test]
    fn a_halved_scale_starts_counting_anew() {
        let mut scale = after(LossScale::starting_at(START_LOG2), 1_999);
        scale.retried(11);
        assert_eq!(after(scale, 1_999).log2(), 11);
        assert_eq!(after(scale, 2_000).log2(), 12);
        let mut same = after(LossScale::starting_at(START_LOG2), 1_999);
        same.retried(12);
        assert_eq!(after(same, 1).log2(), 13, "a Retry for other exponents is no reason to wait");
    }

    #[test]
    fn it_halves_down_to_one() {
        let halvings = std::iter::successors(Some(START_LOG2), |log2| LossScale::halved(*log2));
        assert_eq!(halvings.collect::<Vec<_>>(), (0..=12).rev().collect::<Vec<_>>());
    }

    #[test]
    fn in_fp32_it_stays_one() {
        assert_eq!(after(LossScale::starting_at(0), 50_000).log2(), 0);
    }
}
