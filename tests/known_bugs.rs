//! Bugs of other trainers, each as a promise of this one. The names say whose.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use polya_tests::fleet::{COORDINATOR, Fleet, commits};
use polya_tests::process::{Coordinator, audit, proven_digests_of, signal};
use serde_json::Value;

const STEPS: u64 = 6;
/// Six steps over three epochs: a whole and a shorter step in each.
const MORE: [&str; 5] =
    ["train.steps=6", "data.synthetic_count=14", "evaluation.samples=0", "checkpoint.every=4", "failure_detection=2s"];

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let dir = folder.path().join("run");
    (folder, dir)
}

/// The audit of an undisturbed run with one worker.
fn reference() -> &'static Value {
    static REFERENCE: OnceLock<Value> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let (_folder, dir) = fresh();
        assert_eq!(Coordinator::start(&dir, 1, &MORE).wait(), Some(0));
        proven_digests_of(&dir, STEPS);
        let (report, _) = audit(&dir);
        assert!(report["epochs"].as_u64() >= Some(2), "steps end epochs on the way: {report:#}");
        report
    })
}

fn assert_equal(dir: &Path) {
    assert_eq!(proven_digests_of(dir, STEPS), reference()["digests"]);
    let (report, _) = audit(dir);
    for count in ["steps", "samples", "epochs", "duplicates", "missing"] {
        assert_eq!(report[count], reference()[count], "{count}");
    }
}

/// transformers 40691, accelerate 4071, ms-swift 10050: another order after a resume in mid-epoch. verl 7401: an epoch
/// skipped with exit 0. composer 3725: three resumes in a row diverge. llm-foundry 1277: packing breaks the offset. All
/// processes die after every single commit, the first and the last of an epoch included.
#[test]
fn a_resume_after_every_single_step_changes_nothing() {
    let (folder, _) = fresh();
    let mut fleet = Fleet::start(folder.path(), &MORE, &[(COORDINATOR, "commit@1")]);
    for step in 1..STEPS {
        fleet.start_worker("w0");
        fleet.wait_for_hold(COORDINATOR, &format!("commit@{step}"));
        fleet.kill_all();
        assert_eq!(commits(&fleet.dir()).len() as u64, step, "durable, told to nobody");
        fleet = Fleet::resume(folder.path(), &[(COORDINATOR, &format!("commit@{}", step + 1))]);
    }
    fleet.start_worker("w0");
    fleet.wait_for_hold(COORDINATOR, &format!("commit@{STEPS}"));
    fleet.kill_all();
    let mut last = Fleet::resume(folder.path(), &[]);
    last.start_worker("w0");
    assert_eq!(last.wait_for_end(), 0);
    assert_equal(&last.dir());
}

/// transformers 40245: saved with one process, resumed with two, samples are lost. The other way round as well.
#[test]
fn saved_with_one_worker_resumed_with_three_saved_again_resumed_with_two() {
    let (_folder, dir) = fresh();
    for (workers, step) in [(1, 2), (3, 4)] {
        let run = if step == 2 { Coordinator::start(&dir, workers, &MORE) } else { Coordinator::resume(&dir, workers) };
        run.wait_for_step(step);
        run.signal("INT");
        if run.wait() == Some(0) {
            break; // it was over before it heard
        }
    }
    assert_eq!(Coordinator::resume(&dir, 2).wait(), Some(0));
    assert_equal(&dir);
}

/// torchft 309: a survivor advances although the step was not committed. Here all are READY, the coordinator dies before
/// the append, one worker dies too: the other one must neither flip nor lose what it has.
#[test]
fn a_survivor_does_not_advance_before_the_commit_and_does_not_lose_it() {
    let (folder, _) = fresh();
    let holds = [("w0", "compute@2"), (COORDINATOR, "append-commit@3")];
    let mut fleet = Fleet::start(folder.path(), &MORE, &holds);
    fleet.start_worker("w0");
    fleet.wait_for_hold("w0", "compute@2");
    fleet.start_worker("w1");
    fleet.wait_for_worker("w1", 0);
    fleet.go("w0", "compute@2", "");
    fleet.wait_for_hold(COORDINATOR, "append-commit@3");
    let survivor = fleet.pid("w0");
    signal(fleet.pid("w1"), "KILL");
    signal(fleet.pid(COORDINATOR), "KILL");
    assert_eq!(fleet.wait_for_end(), 0);
    assert_eq!(fleet.pid("w0"), survivor, "it has not been restarted");
    let third = &commits(&fleet.dir())[2];
    assert!(third.microbatches.values().any(|part| part.worker == "w1"), "its table had the dead worker's part");
    assert_equal(&fleet.dir());
}

/// Psyche: a batch is lost on each disconnect. kubeflow: one pod's restart hangs the job. Each worker dies once in each of
/// three steps.
#[test]
fn no_microbatch_is_lost_with_its_worker() {
    let (folder, _) = fresh();
    let mut fleet = Fleet::start(folder.path(), &MORE, &[("w0", "compute@2"), ("w1", "compute@2")]);
    for id in ["w0", "w1"] {
        fleet.start_worker(id);
    }
    fleet.wait_for_hold("w0", "compute@2");
    signal(fleet.pid("w0"), "KILL");
    fleet.go("w1", "compute@2", "");
    assert_eq!(fleet.wait_for_end(), 0);
    assert_equal(&fleet.dir());
}
