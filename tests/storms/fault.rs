//! What can go wrong in a storm, drawn from its seed.

use std::time::Duration;

use polya_tests::seed::Random;

use crate::network::Direction;

/// Longest that something stays broken: well beyond `failure_detection`, so that some are given up and some are not.
const BROKEN_MS_MAX: u64 = 700;
/// Longest that a process stays away.
const AWAY_MS_MAX: u64 = 300;

/// One fault. `usize` is the worker that it meets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Nothing passes between a worker and everybody else, for so long.
    Partition(usize, Duration),
    /// Nothing passes in one direction between a worker and the coordinator.
    OneWay(usize, Direction, Duration),
    /// Nobody reaches the coordinator, and it reaches nobody.
    Hold(Duration),
    /// Each piece of a worker's takes so long, for so long.
    Slow(usize, Duration, Duration),
    /// A worker's connections to the coordinator end.
    Cut(usize),
    /// They end in the middle of the next piece.
    Tear(usize, Direction),
    /// Nobody can fetch a worker's state.
    HoldPeer(usize, Duration),
    /// The next fetch of a worker's state breaks in the middle.
    TearPeer(usize),
    /// A worker is killed; another takes its place after a while, or at once.
    CrashWorker(usize, Duration),
    /// A worker leaves on purpose; another takes its place after a while.
    Leave(usize, Duration),
    /// The coordinator is killed; the next one comes after a while, and finds this many bytes of a torn record.
    CrashCoordinator(Duration, Option<usize>),
}

impl Fault {
    /// Its name, for counting.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Partition(..) => "partition",
            Fault::OneWay(_, Direction::There, _) => "one-way partition to the coordinator",
            Fault::OneWay(_, Direction::Back, _) => "one-way partition from the coordinator",
            Fault::Hold(_) => "hold of everything",
            Fault::Slow(..) => "slow way",
            Fault::Cut(_) => "cut",
            Fault::Tear(..) => "cut in mid-piece",
            Fault::HoldPeer(..) => "hold of a peer",
            Fault::TearPeer(_) => "cut in a peer's transfer",
            Fault::CrashWorker(..) => "worker's crash",
            Fault::Leave(..) => "worker's leave",
            Fault::CrashCoordinator(..) => "coordinator's crash",
        }
    }

    /// Draws one, in a fleet of so many workers.
    pub(crate) fn draw(random: &mut Random, workers: usize) -> Fault {
        let worker = random.below(workers as u64) as usize;
        let direction = if random.below(2) == 0 { Direction::There } else { Direction::Back };
        let broken = Duration::from_millis(random.below(BROKEN_MS_MAX));
        // One in three is back at once: a bounce.
        let away = Duration::from_millis(random.below(AWAY_MS_MAX) * u64::from(random.below(3) > 0));
        match random.below(18) {
            0 | 1 => Fault::Partition(worker, broken),
            2 | 3 => Fault::OneWay(worker, direction, broken),
            4 => Fault::Hold(broken),
            5 => Fault::Slow(worker, Duration::from_millis(random.below(20)), broken),
            6 | 7 => Fault::Cut(worker),
            8 | 9 => Fault::Tear(worker, direction),
            10 => Fault::HoldPeer(worker, 2 * broken), // a fetch must fall into it
            11 => Fault::TearPeer(worker),
            12..=14 => Fault::CrashWorker(worker, away),
            15 => Fault::Leave(worker, away),
            _ => Fault::CrashCoordinator(away, (random.below(3) == 0).then(|| random.below(400) as usize)),
        }
    }
}
