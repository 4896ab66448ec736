//! The coordinator killed again and again, each time some moments after its first commit: no commit is lost or made twice,
//! and the workers stay the processes that they were. 60 times under four workers with `FAULTS_FULL=1`.

use std::time::Duration;

use polya_tests::fleet::{COORDINATOR, Fleet, READY_TO_BEGIN, commits};
use polya_tests::process::{Coordinator, is_full, proven_digests_of, small_holdout};
use polya_tests::seed::Random;

/// Longest from a coordinator's first commit to its death.
const DELAY_MS_MAX: u64 = 400;
/// More than a coordinator commits in that time.
const STEPS_A_LIFE: u64 = 12;

#[test]
fn a_coordinator_killed_again_and_again_loses_no_commit_and_no_worker() {
    let (kills, workers) = if is_full() { (60, 4) } else { (5, 2) };
    let steps = kills * STEPS_A_LIFE;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let set = [format!("train.steps={steps}"), small_holdout(folder.path())];
    let more = [
        set[0].as_str(),
        &set[1],
        "batch.microbatches_per_step=4",
        "batch.tokens_per_microbatch=256",
        "evaluation.samples=0",
        "checkpoint.every=25",
    ];
    let ids: Vec<String> = (0..workers).map(|index| format!("w{index}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let holds: Vec<(&str, &str)> = ids.iter().map(|id| (*id, READY_TO_BEGIN)).collect();
    let mut fleet = Fleet::start(folder.path(), &more, &holds);
    fleet.start_together(&ids);
    let before: Vec<u32> = ids.iter().map(|id| fleet.pid(id)).collect();

    let mut random = Random::of_test(6);
    let mut durable = vec![];
    for life in 1..=kills {
        fleet.wait_for_step(durable.len() as u64 + 1);
        fleet.pass(Duration::from_millis(random.below(DELAY_MS_MAX + 1)));
        fleet.kill(COORDINATOR, "KILL");
        let now = commits(&fleet.dir());
        assert!(now.starts_with(&durable), "life {life}: what was durable changed");
        assert!((now.len() as u64) < steps, "life {life}: the run is too short for the test");
        durable = now;
    }

    assert_eq!(fleet.wait_for_end(), 0);
    assert!(commits(&fleet.dir()).starts_with(&durable));
    let after: Vec<u32> = ids.iter().map(|id| fleet.pid(id)).collect();
    assert_eq!(after, before, "no worker was started again");
    let undisturbed = folder.path().join("undisturbed");
    assert_eq!(Coordinator::start(&undisturbed, 1, &more).wait(), Some(0));
    assert_eq!(proven_digests_of(&fleet.dir(), steps), proven_digests_of(&undisturbed, steps));
}
