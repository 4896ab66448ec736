//! The first promise, on real processes: the outcome does not depend on what happened to the machines.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use polya_tests::process::{Coordinator, proven_digests, run_texts, signal};
use polya_tests::wait::until;
use serde_json::Value;

/// A second longer than the run takes to call somebody dead.
const PAUSE: Duration = Duration::from_secs(3);

/// The digests of an undisturbed run with one worker, made once for all tests.
fn reference() -> &'static Value {
    static REFERENCE: OnceLock<Value> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let dir = folder.path().join("run");
        assert_eq!(Coordinator::start(&dir, 1, &[]).wait(), Some(0));
        proven_digests(&dir)
    })
}

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let dir = folder.path().join("run");
    (folder, dir)
}

#[test]
fn two_and_three_workers_commit_the_states_of_one_at_every_step() {
    for workers in [2, 3] {
        let (_folder, dir) = fresh();
        assert_eq!(Coordinator::start(&dir, workers, &[]).wait(), Some(0));
        assert_eq!(&proven_digests(&dir), reference(), "{workers} workers");
    }
}

#[test]
fn recomputed_activations_change_no_digest() {
    let (_folder, dir) = fresh();
    assert_eq!(Coordinator::start(&dir, 1, &["worker.recompute_layers=2"]).wait(), Some(0));
    assert_eq!(&proven_digests(&dir), reference());
}

/// The weights move once the first four steps have said where the stages began.
#[test]
fn dynamic_stage_weights_are_those_of_any_other_fleet_after_a_crash_too() {
    const DYNAMIC: [&str; 1] = ["loss.mode=dynamic"];
    let (_folder, alone) = fresh();
    assert_eq!(Coordinator::start(&alone, 1, &DYNAMIC).wait(), Some(0));
    let (_folder, killed) = fresh();
    let run = Coordinator::start(&killed, 2, &DYNAMIC);
    run.wait_for_step(6);
    run.signal("KILL");
    assert_eq!(run.wait(), None);
    assert_eq!(Coordinator::resume(&killed, 2).wait(), Some(0));
    let digests = proven_digests(&alone);
    assert_eq!(proven_digests(&killed), digests);
    let of_steps = |digests: &Value, steps: std::ops::Range<usize>| digests.as_array().unwrap()[steps].to_vec();
    assert_eq!(of_steps(&digests, 0..4), of_steps(reference(), 0..4), "as configured at first");
    let (ours, configured) = (of_steps(&digests, 4..8), of_steps(reference(), 4..8));
    assert!(ours.iter().zip(&configured).all(|(ours, configured)| ours != configured), "{ours:?}");
}

#[test]
fn a_killed_worker_leaves_the_digest_unchanged() {
    let (_folder, dir) = fresh();
    let run = Coordinator::start(&dir, 2, &[]);
    run.wait_for_step(2);
    signal(*run.workers().last().expect("two workers run"), "KILL");
    assert_eq!(run.wait(), Some(0));
    assert_eq!(&proven_digests(&dir), reference());
}

#[test]
fn a_stopped_worker_is_replaced_and_leaves_the_digest_unchanged() {
    let (_folder, dir) = fresh();
    let run = Coordinator::start(&dir, 2, &[]);
    run.wait_for_step(2);
    signal(run.workers()[0], "STOP");
    assert_eq!(run.wait(), Some(0));
    assert_eq!(&proven_digests(&dir), reference());
}

/// Its workers hear nothing for longer than a failure takes to be detected, and so does it.
#[test]
fn a_coordinator_that_stood_still_keeps_its_workers_and_the_digest() {
    let (_folder, dir) = fresh();
    let run = Coordinator::start(&dir, 2, &["failure_detection=2s"]);
    run.wait_for_step(2);
    let workers = run.workers();
    run.signal("STOP");
    let stopped = Instant::now();
    until("the pause's end", 2 * PAUSE, || (stopped.elapsed() >= PAUSE).then_some(()));
    run.signal("CONT");
    run.wait_for_step(4);
    assert_eq!(run.workers(), workers, "processes after and before");
    assert_eq!(run.wait(), Some(0));
    assert_eq!(&proven_digests(&dir), reference());
}

#[test]
fn a_killed_coordinator_resumes_to_the_same_digest() {
    let (_folder, dir) = fresh();
    let run = Coordinator::start(&dir, 2, &[]);
    run.wait_for_step(4);
    run.signal("KILL");
    assert_eq!(run.wait(), None);
    assert_eq!(Coordinator::resume(&dir, 1).wait(), Some(0));
    assert_eq!(&proven_digests(&dir), reference());
}

#[test]
fn a_killed_fleet_is_replayed_to_the_same_digest() {
    let (_folder, dir) = fresh();
    let run = Coordinator::start(&dir, 2, &[]);
    run.wait_for_step(5);
    run.signal("KILL");
    run.workers().into_iter().for_each(|pid| signal(pid, "KILL"));
    assert_eq!(run.wait(), None);
    assert_eq!(Coordinator::resume(&dir, 2).wait(), Some(0));
    assert_eq!(&proven_digests(&dir), reference());
}

#[test]
fn an_interrupted_run_saves_and_resumes_to_the_same_digest() {
    let (_folder, dir) = fresh();
    let run = Coordinator::start(&dir, 2, &[]);
    run.wait_for_step(2);
    run.signal("INT");
    assert_eq!(run.wait(), Some(75));
    assert_eq!(Coordinator::resume(&dir, 1).wait(), Some(0));
    assert_eq!(&proven_digests(&dir), reference());
    let journal = std::fs::read(dir.join("journal")).unwrap();
    assert_eq!(Coordinator::resume(&dir, 1).wait(), Some(0), "a finished run is left as it is");
    assert_eq!(std::fs::read(dir.join("journal")).unwrap(), journal);
}

#[test]
fn a_finished_run_has_scores_of_the_contract_s_shape() {
    let (_folder, dir) = fresh();
    assert_eq!(Coordinator::start(&dir, 2, &[]).wait(), Some(0));
    let text = std::fs::read_to_string(dir.join("evaluation/final.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    for side in ["base", "trained"] {
        assert_eq!(json[side]["n"], 3);
        let svr = ["detection", "correction", "false_alarm", "j", "live", "broken", "net_gain"];
        let stages = ["understand", "plan", "execute", "verify"];
        let paths = ["accuracy", "rfs", "rfs_format"].map(|name| format!("/{side}/{name}"));
        let svr = svr.map(|name| format!("/{side}/svr/{name}"));
        let stages = stages.map(|name| format!("/{side}/per_stage_accuracy/{name}"));
        for path in paths.iter().chain(&svr).chain(&stages) {
            let figure = json.pointer(path).unwrap_or(&Value::Null);
            for key in ["value", "low", "high", "n"] {
                assert!(figure.get(key).is_some(), "{path} has no {key}: {figure}");
            }
        }
    }
    let status = run_texts("coordinator", &["status", dir.to_str().unwrap()]);
    assert!(status.status.success() && String::from_utf8_lossy(&status.stdout).contains("finished"));
}
