//! Who was taken for dead and is not: a worker that goes on after its work was given to others, a second coordinator.

use polya_tests::fleet::{COORDINATOR, Fleet, READY_TO_BEGIN, commits};
use polya_tests::process::{Coordinator, proven_digests_of, run_texts, signal, small_holdout, stderr};

const STEPS: u64 = 8;
const MORE: [&str; 4] =
    ["batch.microbatches_per_step=4", "evaluation.samples=0", "checkpoint.every=0", "failure_detection=1s"];

#[test]
fn a_worker_that_was_stopped_past_its_lease_is_refused_heals_and_works_again() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let holds = [("w0", READY_TO_BEGIN), ("w1", READY_TO_BEGIN), ("w1", "compute@3"), ("w0", "sum@5")];
    let holdout = small_holdout(folder.path());
    let more = [&MORE[..], &[&holdout]].concat();
    let mut fleet = Fleet::start(folder.path(), &more, &holds);
    fleet.start_together(&["w0", "w1"]);
    fleet.wait_for_hold("w1", "compute@3");
    let zombie = fleet.pid("w1");
    signal(zombie, "STOP");
    fleet.go("w1", "compute@3", ""); // it will go on exactly there
    fleet.wait_for_hold("w0", "sum@5");
    signal(zombie, "CONT");
    fleet.wait_for_worker("w1", 2); // it is back with what it had
    fleet.go("w0", "sum@5", "");
    assert_eq!(fleet.wait_for_end(), 0);

    assert_eq!(fleet.pid("w1"), zombie, "it was not started again");
    let of_zombie = |steps: std::ops::RangeInclusive<usize>| {
        let commits = commits(&fleet.dir());
        steps.filter(|step| commits[step - 1].microbatches.values().any(|part| part.worker == "w1")).count()
    };
    assert_eq!(of_zombie(3..=5), 0, "nothing that it said of these steps counts");
    assert!(of_zombie(6..=8) > 0, "it works again");
    assert!(fleet.said(COORDINATOR).contains("worker w1 is gone: silent for"), "it was taken for dead");
    let undisturbed = folder.path().join("undisturbed");
    assert_eq!(Coordinator::start(&undisturbed, 1, &more).wait(), Some(0));
    assert_eq!(proven_digests_of(&fleet.dir(), STEPS), proven_digests_of(&undisturbed, STEPS));
}

#[test]
fn a_second_coordinator_of_a_run_refuses_also_while_the_first_stands_still() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let holdout = small_holdout(folder.path());
    let more = [&MORE[..], &[&holdout]].concat();
    let mut fleet = Fleet::start(folder.path(), &more, &[("w0", "compute@3")]);
    fleet.start_worker("w0");
    fleet.wait_for_hold("w0", "compute@3");
    let dir = fleet.dir().display().to_string();
    let first = fleet.pid(COORDINATOR);
    for stopped in [false, true] {
        if stopped {
            signal(first, "STOP");
        }
        let second = run_texts("coordinator", &["--resume", &dir, "--external", "--listen", "127.0.0.1:0"]);
        let said = stderr(&second);
        assert!(!second.status.success() && said.contains("another coordinator runs in this directory"), "{said}");
    }
    signal(first, "CONT");
    fleet.go("w0", "compute@3", "");
    assert_eq!(fleet.wait_for_end(), 0);
    assert_eq!(fleet.pid(COORDINATOR), first);
    proven_digests_of(&fleet.dir(), STEPS);
}
