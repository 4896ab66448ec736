//! Workers and now and then the coordinator die, come and go every half to two seconds, on real tensors. What passes is
//! equal digests, not that it did not hang. Five minutes with `FAULTS_FULL=1`.

use std::time::{Duration, Instant};

use polya_tests::fleet::{COORDINATOR, Fleet, READY_TO_BEGIN, commits};
use polya_tests::process::{Coordinator, LIMIT, audit, is_full, small_holdout};
use polya_tests::seed::Random;
use polya_tests::wait::until;

/// More steps than there is time for: what is compared is how far the run came.
const MORE: [&str; 6] = [
    "train.steps=20000",
    "batch.microbatches_per_step=6",
    "batch.tokens_per_microbatch=256",
    "evaluation.samples=0",
    "checkpoint.every=20",
    "failure_detection=2s",
];
const WORKERS: std::ops::RangeInclusive<usize> = 2..=4;

#[test]
fn however_workers_come_and_die_the_states_are_those_of_an_undisturbed_run() {
    let length = Duration::from_secs(if is_full() { 300 } else { 15 });
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let holdout = small_holdout(folder.path());
    let more = [&MORE[..], &[&holdout]].concat();
    let mut fleet = Fleet::start(folder.path(), &more, &[("w0", READY_TO_BEGIN), ("w1", READY_TO_BEGIN)]);
    fleet.start_together(&["w0", "w1"]);
    let mut living = vec!["w0".to_owned(), "w1".to_owned()];
    let mut random = Random::of_test(7);
    let (mut names, mut deaths, mut comings, mut goings) = (2.., 0, 0, 0);
    let end = Instant::now() + length;
    while Instant::now() < end {
        fleet.pass(Duration::from_millis(500 + random.below(1_501)));
        let any = random.below(living.len() as u64) as usize;
        match random.below(8) {
            0 => {
                fleet.kill(COORDINATOR, "KILL");
                deaths += 1;
            }
            1 if living.len() > *WORKERS.start() => {
                fleet.dismiss(&living.remove(any));
                goings += 1;
            }
            2 | 3 if living.len() < *WORKERS.end() => {
                let id = format!("w{}", names.next().unwrap_or(0));
                fleet.start_worker(&id);
                living.push(id);
                comings += 1;
            }
            _ => {
                fleet.kill(&living[any], "KILL"); // and it is started again
                deaths += 1;
            }
        }
    }
    let reached = commits(&fleet.dir()).len() as u64;
    fleet.wait_for_step(reached + 3); // it still goes on
    fleet.kill_all();
    let committed = commits(&fleet.dir());
    println!("{} steps, {deaths} deaths, {comings} comings, {goings} goings", committed.len());
    let (report, code) = audit(&fleet.dir());
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!([&report["duplicates"], &report["missing"], &report["holdout_leaks"]], [0, 0, 0], "{report:#}");

    let undisturbed = folder.path().join("undisturbed");
    let _run = Coordinator::start(&undisturbed, 2, &more);
    until("the same steps of an undisturbed run", LIMIT + 2 * length, || {
        (commits(&undisturbed).len() >= committed.len()).then_some(())
    });
    for (commit, known) in committed.iter().zip(commits(&undisturbed)) {
        assert_eq!(commit.state, known.state, "step {}", commit.step);
    }
}
