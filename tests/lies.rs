//! A device that computes wrongly, on real tensors and in a real process: the run stops, with nothing wrong committed, and
//! names it. All lies of `liar.rs` with `FAULTS_FULL=1`.

use polya_tests::fleet::{COORDINATOR, Fleet, commits};
use polya_tests::liar::{LIES, Lie};
use polya_tests::process::{Coordinator, is_full};

/// Everything is computed twice, by two of three.
const MORE: [&str; 5] = [
    "batch.microbatches_per_step=6",
    "evaluation.samples=0",
    "checkpoint.every=0",
    "run.second_computation=1",
    "run.min_workers=3",
];
const FROM_STEP: u64 = 3;

/// One of each kind: the gradient, what is said of it, the sum.
const QUICK: [Lie; 3] = [Lie::OneUnit, Lie::NotFinite, Lie::HalfReduced];

#[test]
fn a_lying_device_stops_the_run_and_is_named() {
    let honest = {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let dir = folder.path().join("run");
        assert_eq!(Coordinator::start(&dir, 1, &MORE[..4]).wait(), Some(0));
        commits(&dir)
    };
    for lie in if is_full() { LIES.to_vec() } else { QUICK.to_vec() } {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut fleet = Fleet::start(folder.path(), &MORE, &[]);
        fleet.start_worker("w0");
        fleet.start_lying_worker("w1", lie, FROM_STEP);
        fleet.start_worker("w2");
        assert_eq!(fleet.wait_for_end(), 1, "{lie:?}");
        let said = fleet.said(COORDINATOR);
        let error = said.lines().find(|line| line.starts_with("error: ")).expect("the reason is printed");
        println!("{lie:?}: {error}");
        assert!(error.contains("w1"), "{lie:?}: {error}");
        let committed = commits(&fleet.dir());
        assert!(committed.len() as u64 >= FROM_STEP - 1, "{lie:?}: stopped before it lied: {error}");
        for (commit, known) in committed.iter().zip(&honest) {
            assert_eq!(commit.state, known.state, "{lie:?}: something wrong is committed");
        }
    }
}
