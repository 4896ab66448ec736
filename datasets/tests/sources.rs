//! Files of every source as a user brings them, through the real command: detection, packing, folders, places, strictness.

#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

mod desk;

use std::io::Write;
use std::path::Path;

use desk::{Desk, datasets, finish};
use polya_datasets::parquet;
use polya_datasets::trajectory::{self, Trajectory};
use serde_json::{Value, json};

trait Parse {
    /// Parses without `--source`; exit code, the counts, and what was said.
    fn parse(&self, inputs: &[&str], more: &[&str]) -> (Option<i32>, Value, String);

    fn kept(&self) -> Vec<Trajectory>;
}

impl Parse for Desk {
    fn parse(&self, inputs: &[&str], more: &[&str]) -> (Option<i32>, Value, String) {
        let output = self.text("out.parquet");
        let (code, printed, said) =
            finish(datasets(&[&["parse", "--json", "--output", &output, "--input"], inputs, more].concat()));
        (code, serde_json::from_str(&printed).unwrap_or_default(), said)
    }

    fn kept(&self) -> Vec<Trajectory> {
        parquet::read(&self.path("out.parquet")).unwrap()
    }
}

fn gsm8k(number: u32) -> String {
    let answer = format!("{number}+3=<<{number}+3={sum}>>{sum}\n#### {sum}", sum = number + 3);
    json!({ "question": format!("Lan has {number} pens and buys 3. How many?"), "answer": answer }).to_string() + "\n"
}

fn math(number: u32) -> Value {
    json!({ "problem": format!("What is ${number} \\cdot 2$?"), "level": "Level 1", "type": "Prealgebra",
        "solution": format!("We get ${number} \\cdot 2 = \\boxed{{{}}}$.", number * 2) })
}

#[test]
fn packed_files_are_recognised_and_each_place_of_a_duplicate_is_told() {
    let desk = Desk::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all((gsm8k(1) + "\u{0}\n" + &gsm8k(2)).as_bytes()).unwrap();
    let first = desk.write("train.jsonl.gz", packed.finish().unwrap());
    let second = desk.write("more.jsonl.zst", zstd::encode_all((gsm8k(2) + &gsm8k(3)).as_bytes(), 1).unwrap());
    let (rejects, duplicates) = (desk.text("r.jsonl"), desk.text("d.jsonl"));
    let (code, counts, said) = desk.parse(&[&first, &second], &["--rejects", &rejects, "--duplicates", &duplicates]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(counts, json!({ "read": 5, "kept": 3, "rejected": { "not_json": 1 }, "duplicates": 1 }));
    assert!(said.contains("read as gsm8k"), "{said}");
    let ids: Vec<String> = desk.kept().into_iter().map(|trajectory| trajectory.id).collect();
    assert_eq!(ids, ["gsm8k/train/0", "gsm8k/train/2", "gsm8k/more/1"]);
    let reject: Value = serde_json::from_str(&std::fs::read_to_string(rejects).unwrap()).unwrap();
    assert_eq!((&reject["line"], &reject["byte"]), (&json!(2), &json!(gsm8k(1).len())));
    let duplicate: Value = serde_json::from_str(&std::fs::read_to_string(duplicates).unwrap()).unwrap();
    assert_eq!((&duplicate["line"], &duplicate["first"]["line"]), (&json!(1), &json!(3)));
    assert_eq!(duplicate["first"]["source"], json!(first));
}

#[test]
fn the_files_are_the_same_bytes_on_one_thread_and_on_many() {
    let desk = Desk::new();
    // Rows that take long among short ones, so that later chunks are done before earlier ones.
    let row = |number: u32| match number % 11 {
        3 => "oops\n".to_owned(),
        5 => gsm8k(number / 2),
        _ if number % 640 < 64 => {
            let answer =
                format!("{}so it is {number}.\n#### {number}", "He adds 3 + 4 = 7 and 8 - 1 = 7 again. ".repeat(50));
            json!({ "question": format!("{} {number}?", "Lan has 3 pens. ".repeat(90)), "answer": answer }).to_string()
                + "\n"
        }
        _ => gsm8k(number),
    };
    let input = desk.write("train.jsonl", (0..4_000).map(row).collect::<String>());
    let made = ["1", "2", "7"].map(|threads| {
        let [output, rejects, duplicates] =
            ["o.parquet", "r.jsonl", "d.jsonl"].map(|name| desk.text(&format!("{threads}{name}")));
        let mut command = datasets(&["parse", "--json", "--input", &input, "--output", &output]);
        command.args(["--rejects", &rejects, "--duplicates", &duplicates]).env("RAYON_NUM_THREADS", threads);
        let (code, printed, said) = finish(command);
        assert_eq!(code, Some(0), "{said}");
        (printed, said, [output, rejects, duplicates].map(|path| std::fs::read(path).unwrap()))
    });
    let counts: Value = serde_json::from_str(&made[0].0).unwrap();
    assert!(counts["duplicates"].as_u64() > Some(100) && counts["rejected"]["not_json"] == 364, "{counts}");
    assert!(made[0] == made[1] && made[0] == made[2], "order, counts and bytes do not depend on the threads");
}

#[test]
fn a_tree_of_documents_has_its_paths_as_ids() {
    let desk = Desk::new();
    for (name, number) in [("train/algebra/10.json", 5), ("train/algebra/2.json", 6), ("test/geometry/1.json", 7)] {
        desk.write(&format!("math/{name}"), serde_json::to_string_pretty(&math(number)).unwrap().as_bytes());
    }
    let (code, counts, said) = desk.parse(&[&desk.text("math")], &["--source", "math"]);
    assert_eq!((code, &counts["kept"]), (Some(0), &json!(3)), "{said}");
    let kept = desk.kept();
    let ids: Vec<&str> = kept.iter().map(|trajectory| trajectory.id.as_str()).collect();
    assert_eq!(ids, ["math/test/geometry/1", "math/train/algebra/2", "math/train/algebra/10"]);
    assert_eq!((kept[0].answer.as_str(), kept[0].split.as_str()), ("14", "test"));
}

#[test]
fn strict_stops_at_the_first_reject_and_writes_nothing() {
    let desk = Desk::new();
    let input = desk.write("train.jsonl", (gsm8k(1) + "oops\n").as_bytes());
    let (code, _, said) = desk.parse(&[&input], &["--strict"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("line 2: not_json"), "{said}");
    assert!(!desk.path("out.parquet").exists());
    assert_eq!(desk.names(), ["train.jsonl"], "no temporary file stays");
}

#[test]
fn a_cut_archive_and_an_unknown_format_are_errors_that_say_so() {
    let desk = Desk::new();
    let whole = zstd::encode_all(gsm8k(1).repeat(500).as_bytes(), 1).unwrap();
    let cut = desk.write("cut.jsonl.zst", &whole[..whole.len() - 8]);
    let (code, _, said) = desk.parse(&[&cut], &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cut.jsonl.zst"), "{said}");
    let other = desk.write("other.jsonl", b"{\"a\": 1}\n");
    let (code, _, said) = desk.parse(&[&other], &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--source"), "{said}");
}

#[test]
fn trajectories_go_in_as_they_came_out() {
    let desk = Desk::new();
    let rows: String = (0..50).map(gsm8k).collect();
    let math: String = (60..90).map(|number| math(number).to_string() + "\n").collect();
    let inputs = [desk.write("train.jsonl", rows.as_bytes()), desk.write("test.jsonl", math.as_bytes())];
    assert_eq!(desk.parse(&[&inputs[0], &inputs[1]], &[]).0, Some(0));
    let kept = desk.kept();
    assert_eq!(kept.len(), 80);
    for trajectory in &kept {
        let text = trajectory.canonical().text;
        assert!(trajectory::read(&text).unwrap().is_of(trajectory), "{text}");
    }
    let (parquet, lines) = (desk.text("again.parquet"), desk.text("again.jsonl"));
    std::fs::rename(desk.path("out.parquet"), &parquet).unwrap();
    assert_eq!(finish(datasets(&["convert", "--input", &parquet, "--output", &lines])).0, Some(0));
    for input in [&parquet, &lines] {
        let (code, counts, said) = desk.parse(&[input], &[]);
        assert_eq!((code, &counts["kept"]), (Some(0), &json!(80)), "{said}");
        assert!(said.contains("read as trajectories"), "{said}");
        assert_eq!(desk.kept(), kept);
    }
}

#[test]
fn answers_and_traces_are_judged_line_by_line() {
    let desk = Desk::new();
    let rows = [json!({ "gold": "1/2", "prediction": "Final Answer: 0.5" }), json!({ "gold": "3", "prediction": "4" })];
    let input = desk.write("a.jsonl", rows.map(|row| row.to_string() + "\n").concat().as_bytes());
    let output = desk.text("b.jsonl");
    assert_eq!(finish(datasets(&["equal", "--input", &input, "--output", &output])).0, Some(0));
    let verdicts = desk.rows("b.jsonl");
    assert_eq!(verdicts.iter().map(|row| &row["equal"]).collect::<Vec<_>>(), [&json!(true), &json!(false)]);
    assert_eq!(verdicts[0]["extracted"], json!("0.5"));

    desk.write("train.jsonl", gsm8k(4).as_bytes());
    desk.parse(&[&desk.text("train.jsonl")], &[]);
    let trace = desk.kept()[0].canonical().text;
    let row = json!({ "question": desk.kept()[0].question, "teacher": trace, "student": trace, "answer": "7" });
    let input = desk.write("s.jsonl", (row.to_string() + "\n").as_bytes());
    assert_eq!(finish(datasets(&["score", "--input", &input, "--output", &output])).0, Some(0));
    let verdict = &desk.rows("b.jsonl")[0];
    assert_eq!(
        (&verdict["correct"], &verdict["rfs_format"], &verdict["rfs"]["f1"]),
        (&json!(true), &json!(1.0), &json!(1.0))
    );
    let graph = desk.text("g.jsonl");
    assert_eq!(finish(datasets(&["graph", "--input", &desk.text("out.parquet"), "--output", &graph])).0, Some(0));
    let graph = &desk.rows("g.jsonl")[0];
    assert_eq!(graph["derivations"], json!([{ "value": "7", "expression": "4 + 3" }]));
    assert_eq!((&graph["exact"], &graph["given"]), (&json!(true), &json!(["3", "4"])));
}

/// A file of the data folder beside the checkout; the test passes by without it, but not in CI.
fn shared(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path.to_str().unwrap().to_owned());
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{} is missing", path.display());
    println!("passed by: {} is not here", path.display());
    None
}

#[test]
fn the_counts_of_the_sample_of_math_are_those_of_its_readme() {
    for (name, read, duplicates) in
        [("math/train.jsonl", 400, 4), ("math/test.jsonl", 200, 1), ("math/original", 140, 0)]
    {
        let Some(input) = shared(name) else { return };
        let desk = Desk::new();
        let (code, counts, said) = desk.parse(&[&input], &[]);
        assert_eq!(code, Some(0), "{said}");
        let expected = json!({ "read": read, "kept": read - duplicates, "rejected": {}, "duplicates": duplicates });
        assert_eq!(counts, expected, "{name}");
    }
}

#[test]
fn the_forms_of_vnhsge_and_teacher_files_are_read() {
    let (Some(vnhsge), Some(teacher)) = (shared("vnhsge/example.json"), shared("teacher/example.jsonl")) else {
        return;
    };
    let desk = Desk::new();
    let (code, counts, said) = desk.parse(&[&vnhsge, &teacher], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(counts, json!({ "read": 6, "kept": 5, "rejected": { "needs_image": 1 }, "duplicates": 0 }));
}
