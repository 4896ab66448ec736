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
        assert_eq!((&twin.execute, &twin.verify), (&right.execute, &right.verify));
    }
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
    for steps in ["0..3", "3..2", "many"] {
        let done = datasets(&format!("synthesize --count 1 --seed 1 --steps {steps}"), &[("--output", &output)]);
        assert_eq!(done.status.code(), Some(2), "{steps}");
    }
    assert!(!output.exists(), "nothing is left of a command that failed");
}
