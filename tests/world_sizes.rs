//! The number of workers, on real tensors: whatever it is and however it changes within an epoch, the states are those of
//! one worker at every step. Up to eight with `FAULTS_FULL=1`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use polya_tests::fleet::{COORDINATOR, Fleet, READY_TO_BEGIN, commits};
use polya_tests::process::{Coordinator, audit, is_full, proven_digests_of, small_holdout};
use serde_json::Value;

const STEPS: u64 = 9;
/// As many microbatches as the most workers, and one epoch that outlasts the run.
const MORE: [&str; 6] = [
    "train.steps=9",
    "batch.microbatches_per_step=8",
    "batch.tokens_per_microbatch=256",
    "data.synthetic_count=400",
    "evaluation.samples=0",
    "checkpoint.every=0",
];

#[test]
fn any_number_of_workers_commits_the_states_of_one() {
    for workers in if is_full() { 2..=8 } else { 4..=4 } {
        let (folder, dir) = fresh();
        let [holdout, all] = [small_holdout(folder.path()), format!("run.min_workers={workers}")];
        let more = [&MORE[..], &[&holdout, &all]].concat();
        assert_eq!(Coordinator::start(&dir, workers, &more).wait(), Some(0));
        assert_eq!(&proven_digests_of(&dir, STEPS), states_of_one(), "{workers} workers");
        assert_eq!(workers_of(&dir, 1..=STEPS).len(), workers as usize, "all of them took part");
    }
}

/// 2 -> 1 -> 3 -> 2: one leaves in step 2, two come in step 4, one leaves in step 7.
#[test]
fn the_number_of_workers_may_change_in_mid_epoch() {
    let (folder, _) = fresh();
    let holds = [("w0", READY_TO_BEGIN), ("w1", READY_TO_BEGIN), ("w0", "sum@2"), ("w0", "sum@4"), ("w0", "sum@7")];
    let holdout = small_holdout(folder.path());
    let mut fleet = Fleet::start(folder.path(), &[&MORE[..], &[&holdout]].concat(), &holds);
    fleet.start_together(&["w0", "w1"]);

    fleet.wait_for_hold("w0", "sum@2");
    fleet.dismiss("w1");
    fleet.go("w0", "sum@2", "");

    fleet.wait_for_hold("w0", "sum@4");
    for newcomer in ["w2", "w3"] {
        fleet.start_worker(newcomer);
        fleet.wait_for_worker(newcomer, 0);
    }
    fleet.go("w0", "sum@4", "");

    fleet.wait_for_hold("w0", "sum@7");
    fleet.dismiss("w3");
    fleet.go("w0", "sum@7", "");

    assert_eq!(fleet.wait_for_end(), 0, "{}", fleet.said(COORDINATOR));
    let dir = fleet.dir();
    let phases =
        [(1..=1, vec!["w0", "w1"]), (2..=4, vec!["w0"]), (5..=6, vec!["w0", "w2", "w3"]), (7..=9, vec!["w0", "w2"])];
    for (steps, workers) in phases {
        let found = workers_of(&dir, steps.clone());
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), workers, "steps {steps:?}");
    }
    assert_eq!(&proven_digests_of(&dir, STEPS), states_of_one());
    assert_eq!(audit(&dir).0["epochs"], 0, "all of it within the first epoch");
}

/// Whose microbatches are in these commits.
fn workers_of(dir: &Path, steps: std::ops::RangeInclusive<u64>) -> BTreeSet<String> {
    let commits = commits(dir);
    let commits = commits.iter().filter(|commit| steps.contains(&commit.step));
    commits.flat_map(|commit| commit.microbatches.values()).map(|part| part.worker.clone()).collect()
}

fn states_of_one() -> &'static Value {
    static DIGESTS: OnceLock<Value> = OnceLock::new();
    DIGESTS.get_or_init(|| {
        let (folder, dir) = fresh();
        let holdout = small_holdout(folder.path());
        assert_eq!(Coordinator::start(&dir, 1, &[&MORE[..], &[&holdout]].concat()).wait(), Some(0));
        proven_digests_of(&dir, STEPS)
    })
}

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let dir = folder.path().join("run");
    (folder, dir)
}
