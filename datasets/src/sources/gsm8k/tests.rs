use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::sources::files::Input;
use crate::sources::lines::LINE_MAX;
use crate::sources::parse::{Collected, Options, parse};
use crate::sources::{Counts, Reject, Source};

struct Parsed {
    trajectories: Vec<Trajectory>,
    rejects: Vec<Reject>,
    counts: Counts,
}

fn parsed_file(path: &Path) -> Parsed {
    let input = Input { path: path.to_owned(), below: None };
    let options = Options { source: Some(Source::Gsm8k), ..Options::default() };
    let mut found = Collected::default();
    let counts = parse(&[input], options, &mut found).unwrap().counts;
    assert!(counts.add_up(), "{counts:?}");
    assert_eq!(found.rejects.len() as u64, counts.refused());
    assert_eq!(found.duplicates.len() as u64, counts.duplicates);
    Parsed { trajectories: found.trajectories, rejects: found.rejects, counts }
}

fn parsed(bytes: &[u8]) -> Parsed {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.jsonl");
    std::fs::write(&path, bytes).unwrap();
    parsed_file(&path)
}

fn row(question: &str, answer: &str) -> String {
    serde_json::json!({ "question": question, "answer": answer }).to_string() + "\n"
}

fn reason(answer: &str) -> Option<&'static str> {
    parsed(row("How many are 2 and 3?", answer).as_bytes()).rejects.first().map(|reject| reject.reason)
}

#[test]
fn a_row_becomes_a_trajectory() {
    let bytes = row(
        "Lan has 48 pens and half as many caps. How many things?",
        "48/2=<<48/2=24>>24 caps\n48+24=<<48+24=72>>72\n#### 72",
    );
    let parsed = parsed(bytes.as_bytes());
    let made = &parsed.trajectories[0];
    assert_eq!((made.id.as_str(), made.answer.as_str(), made.split.as_str()), ("gsm8k/train/0", "72", "train"));
    assert_eq!(made.execute, "1. 48 / 2 = 24\n2. 48 + 24 = 72");
    assert!(made.meta.contains("\"exact\":true"));
}

#[test]
fn annotations_of_all_kinds_are_read() {
    let cases = [
        "<<2+3=5>>5\n#### 5",
        "<<560//10=56>>56\n#### 56",
        "<<18*.5=9>>9\n#### 9",
        "<<+30+46=76>>76\n#### 76",
        "<<71+-3=68>>68\n#### 68",
        "<<(2+3)*4=20>>20\n#### 20",
        "<<2-12=-10>>-10\n#### -10",
        "<<1200*2=2400.00>>2,400\n#### 2,400",
        "<<3/4=3/4>>3/4 so <<3/4*8=6>>6\n#### 6",
        "<<2*3=6>>6\n<<2*3=6>>6\n#### 6",
        "no annotation, 2 + 3 = 5\n#### 5",
        "first <<2*3=6>>6, then 6+4=10\n#### 10",
    ];
    for answer in cases {
        assert_eq!(reason(answer), None, "{answer}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let cases = [
        ("<<2+3=6>>6\n#### 6", "wrong_annotation"),
        ("<<2+3>>5\n#### 5", "bad_annotation"),
        ("<<2+x=5>>5\n#### 5", "bad_annotation"),
        ("<<5/0=1>>5\n#### 5", "bad_annotation"),
        ("<<2+3=5\n#### 5", "open_annotation"),
        ("<<2+3=5>>5", "no_final_answer"),
        ("<<2+3=5>>5\n#### five", "final_answer_is_no_number"),
        (" ", "empty_field"),
    ];
    for (answer, expected) in cases {
        assert_eq!(reason(answer), Some(expected), "{answer}");
    }
}

#[test]
fn an_answer_that_no_sum_makes_is_kept_as_prose_and_marked() {
    let found = parsed(row("How many are 2 and 3 and more?", "2+3=<<2+3=5>>5, and two more.\n#### 7").as_bytes());
    let made = &found.trajectories[0];
    assert_eq!(made.execute, "2+3=5, and two more.");
    assert!(made.verify.starts_with("1. 5 - 3 = 2\n"), "{}", made.verify);
    assert!(made.meta.contains("\"exact\":false") && !crate::graph::of(made).exact, "{}", made.meta);
    let stated = parsed(row("x?", "3*x = 12, so x = <<4=4>>4\n#### 4").as_bytes());
    let graph = crate::graph::of(&stated.trajectories[0]);
    assert_eq!((graph.exact, graph.derivations[0].expression.as_str()), (true, "4"));
}

#[test]
fn bad_bytes_are_rejects_with_their_place() {
    let good = row("2 and 3?", "<<2+3=5>>5\n#### 5");
    let cases: [(&[u8], &str); 9] = [
        (b"\xff\xfe\n", "not_utf8"),
        (b"\n", "blank_line"),
        (b"{\"question\": \"q\", \"ans", "truncated"),
        (b"{\"question\": \"q\", \"ans\n", "not_json"),
        (b"{\"question\": \"q\"}\n", "missing_field"),
        (b"{\"question\": 5, \"answer\": \"#### 5\"}\n", "not_a_string"),
        (b"{\"question\": \"q\\u0000\", \"answer\": \"#### 5\"}\n", "nul"),
        (b"[1, 2]\n", "not_an_object"),
        (b"\x00\n", "not_json"),
    ];
    for (bytes, expected) in cases {
        let all = [good.as_bytes(), bytes].concat();
        let found = parsed(&all);
        assert_eq!((found.counts.read, found.counts.kept), (2, 1));
        let reject = &found.rejects[0];
        assert_eq!(
            (reject.reason, reject.place.line, reject.place.byte),
            (expected, 2, good.len() as u64),
            "{bytes:?}"
        );
    }
    let deep = format!("{}\n", "[".repeat(100_000));
    assert_eq!(parsed(deep.as_bytes()).rejects[0].reason, "not_json");
    let long = format!("{}\n{good}", "x".repeat(LINE_MAX + 1));
    let found = parsed(long.as_bytes());
    assert_eq!((found.rejects[0].reason, found.counts.kept), ("too_long", 1));
}

#[test]
fn a_byte_order_mark_and_carriage_returns_do_no_harm() {
    let bytes = "\u{feff}".to_owned() + &row("2 and 3?", "<<2+3=5>>5\r\n#### 5").replace('\n', "\r\n");
    assert_eq!(parsed(bytes.as_bytes()).counts.kept, 1);
}

#[test]
fn the_same_problem_counts_once() {
    let bytes = row("2 and  3?", "<<2+3=5>>5\n#### 5") + &row("2 AND 3? ", "<<3+2=5>>5\n#### 5");
    let found = parsed(bytes.as_bytes());
    assert_eq!((found.counts.kept, found.counts.duplicates), (1, 1));
}

proptest! {
    #[test]
    fn any_bytes_are_accounted_for(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        parsed(&bytes);
    }

    #[test]
    fn any_answer_is_kept_or_refused(answer in "([0-9+*/=<>#. -]|\\PC|<<|>>|#### ){0,60}") {
        parsed(row("2 and 3?", &answer).as_bytes());
    }
}

/// The official files, if they are there; their absence is a failure where `CI` is `true`.
fn official(split: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../shared/data/gsm8k/{split}.jsonl"));
    if path.exists() {
        return Some(path);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{} is missing", path.display());
    println!("passed by: {} is not here", path.display());
    None
}

#[test]
fn every_row_of_the_official_files_is_accounted_for() {
    for (split, rows, exact, annotations) in [("train", 7_473, 7_001, 23_716), ("test", 1_319, 1_208, 4_282)] {
        let Some(path) = official(split) else { return };
        let found = parsed_file(&path);
        assert_eq!((found.counts.read, found.counts.kept, found.counts.duplicates), (rows, rows, 0));
        let graphs = found.trajectories.iter().map(crate::graph::of);
        assert_eq!(graphs.filter(|graph| graph.exact).count(), exact, "what the data's README counts");
        let bytes = std::fs::read(&path).unwrap();
        let of_row = |line: &[u8]| -> usize {
            let row: Value = serde_json::from_slice(line).unwrap();
            super::annotations(row["answer"].as_str().unwrap()).unwrap().len()
        };
        let rows = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        assert_eq!(rows.map(of_row).sum::<usize>(), annotations);
        for trajectory in &found.trajectories {
            let checks = calculation::find(&trajectory.verify);
            assert!(checks.iter().all(Stated::holds), "{}: {}", trajectory.id, trajectory.verify);
            if trajectory.meta.contains("prose") {
                continue;
            }
            let lines = calculation::find(&trajectory.execute);
            assert_eq!(lines.len(), trajectory.execute.lines().count(), "{}", trajectory.id);
            assert!(lines.iter().all(Stated::holds), "{}: {}", trajectory.id, trajectory.execute);
            assert_eq!(number::decimal(&lines.last().unwrap().value), trajectory.answer, "{}", trajectory.id);
            assert!(checks.len() >= lines.len(), "{}", trajectory.id);
        }
    }
}
