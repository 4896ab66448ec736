//! `datasets contamination` as a user meets it: what it finds, where it says it is, and its exit codes.

#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use polya_datasets::parquet;
use polya_datasets::synthesize::{STEPS, synthesize};
use polya_datasets::trajectory::Trajectory;
use serde_json::{Value, json};

fn contamination(train: &Path, holdout: &Path, more: &[&str]) -> Output {
    let files = ["contamination", "--train", train.to_str().unwrap(), "--holdout", holdout.to_str().unwrap()];
    Command::new(env!("CARGO_BIN_EXE_datasets")).args([&files[..], more].concat()).output().unwrap()
}

#[test]
fn a_holdout_question_in_a_training_solution_is_found_and_strict_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut train: Vec<Trajectory> = (0..50).map(|index| synthesize(1, index, 1..=1)).collect();
    let holdout: Vec<Trajectory> = (0..20).map(|index| synthesize(2, index, STEPS)).collect();
    let leaked = holdout.iter().position(|t| t.question.split_whitespace().count() > 20).unwrap();
    train[31].verify = format!("As in: {}", holdout[leaked].question.to_uppercase());
    parquet::write(&path("train.parquet"), train.iter(), &BTreeMap::new()).unwrap();
    parquet::write(&path("holdout.parquet"), holdout.iter(), &BTreeMap::new()).unwrap();
    // The same questions as a published set has them.
    let line = |t: &Trajectory| json!({ "problem": t.question, "solution": t.execute }).to_string() + "\n";
    std::fs::write(path("holdout.jsonl"), holdout.iter().map(line).collect::<String>()).unwrap();
    for (name, id) in [("holdout.parquet", holdout[leaked].id.clone()), ("holdout.jsonl", leaked.to_string())] {
        let output = path("report.json");
        let more = ["--json", "--output", output.to_str().unwrap()];
        let done = contamination(&path("train.parquet"), &path(name), &more);
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(report, serde_json::from_str::<Value>(&std::fs::read_to_string(&output).unwrap()).unwrap());
        assert_eq!(report["holdout"], json!({ "rows": 20, "contaminated": 1, "share": 0.05 }));
        assert_eq!(report["train"], json!({ "rows": 50, "contaminated": 1, "share": 0.02 }));
        let pair = &report["pairs"][0];
        assert_eq!(pair["train"], json!({ "id": train[31].id, "row": 31, "field": "verify", "word": 2 }));
        assert_eq!(pair["holdout"], json!({ "id": id, "row": leaked, "field": "question", "word": 0 }));
        let strict = contamination(&path("train.parquet"), &path(name), &["--strict", "--json"]);
        assert_eq!((strict.status.code(), strict.stdout), (Some(1), done.stdout));
        let message = String::from_utf8_lossy(&strict.stderr);
        assert!(message.contains(name) && message.contains("1 of 20 questions"), "{message}");
    }
    let clean = contamination(&path("holdout.parquet"), &path("train.parquet"), &["--strict"]);
    let text = String::from_utf8(clean.stdout).unwrap();
    assert_eq!((clean.status.code(), text.contains("0 of 50 contaminated (0.00 %)")), (Some(0), true), "{text}");
}

#[test]
fn a_broken_line_is_named_and_a_missing_file_is_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good.jsonl"), folder.path().join("bad.jsonl"));
    std::fs::write(&good, "{\"question\": \"Why?\"}\n").unwrap();
    for (line, says) in [("{\"question\": 3}", "`question` or `problem`"), ("{\"question\"", "no JSON object")] {
        std::fs::write(&bad, format!("{{\"problem\": \"Why not?\"}}\n{line}\n")).unwrap();
        for (train, holdout) in [(&good, &bad), (&bad, &good)] {
            let done = contamination(train, holdout, &[]);
            let message = String::from_utf8_lossy(&done.stderr).into_owned();
            assert_eq!(done.status.code(), Some(1), "{message}");
            assert!(message.contains("bad.jsonl: line 2") && message.contains(says), "{message}");
        }
    }
    for (train, holdout) in [("none.jsonl", "good.jsonl"), ("good.jsonl", "none.parquet")] {
        let done = contamination(&folder.path().join(train), &folder.path().join(holdout), &[]);
        assert_eq!(done.status.code(), Some(2), "{done:?}");
    }
    let nowhere = folder.path().join("none/report.json");
    assert_eq!(contamination(&good, &good, &["--output", nowhere.to_str().unwrap()]).status.code(), Some(2));
}
