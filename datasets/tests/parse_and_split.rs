//! The commands `parse` and `split` as a user meets them: counts that add up, exit codes, errors that say what to do.

#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use polya_datasets::parquet;
use polya_datasets::split::problem_key;
use polya_datasets::synthesize::{STEPS, synthesize};
use polya_datasets::trajectory::Trajectory;

fn datasets(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_datasets")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn rows(count: u32) -> String {
    let row = |i: u32| {
        let answer = format!("{i}+3=<<{i}+3={sum}>>{sum}\n#### {sum}", sum = i + 3);
        serde_json::json!({ "question": format!("Lan has {i} pens and buys 3. How many?"), "answer": answer })
            .to_string()
    };
    (0..count).map(|i| row(i) + "\n").collect()
}

#[test]
fn a_truncated_file_is_parsed_up_to_the_cut_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output, rejects) =
        (folder.path().join("train.jsonl"), folder.path().join("t.parquet"), folder.path().join("r.jsonl"));
    let whole = rows(20);
    std::fs::write(&input, &whole[..whole.len() - 30]).unwrap();
    let done = datasets(&[
        "parse",
        "--source",
        "gsm8k",
        "--input",
        text(&input),
        "--output",
        text(&output),
        "--rejects",
        text(&rejects),
        "--json",
    ]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let counts: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(counts, serde_json::json!({ "read": 20, "kept": 19, "rejected": { "truncated": 1 }, "duplicates": 0 }));
    let reject: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&rejects).unwrap()).unwrap();
    assert_eq!((reject["line"].as_u64(), reject["reason"].as_str()), (Some(20), Some("truncated")));
    assert_eq!(parquet::read(&output).unwrap().len(), 19);
    assert!(parquet::metadata(&output).unwrap()["polya.source_hash"].starts_with("blake3:"));
}

#[test]
fn a_split_keeps_every_row_and_each_problem_on_one_side() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("train.jsonl"), rows(200)).unwrap();
    let (input, all) = (path("train.jsonl"), path("all.parquet"));
    assert!(
        datasets(&["parse", "--source", "gsm8k", "--input", text(&input), "--output", text(&all)]).status.success()
    );
    let (train, holdout) = (path("a.parquet"), path("b.parquet"));
    let done = datasets(&[
        "split",
        "--input",
        text(&all),
        "--train",
        text(&train),
        "--holdout",
        text(&holdout),
        "--fraction",
        "0.2",
        "--seed",
        "7",
        "--json",
    ]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let keys = |path: &Path| -> BTreeSet<String> {
        parquet::read(path).unwrap().iter().map(|trajectory| problem_key(&trajectory.question)).collect()
    };
    let (train, holdout) = (keys(&train), keys(&holdout));
    assert_eq!(train.len() + holdout.len(), 200);
    assert!(train.is_disjoint(&holdout));
    assert_eq!(holdout.len(), 40);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4, "no temporary file stays");
}

#[test]
fn near_duplicates_stay_together_unless_they_are_told_not_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut all: Vec<Trajectory> = (0..200).map(|index| synthesize(3, index, STEPS)).collect();
    // A hundred questions twice, the second time with a word more and from elsewhere.
    for index in 0..100 {
        let question =
            format!("{} Listen: {}", "one two three four five six seven eight nine ten.", all[index].question);
        all[index].question = question.clone();
        all[100 + index].question = format!("{question} Please!");
        all[100 + index].source = "reworded".to_owned();
    }
    parquet::write(&path("all.parquet"), all.iter(), &BTreeMap::new()).unwrap();
    let split = |similarity: &[&str]| {
        let [all, train, holdout] = ["all.parquet", "a.parquet", "b.parquet"].map(path);
        let files = ["split", "--input", text(&all), "--train", text(&train), "--holdout", text(&holdout)];
        datasets(&[&files[..], &["--fraction", "0.3", "--seed", "7", "--json"], similarity].concat())
    };
    let questions = |name: &str| -> Vec<String> {
        parquet::read(&path(name)).unwrap().into_iter().map(|trajectory| trajectory.question).collect()
    };
    let torn = || {
        let holdout: BTreeSet<String> = questions("b.parquet").into_iter().collect();
        let train = questions("a.parquet");
        train.iter().filter(|question| holdout.contains(&format!("{question} Please!"))).count()
    };
    let done = split(&[]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!(torn(), 0);
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((report["read"].as_u64(), report["largest_cluster"].as_u64()), (Some(200), Some(2)));
    let share = serde_json::json!({ "problems": 100, "holdout": 30 });
    assert_eq!(report["sources"], serde_json::json!({ "synthetic": share, "reworded": share }));
    assert_eq!(report["holdout"], 60);
    for off in ["off", "0"] {
        assert_eq!(split(&["--near-duplicates", off]).status.code(), Some(0));
        assert!(torn() > 0);
    }
    for wrong in ["0.1", "1.5", "-1", "nan", "much"] {
        let done = split(&["--near-duplicates", wrong]);
        assert_eq!(done.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&done.stderr).contains("--near-duplicates"), "{done:?}");
    }
}

#[test]
fn what_the_command_line_can_fix_is_exit_code_2_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.jsonl");
    let output = folder.path().join("t.parquet");
    let done = datasets(&["parse", "--source", "gsm8k", "--input", text(&missing), "--output", text(&output)]);
    let message = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{message}");
    assert!(message.contains("missing.jsonl") && message.contains("give the path"), "{message}");
    let done = datasets(&["parse", "--source", "novels", "--input", text(&missing), "--output", text(&output)]);
    assert_eq!(done.status.code(), Some(2));
    std::fs::write(&output, b"not parquet").unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let split = |fraction: &str| {
        let sides = ["--train", text(&a), "--holdout", text(&b), "--fraction", fraction, "--seed", "1"];
        datasets(&[&["split", "--input", text(&output)], &sides[..]].concat())
    };
    assert_eq!(split("1.5").status.code(), Some(2));
    let damaged = split("0.5");
    assert_eq!(damaged.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&damaged.stderr).contains("t.parquet"));
}
