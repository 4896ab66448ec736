//! `datasets teach` against servers that misbehave: each question is asked as often as it must be, none twice that has a
//! reply, and every reply is paid for once.

#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

mod desk;
mod server;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use desk::{Desk, datasets, finish};
use serde_json::{Value, json};
use server::{Request, Response, Server};

const KEY: &str = "sk-not-to-be-seen";

/// A desk with so many questions.
fn desk_with(questions: usize) -> Desk {
    let desk = Desk::new();
    let rows = (0..questions).map(|number| json!({ "question": question(number), "ground_truth": number + 3 }));
    desk.write("questions.jsonl", rows.map(|row| row.to_string() + "\n").collect::<String>());
    desk
}

trait Teach {
    fn command(&self, server: &Server, more: &[&str]) -> Command;

    /// Runs `teach`: exit code, totals, and what was said.
    fn teach(&self, server: &Server, more: &[&str]) -> (Option<i32>, Value, String);
}

impl Teach for Desk {
    fn command(&self, server: &Server, more: &[&str]) -> Command {
        let (input, output) = (self.text("questions.jsonl"), self.text("taught.jsonl"));
        let url = server.url("/v1");
        let fixed = ["teach", "--json", "--model", "m", "--base-url", &url, "--backoff", "0", "--input"];
        let named = [&*input, "--output", &output];
        let mut command = datasets(&[&fixed[..], &named, more].concat());
        command.env("OPENAI_API_KEY", KEY);
        command
    }

    fn teach(&self, server: &Server, more: &[&str]) -> (Option<i32>, Value, String) {
        let (code, printed, said) = finish(self.command(server, more));
        for name in self.names() {
            let bytes = std::fs::read(self.path(&name)).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains(KEY), "the key is in no file");
        }
        assert!(!printed.contains(KEY) && !said.contains(KEY), "the key is told to nobody: {said}");
        (code, serde_json::from_str(&printed).unwrap_or_default(), said)
    }
}

fn question(number: usize) -> String {
    format!("Lan has {number} pens and buys 3. How many?")
}

/// The first number in a text.
fn number(text: &str) -> usize {
    text.split_whitespace().find_map(|word| word.parse().ok()).unwrap()
}

fn asked(request: &Request) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    body["messages"][1]["content"].as_str().unwrap().to_owned()
}

/// How often each question was asked.
fn counts(server: &Server) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for request in server.seen() {
        *counts.entry(number(&asked(&request))).or_default() += 1;
    }
    counts
}

fn solution(number: usize, answer: usize) -> String {
    format!(
        "#### UNDERSTAND ####\n{number} pens, 3 more.\n\n#### PLAN ####\n1. Add 3 to {number}.\n\n#### EXECUTE ####\n\
         1. {number} + 3 = {answer}\n\n#### VERIFY ####\n{answer} - 3 = {number}, as given.\n\nFinal Answer: {answer}"
    )
}

fn completion(text: &str) -> Value {
    json!({
        "model": "m-2026", "usage": { "prompt_tokens": 400, "completion_tokens": 100 },
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text } }]
    })
}

fn whole(status: u16, body: &Value) -> Response {
    Response::Whole(status, vec![("Content-Type", "application/json".to_owned())], body.to_string().into_bytes())
}

/// The right reply.
fn good(request: &Request) -> Response {
    let number = number(&asked(request));
    whole(200, &completion(&solution(number, number + 3)))
}

fn error(status: u16, code: &str) -> Response {
    whole(status, &json!({ "error": { "message": format!("no {KEY}, no luck"), "code": code } }))
}

#[test]
fn a_teacher_file_is_made_and_parsed() {
    let (desk, server) = (desk_with(20), Server::start(good));
    let (code, totals, said) = desk.teach(
        &server,
        &["--temperature", "0.5", "--price-in", "1", "--price-out", "10", "--requests-per-minute", "1e9"],
    );
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&totals["kept"], &totals["requests"], &totals["stopped"]), (&json!(20), &json!(20), &json!(null)));
    assert_eq!(totals["tokens"], json!({ "prompt": 8000, "completion": 2000, "replies_without_counts": 0 }));
    assert_eq!(totals["cost"], json!(0.028));
    let first = &server.seen()[0];
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!(first.header("authorization"), format!("Bearer {KEY}"));
    let sent: Value = serde_json::from_slice(&first.body).unwrap();
    assert_eq!((&sent["model"], &sent["temperature"], &sent["max_tokens"]), (&json!("m"), &json!(0.5), &json!(2048)));
    let ids: Vec<Value> = desk.rows("taught.jsonl").into_iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, (0..20).map(|number| json!(format!("questions/questions/{number}"))).collect::<Vec<_>>());
    let (taught, parquet) = (desk.path("taught.jsonl"), desk.path("t.parquet"));
    let arguments = ["parse", "--source", "teacher", "--json", "--input", taught.to_str().unwrap(), "--output"];
    let parsed = datasets(&[&arguments[..], &[parquet.to_str().unwrap()]].concat()).output().unwrap();
    let parsed: Value = serde_json::from_slice(&parsed.stdout).unwrap();
    assert_eq!(parsed, json!({ "read": 20, "kept": 20, "rejected": {}, "duplicates": 0 }));

    let before = desk.read("taught.jsonl");
    let (code, totals, _) = desk.teach(&server, &["--temperature", "0.5"]);
    assert_eq!((code, &totals["requests"], server.seen().len()), (Some(0), &json!(0), 20), "nothing is asked twice");
    assert_eq!(desk.read("taught.jsonl"), before);
    let (code, totals, _) = desk.teach(&server, &["--temperature", "0.5", "--samples", "2"]);
    assert_eq!((code, &totals["requests"]), (Some(0), &json!(20)), "only the second samples are missing");
    let (code, _, said) = desk.teach(&server, &["--temperature", "0.6"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("temperature `0.5`, not `0.6`"), "{said}");
}

#[test]
fn every_misbehaviour_ends_with_the_right_result() {
    type Script = fn(&Request, usize) -> Response;
    // What the server does at the n-th request for a question (from 0), and how often it must be asked.
    let scripts: [(&str, Script, usize); 15] = [
        ("429", |r, n| if n < 2 { error(429, "rate_limit_exceeded") } else { good(r) }, 3),
        (
            "429 with Retry-After",
            |r, n| match n {
                0 => Response::Whole(429, vec![("Retry-After", "0".to_owned())], b"slow down".to_vec()),
                _ => good(r),
            },
            2,
        ),
        ("500", |r, n| if n < 3 { error(500, "x") } else { good(r) }, 4),
        (
            "cut in the body",
            |r, n| match good(r) {
                Response::Whole(status, headers, body) if n == 0 => Response::Cut(status, headers, body, 40),
                other => other,
            },
            2,
        ),
        ("cut before the head", |r, n| if n == 0 { Response::Raw(b"HTT".to_vec()) } else { good(r) }, 2),
        ("slow", |r, n| if n == 0 { Response::Silence } else { good(r) }, 2),
        (
            "no JSON",
            |r, n| if n == 0 { Response::Whole(200, vec![], b"<html>busy</html>".to_vec()) } else { good(r) },
            2,
        ),
        ("another shape", |r, n| if n == 0 { whole(200, &json!({ "choices": [] })) } else { good(r) }, 2),
        ("an error in a 200", |r, n| if n == 0 { error(200, "overloaded") } else { good(r) }, 2),
        ("a huge body", |r, n| if n == 0 { Response::Whole(200, vec![], vec![b' '; 9 << 20]) } else { good(r) }, 2),
        (
            "several choices",
            |r, _| {
                let mut body = completion(&solution(number(&asked(r)), number(&asked(r)) + 3));
                let choice = body["choices"][0].clone();
                body["choices"] = json!([choice, choice, { "message": { "content": "another" } }]);
                whole(200, &body)
            },
            1,
        ),
        (
            "no counts",
            |r, _| {
                let mut body = completion(&solution(number(&asked(r)), number(&asked(r)) + 3));
                body.as_object_mut().unwrap().remove("usage");
                whole(200, &body)
            },
            1,
        ),
        ("wrong answer", |r, _| whole(200, &completion(&solution(number(&asked(r)), 99))), 1),
        ("not four stages", |_, _| whole(200, &completion("It is obvious.")), 1),
        ("refused", |_, _| error(400, "content_filter"), 1),
    ];
    let seen: Mutex<BTreeMap<usize, usize>> = Mutex::default();
    let server = Server::start(move |request| {
        let which = number(&asked(request));
        let time = {
            let mut seen = seen.lock().unwrap();
            let time = seen.entry(which).or_default();
            *time += 1;
            *time - 1
        };
        scripts[which].1(request, time)
    });
    let desk = desk_with(scripts.len());
    let (code, totals, said) = desk.teach(&server, &["--timeout", "10", "--concurrency", "3"]);
    assert_eq!(code, Some(0), "{said}");
    for (which, times) in counts(&server) {
        assert_eq!(times, scripts[which].2, "{}", scripts[which].0);
    }
    assert_eq!((&totals["kept"], &totals["rejected"], &totals["unanswered"]), (&json!(12), &json!(3), &json!(0)));
    assert_eq!(totals["tokens"]["replies_without_counts"], json!(1));
    let rejected: Vec<(String, Value)> = desk
        .rows("taught.rejects.jsonl")
        .into_iter()
        .map(|row| (scripts[number(row["question"].as_str().unwrap())].0.to_owned(), row["reason"].clone()))
        .collect();
    let expected = [("wrong answer", "wrong_answer"), ("not four stages", "stage_missing"), ("refused", "refused")];
    assert_eq!(rejected, expected.map(|(script, reason)| (script.to_owned(), json!(reason))));
    let kept: Vec<usize> =
        desk.rows("taught.jsonl").iter().map(|row| number(row["question"].as_str().unwrap())).collect();
    assert_eq!(kept, (0..12).collect::<Vec<_>>());
    let before = server.seen().len();
    assert_eq!(desk.teach(&server, &[]).0, Some(0));
    assert_eq!(server.seen().len(), before, "refused and rejected ones are not asked again either");
}

#[test]
fn after_kill_9_only_what_is_missing_is_asked() {
    let (desk, answered) = (desk_with(12), AtomicUsize::new(0));
    let first = Server::start(move |request| match answered.fetch_add(1, Ordering::Relaxed) {
        0..6 => good(request),
        _ => Response::Silence,
    });
    let arguments = ["--concurrency", "4"];
    let mut teacher = desk.command(&first, &arguments).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    // Four threads wait at the seventh to tenth request, so the six replies before are in the journal.
    first.wait_for(10);
    teacher.kill().unwrap();
    teacher.wait().unwrap();
    let journal = desk.path("taught.journal.jsonl");
    let kept: Vec<Value> = desk.rows("taught.journal.jsonl").into_iter().skip(1).collect();
    assert_eq!(kept.len(), 6);
    // As if the crash had come in the middle of a line.
    let half = &kept[0].to_string()[..90];
    std::fs::OpenOptions::new().append(true).open(&journal).unwrap().write_all(half.as_bytes()).unwrap();
    let second = Server::start(good);
    let (code, totals, said) = desk.teach(&second, &arguments);
    assert_eq!((code, &totals["kept"], &totals["requests"]), (Some(0), &json!(12), &json!(6)), "{said}");
    assert!(said.contains("half written (90 bytes)"), "{said}");
    let replied: Vec<usize> = kept.iter().map(|line| number(line["reply"]["text"].as_str().unwrap())).collect();
    for (number, times) in counts(&second) {
        assert_eq!((times, replied.contains(&number)), (1, false), "question {number}");
    }
}

#[test]
fn ctrl_c_waits_for_what_is_on_its_way_and_keeps_it() {
    let ((arrive, arrived), (release, released)) = (channel::<()>(), channel::<()>());
    let held = Mutex::new((arrive, released));
    let server = Server::start(move |request| {
        let (arrive, released) = &*held.lock().unwrap();
        let _ = arrive.send(());
        let _ = released.recv();
        good(request)
    });
    let desk = desk_with(5);
    let mut command = desk.command(&server, &["--concurrency", "1"]);
    let mut teacher = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(teacher.stderr.take().unwrap()).lines().map(Result::unwrap);
    arrived.recv().unwrap();
    let sent = Command::new("kill").args(["-INT", &teacher.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert!(said.any(|line| line.starts_with("stopping")));
    drop(release);
    let last = said.last().unwrap();
    let done = teacher.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(75), "{last}");
    let totals: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(totals["stopped"], json!("signal"));
    assert_eq!(server.seen().len(), 1, "nothing more was asked");
    assert_eq!(desk.rows("taught.journal.jsonl").len(), 2, "what came back is kept");
    assert_eq!(desk.rows("taught.jsonl").len(), 1);
}

#[test]
fn errors_that_no_attempt_helps_end_the_asking_and_name_the_remedy() {
    type Script = fn(&Request) -> Response;
    let cases: [(Script, i32, usize, &str); 6] = [
        (|_| error(401, "invalid_api_key"), 2, 1, "OPENAI_API_KEY"),
        (|_| error(404, "model_not_found"), 2, 1, "--model `m`"),
        (
            |_| Response::Whole(308, vec![("Location", "https://elsewhere/v1".to_owned())], vec![]),
            2,
            1,
            "https://elsewhere/v1",
        ),
        (|_| error(429, "insufficient_quota"), 1, 1, "top it up"),
        (|_| error(400, "unknown_parameter"), 2, 5, "--max-tokens-field"),
        (|_| error(503, "x"), 1, 15, "5 questions in a row"),
    ];
    for (script, code, requests, remedy) in cases {
        let (desk, server) = (desk_with(9), Server::start(script));
        let (found, _, said) = desk.teach(&server, &["--concurrency", "1", "--attempts", "3"]);
        assert_eq!((found, server.seen().len()), (Some(code), requests), "{said}");
        assert!(said.contains(remedy), "{remedy}: {said}");
        assert!(!desk.path("taught.jsonl").exists(), "there is nothing to write");
        let server = Server::start(good);
        let (found, totals, said) = desk.teach(&server, &[]);
        assert_eq!((found, &totals["kept"], server.seen().len()), (Some(0), &json!(9), 9), "{said}");
    }
}

#[test]
fn a_question_that_the_server_does_not_take_is_passed_over() {
    let odd = |request: &Request| match number(&asked(request)) {
        0 | 4 => error(400, "some_code_of_its_own"),
        _ => good(request),
    };
    let (desk, server) = (desk_with(6), Server::start(odd));
    let (code, totals, said) = desk.teach(&server, &["--concurrency", "1"]);
    assert_eq!((code, &totals["kept"], &totals["rejected"]), (Some(0), &json!(4), &json!(2)), "{said}");
    assert!(counts(&server).values().all(|times| *times == 1));
    let details: Vec<Value> = desk.rows("taught.rejects.jsonl").into_iter().map(|row| row["detail"].clone()).collect();
    assert_eq!(details, [json!("HTTP 400: no ***, no luck"), json!("HTTP 400: no ***, no luck")]);
}

#[test]
fn the_budget_is_kept_and_raised() {
    let (desk, server) = (desk_with(10), Server::start(good));
    let arguments = ["--max-tokens", "200", "--concurrency", "3", "--budget-tokens"];
    let (code, totals, said) = desk.teach(&server, &[&arguments[..], &["3000"]].concat());
    assert_eq!((code, &totals["stopped"]), (Some(75), &json!("budget")), "{said}");
    let spent = totals["tokens"]["prompt"].as_u64().unwrap() + totals["tokens"]["completion"].as_u64().unwrap();
    let asked = server.seen().len() as u64;
    assert!(spent <= 3000 && spent == asked * 500 && asked > 2, "{spent} in {asked}");
    assert_eq!(totals["unanswered"], json!(10 - asked));
    let (code, totals, _) = desk.teach(&server, &[&arguments[..], &["100000"]].concat());
    assert_eq!((code, &totals["kept"], server.seen().len()), (Some(0), &json!(10), 10), "nothing was asked twice");
    assert_eq!(totals["tokens"]["prompt"], json!(4000), "the budget is that of the journal, over all runs");
}

#[test]
fn samples_vote_where_nobody_knows_the_truth() {
    let asked_before: Mutex<BTreeMap<usize, usize>> = Mutex::default();
    let server = Server::start(move |request| {
        let which = number(&asked(request));
        let mut asked = asked_before.lock().unwrap();
        let time = asked.entry(which).or_default();
        *time += 1;
        // Of three samples two agree; of question 1 none.
        let off = if which == 1 { *time } else { usize::from(*time == 2) };
        whole(200, &completion(&solution(which, which + 3 + off)))
    });
    let desk = desk_with(0);
    let rows = (0..3).map(|number| json!({ "question": question(number) }).to_string() + "\n");
    desk.write("questions.jsonl", rows.collect::<String>());
    let (code, totals, said) = desk.teach(&server, &["--samples", "3", "--temperature", "1"]);
    assert_eq!((code, &totals["kept"], &totals["rejected"]), (Some(0), &json!(2), &json!(1)), "{said}");
    assert_eq!(totals["samples"]["rejected"], json!({ "no_majority": 3, "outvoted": 2 }));
    let truths: Vec<Value> = desk.rows("taught.jsonl").into_iter().map(|row| row["ground_truth"].clone()).collect();
    assert_eq!(truths, [json!("3"), json!("5")]);
}

#[test]
fn a_dry_run_shows_the_prompt_and_asks_nothing() {
    let (desk, server) = (desk_with(0), Server::start(good));
    desk.write("questions.jsonl", "{\"question\": \"Có bao nhiêu số chẵn dưới 10?\"}\n{\"question\": \"1+1?\"}\n");
    let (code, totals, said) = desk.teach(&server, &["--dry-run", "--samples", "3", "--price-out", "1000000"]);
    assert_eq!((code, &totals["requests"], &totals["questions"]), (Some(0), &json!(6), &json!(2)), "{said}");
    assert_eq!((&totals["completion_tokens_at_most"], &totals["cost_at_most"]), (&json!(12288), &json!(12288.0)));
    let messages = &totals["first"]["messages"];
    assert!(messages[0]["content"].as_str().unwrap().starts_with("Bạn viết lời giải mẫu"), "{messages}");
    assert_eq!(messages[1]["content"], json!("Có bao nhiêu số chẵn dưới 10?"));
    assert!(server.seen().is_empty() && !desk.path("taught.journal.jsonl").exists());
}

#[test]
fn a_wrong_command_line_is_told_before_anything_is_asked() {
    let (desk, server) = (desk_with(1), Server::start(good));
    let (input, output, url) = (desk.path("questions.jsonl"), desk.path("taught.jsonl"), server.url("/v1"));
    let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
    let right = [("--input", input), ("--output", output), ("--base-url", url.as_str()), ("--model", "m")];
    for (name, value, remedy) in [
        ("--key-env", "NO_SUCH_KEY", "NO_SUCH_KEY"),
        ("--base-url", "localhost:1", "http://"),
        ("--output", "/no/such/folder/x.jsonl", "the folder does not exist"),
        ("--journal", output, "three different files"),
        ("--journal", input, "is no journal of replies"),
        ("--input", "/no/such/file", "/no/such/file"),
        ("--samples", "0", "--samples"),
        ("--timeout", "-1", "--timeout"),
        ("--temperature", "NaN", "--temperature"),
    ] {
        let others = right.iter().filter(|(other, _)| *other != name);
        let options: Vec<&str> = others.flat_map(|(name, value)| [*name, *value]).collect();
        let value = format!("{name}={value}");
        let done = datasets(&[&["teach"], options.as_slice(), &[value.as_str()]].concat()).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(2), "{value}: {said}");
        assert!(said.contains(remedy), "{value}: {said}");
    }
    assert!(server.seen().is_empty());
}
