//! Every way to die, at every point of a step, for every process: the states are those of an undisturbed run, the audit is
//! clean, nobody else was restarted. One cell for each point; all of them with `FAULTS_FULL=1`.
//!
//! `-- --nocapture --test-threads=1` prints how long each run took from the blow to its next commit, as a table.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use polya_tests::fleet::{COORDINATOR, Fleet, READY_TO_BEGIN, now_ms};
use polya_tests::process::{Coordinator, is_full, proven_digests_of, signal, small_holdout};
use serde_json::Value;

const STEPS: u64 = 5;
/// At the end of step 3 a checkpoint and the loss on the holdout are due: the point of the blow, whatever it is.
const MORE: [&str; 6] = [
    "train.steps=5",
    "batch.microbatches_per_step=6",
    "batch.tokens_per_microbatch=256",
    "evaluation.samples=0",
    "checkpoint.every=3",
    "failure_detection=2s",
];
/// Longer than a coordinator waits for a silent worker.
const STANDSTILL: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Blow {
    Kill,
    StopAndContinue,
    SegmentationFault,
    Panic,
    OutOfMemory,
}

const BLOWS: [Blow; 5] = [Blow::Kill, Blow::StopAndContinue, Blow::SegmentationFault, Blow::Panic, Blow::OutOfMemory];

/// What happens there, who stands still there, where that is.
type Point = (&'static str, Holder, &'static str);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Holder {
    Victim,
    /// The workers have done their part, and the coordinator stands still before its own.
    Coordinator,
}

const OF_A_WORKER: [Point; 7] = [
    ("before the forward pass", Holder::Victim, "compute@3"),
    (REDUCTION, Holder::Victim, "reduce@3"),
    ("after Ready", Holder::Coordinator, "append-commit@3"),
    ("after Commit, before the flip", Holder::Victim, "flip@3"),
    (TRANSFER, Holder::Victim, "save@1"),
    ("in a checkpoint", Holder::Victim, "save@1"),
    ("in an evaluation", Holder::Victim, "evaluate@3"),
];
const REDUCTION: &str = "in the all-reduce";
const TRANSFER: &str = "while a peer copies its state";

const OF_THE_COORDINATOR: [Point; 6] = [
    ("before a lease", Holder::Victim, "lease@3"),
    ("between two Reduce orders", Holder::Victim, "reduce@3"),
    ("all Ready, before the append", Holder::Victim, "append-commit@3"),
    ("after the append, before the first Commit order", Holder::Victim, "commit@3"),
    ("before a checkpoint's record", Holder::Victim, "append-checkpoint@3"),
    ("in an evaluation", Holder::Victim, "evaluate@0"),
];

#[test]
fn a_worker_lost_at_any_point_in_any_way_changes_nothing() {
    play_all(&OF_A_WORKER, &["w0", "w1"]);
}

#[test]
fn the_coordinator_lost_at_any_point_in_any_way_changes_nothing() {
    play_all(&OF_THE_COORDINATOR, &[COORDINATOR]);
}

fn play_all(points: &[Point], victims: &[&'static str]) {
    let all = points
        .iter()
        .flat_map(|point| BLOWS.iter().flat_map(move |blow| victims.iter().map(move |v| (point, *blow, *v))));
    let rotated =
        points.iter().enumerate().map(|(n, point)| (point, BLOWS[n % BLOWS.len()], victims[n % victims.len()]));
    let cells: Vec<_> = if is_full() { all.collect() } else { rotated.collect() };
    let mut recovered: Vec<(Blow, u64)> = vec![];
    println!("| point | blow | victim | ms to the next commit |\n| --- | --- | --- | --- |");
    for (point, blow, victim) in cells {
        let ms = play(*point, blow, victim);
        println!("| {} | {blow:?} | {victim} | {ms} |", point.0);
        recovered.push((blow, ms));
    }
    for (what, is_stop) in [("dead", false), ("stopped", true)] {
        let mut ms: Vec<u64> = recovered
            .iter()
            .filter(|(blow, _)| (*blow == Blow::StopAndContinue) == is_stop)
            .map(|(_, ms)| *ms)
            .collect();
        ms.sort_unstable();
        let at = |share: usize| ms[(ms.len() * share).div_ceil(100) - 1];
        println!("{what}: {} cells, p50 {} ms, p95 {} ms, worst {} ms", ms.len(), at(50), at(95), at(100));
    }
}

/// Plays one cell; gives the milliseconds from the blow to the next commit. Of a stopped coordinator: from where it goes on.
fn play((what, holder, hold): Point, blow: Blow, victim: &str) -> u64 {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let holder = if holder == Holder::Victim { victim } else { COORDINATOR };
    let mut fleet = two_workers(folder.path(), what, victim, (holder, hold));
    fleet.wait_for_hold(holder, hold);
    let mut before = fleet.pids();

    let mut since_ms = now_ms();
    match blow {
        Blow::Kill => fleet.kill(victim, "KILL"),
        Blow::SegmentationFault => fleet.kill(victim, "SEGV"),
        Blow::OutOfMemory => fleet.kill(victim, "USR2"),
        // A panic under Gloo's hands is caught there, and breaks the group only.
        Blow::Panic if holder == victim && what != REDUCTION => panic_at(&mut fleet, victim, hold),
        Blow::Panic => fleet.kill(victim, "USR1"),
        Blow::StopAndContinue => signal(fleet.pid(victim), "STOP"),
    }
    fleet.go(holder, hold, "");
    if blow == Blow::StopAndContinue && victim == COORDINATOR {
        fleet.pass(STANDSTILL);
        since_ms = now_ms();
        signal(fleet.pid(victim), "CONT");
    }
    let recovery_ms = fleet.wait_for_commit_after(since_ms);
    signal(fleet.pid(victim), "CONT");

    let cell = format!("{what}, {blow:?}, {victim}");
    assert_eq!(fleet.wait_for_end(), 0, "{cell}");
    let mut after = fleet.pids();
    if blow != Blow::StopAndContinue {
        assert_ne!(before.remove(victim), after.remove(victim), "{cell}: it died");
    }
    assert_eq!(after, before, "{cell}: nobody else was started again");
    assert_eq!(&proven_digests_of(&fleet.dir(), STEPS), undisturbed(), "{cell}");
    recovery_ms
}

/// A run with two workers that both take part. The victim is the first: the first one saves and is copied from.
fn two_workers(folder: &Path, what: &str, victim: &str, (holder, hold): (&str, &str)) -> Fleet {
    let [first, second] = if victim == "w1" { ["w1", "w0"] } else { ["w0", "w1"] };
    let mut holds = vec![(first, READY_TO_BEGIN), (second, READY_TO_BEGIN), (holder, hold)];
    if what == TRANSFER {
        holds.extend([(first, "sum@3"), (second, "flip@3")]);
    }
    let mut fleet = Fleet::start(folder, &[&MORE[..], &[&small_holdout(folder)]].concat(), &holds);
    fleet.start_together(&[first, second]);
    if what == TRANSFER {
        fleet.wait_for_hold(first, "sum@3");
        fleet.start_worker("w2");
        fleet.wait_for_worker("w2", 0);
        fleet.go(first, "sum@3", "");
        // The second does not hold step 3 yet, so the newcomer must copy from the first.
        fleet.wait_for_hold(second, "flip@3");
        fleet.wait_for_hold(first, hold);
        fleet.go(second, "flip@3", "");
    }
    fleet
}

fn panic_at(fleet: &mut Fleet, victim: &str, hold: &str) {
    let pid = fleet.pid(victim);
    fleet.go(victim, hold, "panic");
    fleet.wait_for_death(pid);
}

/// The digests of an undisturbed run with one worker.
fn undisturbed() -> &'static Value {
    static DIGESTS: OnceLock<Value> = OnceLock::new();
    DIGESTS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let dir = folder.path().join("run");
        let holdout = small_holdout(folder.path());
        assert_eq!(Coordinator::start(&dir, 1, &[&MORE[..], &[&holdout]].concat()).wait(), Some(0));
        proven_digests_of(&dir, STEPS)
    })
}
