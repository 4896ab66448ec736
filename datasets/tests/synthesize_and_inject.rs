//! The commands `synthesize` and `inject` as a user meets them.

#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

use std::path::Path;
use std::process::{Command, Output};

use polya_datasets::parquet;
use polya_datasets::trajectory::Trajectory;

fn datasets(arguments: &str, files: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_datasets"));
    command.args(arguments.split_whitespace());
    for (flag, path) in files {
        command.arg(flag).arg(path);
    }
    command.output().unwrap()
}

fn succeed(arguments: &str, files: &[(&str, &Path)]) {
    let done = datasets(arguments, files);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
}

#[test]
fn the_same_seed_makes_the_same_file_and_another_seed_other_problems() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, seed) in [("a.parquet", 7), ("b.parquet", 7), ("c.parquet", 8)] {
        succeed(&format!("synthesize --count 50 --seed {seed} --steps 2..3"), &[("--output", &path(name))]);
    }
    let bytes = |name: &str| std::fs::read(path(name)).unwrap();
    assert_eq!(bytes("a.parquet"), bytes("b.parquet"));
    assert_ne!(bytes("a.parquet"), bytes("c.parquet"));
    let made = parquet::read(&path("a.parquet")).unwrap();
    assert_eq!(made.len(), 50);
    assert!(made.iter().all(|trajectory| (2..=3).contains(&trajectory.execute.lines().count())));
    succeed("synthesize --count 50 --seed 7 --steps 2..3", &[("--output", &path("a.jsonl"))]);
    let lines = std::fs::read_to_string(path("a.jsonl")).unwrap();
    let read: Vec<Trajectory> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, made);
}

#[test]
fn a_planted_error_has_its_twin_beside_it_and_the_kind_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("a.parquet"), folder.path().join("b.parquet"));
    succeed("synthesize --count 200 --seed 7", &[("--output", &input)]);
    succeed(
        "inject --rate 0.5 --kinds arithmetic,off-by-one --twins --seed 3",
        &[("--input", &input), ("--output", &output)],
    );
    let (before, after) = (parquet::read(&input).unwrap(), parquet::read(&output).unwrap());
    let planted: Vec<usize> = (0..after.len()).filter(|index| after[*index].corrective).collect();
    assert!((70..130).contains(&planted.len()), "{}", planted.len());
    assert_eq!(after.len(), before.len() + planted.len(), "every problem is still there");
    for index in planted {
        let (wrong, twin) = (&after[index], &after[index + 1]);
        assert!(["arithmetic", "off-by-one"].contains(&wrong.planted.as_ref().unwrap().kind.as_str()));
        assert_eq!((&wrong.question, &wrong.answer), (&twin.question, &twin.answer));
        assert!(!twin.corrective && twin.planted.is_none() && twin.execute != wrong.execute);
        let right = before.iter().find(|right| right.question == twin.question).unwrap();
        let named = |t: &Trajectory| serde_json::from_str::<serde_json::Value>(&t.meta).unwrap()["twin"].clone();
        assert_eq!((named(wrong), named(twin)), (twin.id.clone().into(), wrong.id.clone().into()));
        assert_eq!((&twin.execute, &twin.verify), (&right.execute, &right.verify));
    }
}

#[test]
fn every_trajectory_is_planted_refused_or_left_alone_and_the_counts_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (input, output, refused) = (path("a.parquet"), path("b.parquet"), path("r.jsonl"));
    succeed("synthesize --count 400 --seed 7", &[("--output", &input)]);
    let arguments = "inject --rate 0.75 --kinds dropped-step=3,unit --twins --json --seed 3";
    let done = datasets(arguments, &[("--input", &input), ("--output", &output), ("--refused", &refused)]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let counts: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let sum = |key: &str| counts[key].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
    let number = |key: &str| counts[key].as_u64().unwrap();
    assert_eq!(number("read"), 400);
    assert_eq!(sum("planted") + sum("refused") + number("untouched"), 400);
    assert_eq!((number("twins"), number("written")), (sum("planted"), 400 + sum("planted")));
    let after = parquet::read(&output).unwrap();
    assert_eq!(after.len() as u64, number("written"));
    assert_eq!(after.iter().filter(|trajectory| trajectory.corrective).count() as u64, sum("planted"));
    assert!(counts["planted"]["dropped-step"].as_u64() > Some(100), "{counts}");
    let lines = std::fs::read_to_string(&refused).unwrap();
    assert_eq!(lines.lines().count() as u64, sum("refused"));
    for line in lines.lines() {
        let refusal: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(refusal["code"], "no_kind_fits");
        assert!(after.iter().any(|trajectory| refusal["id"] == *trajectory.id && !trajectory.corrective));
    }
    let again = datasets("inject --rate 1 --seed 3", &[("--input", &output), ("--output", &path("c.parquet"))]);
    let table = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(table.contains("  planted, sign") && table.contains("  refused, planted_already"), "{table}");
}

#[test]
fn rate_zero_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("a.parquet"), folder.path().join("b.parquet"));
    succeed("synthesize --count 20 --seed 7", &[("--output", &input)]);
    succeed("inject --rate 0 --seed 3", &[("--input", &input), ("--output", &output)]);
    assert_eq!(parquet::read(&input).unwrap(), parquet::read(&output).unwrap());
}

#[test]
fn what_the_command_line_can_fix_is_exit_code_2_and_damage_is_1() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("a.parquet"), folder.path().join("b.parquet"));
    let files: [(&str, &Path); 2] = [("--input", &input), ("--output", &output)];
    let missing = datasets("inject --rate 0.5 --seed 3", &files);
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    assert!(String::from_utf8_lossy(&missing.stderr).contains("a.parquet"));
    std::fs::write(&input, b"not parquet").unwrap();
    assert_eq!(datasets("inject --rate 0.5 --seed 3", &files).status.code(), Some(1));
    assert_eq!(datasets("inject --rate 1.5 --seed 3", &files).status.code(), Some(2));
    assert_eq!(datasets("inject --rate 0.5 --kinds typo --seed 3", &files).status.code(), Some(2));
    for kinds in ["unit=0", "unit=x", "unit,unit=2"] {
        succeed("synthesize --count 1 --seed 1", &[("--output", &input)]);
        let done = datasets(&format!("inject --rate 0.5 --kinds {kinds} --seed 3"), &files);
        assert_eq!(done.status.code(), Some(2), "{kinds}");
        assert!(String::from_utf8_lossy(&done.stderr).contains("weight"), "{done:?}");
    }
    for steps in ["0..3", "3..2", "many"] {
        let done = datasets(&format!("synthesize --count 1 --seed 1 --steps {steps}"), &[("--output", &output)]);
        assert_eq!(done.status.code(), Some(2), "{steps}");
    }
    assert!(!output.exists(), "nothing is left of a command that failed");
}
