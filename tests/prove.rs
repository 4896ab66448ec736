//! What convinces somebody who does not trust us: audit, explain, replay, compare, on real runs.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use polya_tests::forge::forge;
use polya_tests::process::{Coordinator, audit, run_texts, stderr};
use serde_json::Value;

struct Run {
    _folder: tempfile::TempDir,
    dir: PathBuf,
}

impl Run {
    fn of(workers: u32, more: &[&str]) -> Run {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let dir = folder.path().join("run");
        let quick = [&["evaluation.samples=0"], more].concat();
        assert_eq!(Coordinator::start(&dir, workers, &quick).wait(), Some(0));
        Run { _folder: folder, dir }
    }

    /// A run with two workers, made once for all tests; never changed.
    fn reference() -> &'static Run {
        static REFERENCE: OnceLock<Run> = OnceLock::new();
        REFERENCE.get_or_init(|| Run::of(2, &[]))
    }

    /// A copy that may be changed.
    fn copied(&self) -> Run {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let dir = folder.path().join("run");
        copy(&self.dir, &dir);
        Run { _folder: folder, dir }
    }

    fn path(&self) -> &str {
        self.dir.to_str().expect("temporary folders have plain names")
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("the run can be read").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() { copy(&source, &target) } else { drop(std::fs::copy(&source, &target)) }
    }
}

/// Runs `coordinator` and reads its JSON document.
fn coordinator(arguments: &[&str]) -> (Value, Option<i32>) {
    let output = run_texts("coordinator", &[arguments, &["--json"]].concat());
    let json = serde_json::from_slice(&output.stdout);
    assert!(json.is_ok(), "{arguments:?}: {}", stderr(&output));
    (json.unwrap_or_default(), output.status.code())
}

#[test]
fn i1_the_history_of_a_sample_names_step_worker_and_weight_once_an_epoch() {
    let run = Run::reference();
    let (replayed, _) = coordinator(&["replay", run.path(), "--step", "3"]);
    let sample = replayed["samples"][0]["id"].as_str().unwrap().to_owned();
    let (history, code) = coordinator(&["audit", run.path(), "--explain", &sample]);
    assert_eq!(code, Some(0));
    let committed = history["committed"].as_array().unwrap();
    let third = committed.iter().find(|commit| commit["step"] == 3).unwrap();
    let count = replayed["samples"].as_array().unwrap().len();
    assert_eq!((third["microbatch"].as_u64(), third["samples_in_step"].as_u64()), (Some(0), Some(count as u64)));
    assert!(["w0", "w1"].contains(&third["worker"].as_str().unwrap()), "{history:#}");
    let epochs: Vec<u64> = committed.iter().filter_map(|commit| commit["epoch"].as_u64()).collect();
    assert_eq!(epochs, (1..=epochs.len() as u64).collect::<Vec<_>>(), "once in each epoch: {history:#}");
    let output = run_texts("coordinator", &["audit", run.path(), "--explain", "no-such-sample"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn every_committed_step_is_replayed_bit_for_bit_with_each_sample_s_loss() {
    let run = Run::reference();
    let before = std::fs::read(run.dir.join("journal")).unwrap();
    // Step 1 from the start of the run, step 5 from the checkpoint of step 3, step 7 right after a checkpoint.
    for (step, from) in [(1, 0), (5, 3), (7, 6)] {
        let (report, code) = coordinator(&["replay", run.path(), "--step", &step.to_string()]);
        assert_eq!((code, report["equal"].as_bool()), (Some(0), Some(true)), "{report:#}");
        assert_eq!(report["from_checkpoint"], from, "{report:#}");
        for sample in report["samples"].as_array().unwrap() {
            let [loss, norm] = ["loss", "gradient_norm"].map(|key| sample[key].as_f64().unwrap());
            assert!(loss > 0.0 && norm > 0.0 && norm.is_finite(), "{sample:#}");
        }
    }
    assert_eq!(std::fs::read(run.dir.join("journal")).unwrap(), before, "a replay changes nothing");
    let output = run_texts("coordinator", &["replay", run.path(), "--step", "9"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("1 to 8"), "{}", stderr(&output));
}

#[test]
fn a_forged_state_passes_the_chain_and_fails_the_replay() {
    let run = Run::reference().copied();
    forge(&run.dir.join("journal"), |record| {
        if record["commit"]["step"] == 5 {
            record["commit"]["state"] = "00".repeat(32).into();
        }
    });
    let (report, code) = audit(&run.dir);
    assert_eq!((code, report["chain_ok"].as_bool()), (Some(0), Some(true)), "nothing else binds S_5: {report:#}");
    let (report, code) = coordinator(&["replay", run.path(), "--step", "5"]);
    assert_eq!((code, report["equal"].as_bool()), (Some(1), Some(false)), "{report:#}");
    assert_ne!(report["state"]["recorded"], report["state"]["replayed"]);
    assert_eq!(report["sum_digest"]["recorded"], report["sum_digest"]["replayed"]);
}

#[test]
fn i2_forged_records_with_a_whole_chain_are_found_by_the_audit() {
    type Change = fn(&mut Value);
    let forgeries: [(Change, &str); 3] = [
        (|record| record["commit"]["step"] = 6.into(), "is committed where step 5 should be"),
        (|record| record["commit"]["plan"] = "11".repeat(32).into(), "step 5: the plan"),
        (|record| record["commit"]["microbatches"]["0"]["digest"] = 7.into(), "step 5: the microbatches' digests"),
    ];
    for (change, fault) in forgeries {
        let run = Run::reference().copied();
        forge(&run.dir.join("journal"), |record| {
            if record["commit"]["step"] == 5 {
                change(record);
            }
        });
        let (report, code) = audit(&run.dir);
        assert_eq!((code, report["chain_ok"].as_bool()), (Some(1), Some(true)), "{report:#}");
        assert!(report["faults"].to_string().contains(fault), "{fault}: {report:#}");
    }
}

#[test]
fn two_runs_are_compared_to_the_first_step_that_differs_and_why() {
    let run = Run::reference();
    let alone = Run::of(1, &[]);
    let (same, code) = coordinator(&["compare", run.path(), alone.path()]);
    assert_eq!((code, same["equal_steps"].as_u64()), (Some(0), Some(8)), "{same:#}");
    let other = Run::of(1, &["train.learning_rate=1e-3"]);
    let (different, code) = coordinator(&["compare", run.path(), other.path()]);
    assert_eq!((code, different["first_difference"].as_u64()), (Some(1), Some(1)), "{different:#}");
    let reasons = different["reasons"].to_string();
    assert!(reasons.contains("train.learning_rate: 0.003 and 0.001"), "{different:#}");
    let forged = alone.copied();
    forge(&forged.dir.join("journal"), |record| {
        if record["commit"]["step"] == 5 {
            record["commit"]["state"] = "00".repeat(32).into();
        }
    });
    let (different, code) = coordinator(&["compare", run.path(), forged.path()]);
    assert_eq!((code, different["first_difference"].as_u64()), (Some(1), Some(5)), "{different:#}");
    assert!(different["reasons"].to_string().contains("the sums are equal"), "{different:#}");
}

#[test]
fn a_report_is_one_page_that_loads_nothing_from_elsewhere() {
    let run = Run::reference().copied();
    let output = run_texts("coordinator", &["report", run.path()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page = std::fs::read_to_string(run.dir.join("report.html")).unwrap();
    for words in ["loss by stage", "<polyline", "VERIFY", "the run ended with step 8", "proven", "train.learning_rate"]
    {
        assert!(page.contains(words), "{words}");
    }
    for outside in ["http:", "https:", "<script", "<link", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn a_longer_run_begins_with_its_parent_s_adapters_and_names_it() {
    let parent = Run::reference();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("longer");
    let sets = ["evaluation.samples=0", "train.steps=2"].map(|set| ["--set", set]).concat();
    let arguments = ["--from", parent.path(), "--run-dir", dir.to_str().unwrap(), "--workers", "1"];
    let output = run_texts("coordinator", &[&arguments[..], &sets].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (report, _) = audit(&parent.dir);
    let run_toml = std::fs::read_to_string(dir.join("run.toml")).unwrap();
    for name in [&report["digest"], &report["head"]] {
        assert!(run_toml.contains(name.as_str().unwrap()), "{name}: {run_toml}");
    }
    assert!(run_toml.contains("checkpoints/step-000008"), "{run_toml}");
    let (report, code) = audit(&dir);
    assert_eq!((code, report["steps"].as_u64()), (Some(0), Some(2)), "{report:#}");
    // The first loss is what the parent has learned, not what the base knew.
    let first = |dir: &Path| coordinator(&["replay", &dir.display().to_string(), "--step", "1"]).0;
    let mean = |report: &Value| {
        let losses: Vec<f64> =
            report["samples"].as_array().unwrap().iter().filter_map(|s| s["loss"].as_f64()).collect();
        losses.iter().sum::<f64>() / losses.len() as f64
    };
    let (before, after) = (mean(&first(&parent.dir)), mean(&first(&dir)));
    assert!(after < before, "{before} nats before the parent run, {after} after it");
}
