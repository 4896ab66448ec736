//! The fleet of a live run, in real processes: other machines, more and fewer workers, a restarted coordinator.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use polya_tests::fleet::Fleet;
use polya_tests::forge::forge;
use polya_tests::process::{Coordinator, LIMIT, audit, proven_digests, run_texts, signal, stderr};
use polya_tests::wait::until;
use serde_json::Value;

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    (folder, dir)
}

/// The states of all steps with one worker.
fn reference(more: &[&str]) -> Value {
    let (_folder, dir) = fresh();
    assert_eq!(Coordinator::start(&dir, 1, more).wait(), Some(0));
    audit(&dir).0["digests"].clone()
}

fn status(dir: &Path) -> Value {
    let output = run_texts("coordinator", &["status", dir.to_str().unwrap(), "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

#[test]
fn a_run_of_another_class_of_machine_is_refused_with_the_words_of_both() {
    let (_folder, dir) = fresh();
    let run = Coordinator::start(&dir, 1, &[]);
    run.wait_for_step(2);
    run.signal("KILL");
    run.workers().into_iter().for_each(|pid| signal(pid, "KILL"));
    assert_eq!(run.wait(), None);
    forge(&dir.join("journal"), |record| {
        if let Some(class) = record.get_mut("class") {
            // As a machine of another kind would have begun it.
            class["digest"] = "e".repeat(64).into();
            class["words"] = "another processor".into();
        }
    });
    let output = run_texts("coordinator", &["--resume", dir.to_str().unwrap(), "--workers", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    for words in ["exit 76", "worker w0", "[another processor]", "kernels for", "--allow-mixed"] {
        assert!(error.contains(words), "{words}: {error}");
    }
}

/// The run waits with a reason, or goes on with `scale`: nothing here depends on who is faster.
#[test]
fn workers_come_and_go_on_a_live_run_and_the_states_stay() {
    let (_folder, dir) = fresh();
    let run = Coordinator::start(&dir, 1, &["run.min_workers=3", "run.second_computation=2", "train.steps=24"]);
    let waits_for = |worker: &str| {
        let expected = format!("{worker} worker, because run.min_workers = 3");
        until(&expected, LIMIT, || (status(&dir)["waiting_for"] == expected.as_str()).then_some(()));
    };
    let scale = |workers: &str| {
        let output = run_texts("coordinator", &["scale", workers, "--run", dir.to_str().unwrap()]);
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    waits_for("a second");
    assert_eq!(scale("3"), "3 workers: w1, w2 started");
    run.wait_for_step(1);
    assert_eq!(scale("2"), "2 workers: w2 leave after the step");
    waits_for("a third");
    assert_eq!(scale("3"), "3 workers: w2 started");
    until("another step", LIMIT, || {
        (status(&dir)["waiting_for"] != "a third worker, because run.min_workers = 3").then_some(())
    });
    // Who is told to leave by a signal does so at once, and nobody takes its place.
    signal(run.workers()[2], "TERM");
    waits_for("a third");
    assert_eq!(run.workers().len(), 2);
    scale("3");
    assert_eq!(run.wait(), Some(0));
    let (report, proven) = audit(&dir);
    assert_eq!(proven, Some(0), "{report:#}");
    assert_eq!(report["digests"], reference(&["train.steps=24"]));
    assert!(report["recomputed"].as_u64() > Some(0), "some were computed by two workers");
    assert_eq!(report["classes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_restarted_coordinator_takes_over_the_workers_as_they_are() {
    let (_folder, dir) = fresh();
    let run = Coordinator::start(&dir, 2, &[]);
    run.wait_for_step(3);
    let before = run.workers();
    run.signal("KILL");
    assert_eq!(run.wait(), None);
    let run = Coordinator::resume(&dir, 2);
    until("a live coordinator with both workers", LIMIT, || {
        let workers = status(&dir)["workers"].as_array().map_or(0, Vec::len);
        (workers == 2).then_some(())
    });
    assert_eq!(run.workers(), before, "no process was started anew");
    assert_eq!(run.wait(), Some(0));
    assert_eq!(proven_digests(&dir), reference(&[]));
}

#[test]
fn variables_that_choose_kernels_do_not_reach_the_arithmetic() {
    let (_folder, dir) = fresh();
    let variables = [("ATEN_CPU_CAPABILITY", "default"), ("OMP_NUM_THREADS", "2")];
    assert_eq!(Coordinator::start_in(&dir, 1, &[], &variables).wait(), Some(0));
    assert_eq!(proven_digests(&dir), reference(&[]));
}

/// The coordinator's own machine says nothing about what workers elsewhere have.
#[test]
fn the_first_worker_from_elsewhere_decides_the_device_and_status_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["worker.device=auto", "train.steps=2", "evaluation.samples=0"];
    let mut fleet = Fleet::start(folder.path(), &more, &[]);
    let dir = fleet.dir();
    let waits = || status(&dir)["waiting_for"].as_str().is_some_and(|reason| reason.contains("first worker"));
    until("the reason", LIMIT, || waits().then_some(()));
    assert!(!dir.join("journal").exists(), "nothing has begun");
    fleet.start_worker("w0");
    assert_eq!(fleet.wait_for_end(), 0);
    let survey: Value = serde_json::from_slice(&run_texts("worker", &["devices", "--json"]).stdout).unwrap();
    let device = if survey["gpus"].as_array().unwrap().is_empty() { "cpu" } else { "cuda" };
    let config = std::fs::read_to_string(dir.join("run.toml")).unwrap();
    assert!(config.contains(&format!("device = \"{device}\"")), "{config}");
}
