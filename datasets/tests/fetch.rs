//! `datasets fetch` against servers that misbehave: what is there in the end is whole and right, or the command says why.

#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

mod desk;
mod server;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use desk::{Desk, datasets, finish};
use serde_json::Value;
use server::{Request, Response, Server};

trait Fetch {
    /// Runs `fetch DATASET --output DIR …`; exit code, what was printed, what was said.
    fn fetch(&self, dataset: &str, more: &[&str]) -> (Option<i32>, String, String);
}

impl Fetch for Desk {
    fn fetch(&self, dataset: &str, more: &[&str]) -> (Option<i32>, String, String) {
        let output = self.text("");
        finish(datasets(&[&["fetch", dataset, "--output", &output, "--backoff", "0"], more].concat()))
    }
}

/// A file without a published checksum: each path's own text.
fn body(path: &str) -> Vec<u8> {
    format!("{path}\n").repeat(5_000).into_bytes()
}

fn name(request: &Request) -> &str {
    request.path.rsplit('/').next().unwrap()
}

/// What is asked for of a body, by its Range.
fn range(request: &Request, body: &[u8], etag: &str) -> Response {
    let headers = vec![("ETag", etag.to_owned())];
    let start = request.header("range").strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
    let same = matches!(request.header("if-range"), "" | "\"one\"") && etag == "\"one\"";
    match start.map(|start| start.parse::<usize>().unwrap()).filter(|_| same) {
        None => Response::Whole(200, headers, body.to_vec()),
        Some(start) => {
            let covers = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
            Response::Whole(206, [headers, vec![("Content-Range", covers)]].concat(), body[start..].to_vec())
        }
    }
}

#[test]
fn what_is_there_is_not_downloaded_again_and_a_changed_file_is_noticed() {
    let server = Server::start(|request| Response::Whole(200, vec![], body(&request.path)));
    let (desk, url) = (Desk::new(), server.url("/mirror"));
    let arguments = ["--base-url", &url, "--json"];
    let (code, printed, said) = desk.fetch("gsm8k-socratic", &arguments);
    assert_eq!(code, Some(0), "{said}");
    let first: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        (&first["files"][0]["how"], &first["files"][0]["checked"]),
        (&"downloaded".into(), &"first-seen".into())
    );
    let path = "/mirror/grade_school_math/data/train_socratic.jsonl";
    assert_eq!(std::fs::read(desk.path("train_socratic.jsonl")).unwrap(), body(path));
    assert_eq!(desk.names(), ["fetch.lock.json", "test_socratic.jsonl", "train_socratic.jsonl"]);
    let (_, printed, _) = desk.fetch("gsm8k-socratic", &arguments);
    let second: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&second["files"][1]["how"], &second["files"][1]["checked"]), (&"present".into(), &"locked".into()));
    assert_eq!(second["files"][1]["sha256"], first["files"][1]["sha256"]);
    assert_eq!(server.seen().len(), 2, "nothing was downloaded twice");
    std::fs::write(desk.path("test_socratic.jsonl"), "mine").unwrap();
    let (code, _, said) = desk.fetch("gsm8k-socratic", &arguments);
    assert_eq!(code, Some(1));
    assert!(said.contains("test_socratic.jsonl: is there and is another file"), "{said}");
    assert_eq!(std::fs::read(desk.path("test_socratic.jsonl")).unwrap(), b"mine");
}

#[test]
fn a_cut_download_goes_on_where_it_ended() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let body = body(&request.path);
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Response::Cut(200, vec![("ETag", "\"one\"".to_owned())], body, 200_000),
            1 => Response::Whole(503, vec![("Retry-After", "0".to_owned())], b"later".to_vec()),
            _ => range(request, &body, "\"one\""),
        }
    });
    let desk = Desk::new();
    let (code, _, said) = desk.fetch("gsm8k-socratic", &["--base-url", &server.url("")]);
    assert_eq!(code, Some(0), "{said}");
    let path = "/grade_school_math/data/train_socratic.jsonl";
    assert_eq!(std::fs::read(desk.path("train_socratic.jsonl")).unwrap(), body(path));
    let seen = server.seen();
    assert_eq!(seen.len(), 4, "cut, busy, the rest; and the second file");
    assert_eq!(seen[2].header("if-range"), "\"one\"");
    let from: usize = seen[2].header("range").strip_prefix("bytes=").unwrap().trim_end_matches('-').parse().unwrap();
    assert!((1..=200_000).contains(&from), "what came is not asked for again: {from}");
}

#[test]
fn a_second_run_goes_on_with_the_first_ones_part() {
    let cut =
        Server::start(|request| Response::Cut(200, vec![("ETag", "\"one\"".to_owned())], body(&request.path), 150_000));
    let desk = Desk::new();
    let (code, _, said) = desk.fetch("gsm8k-socratic", &["--base-url", &cut.url(""), "--attempts", "1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(desk.path("train_socratic.jsonl.part").exists() && !desk.path("train_socratic.jsonl").exists());
    let whole = Server::start(|request| range(request, &body(&request.path), "\"one\""));
    let (code, printed, said) = desk.fetch("gsm8k-socratic", &["--base-url", &whole.url(""), "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["files"][0]["how"], "resumed");
    assert!(whole.seen()[0].header("range").starts_with("bytes="));
    assert_eq!(
        std::fs::read(desk.path("train_socratic.jsonl")).unwrap(),
        body("/grade_school_math/data/train_socratic.jsonl")
    );
    assert_eq!(desk.names(), ["fetch.lock.json", "test_socratic.jsonl", "train_socratic.jsonl"]);
}

#[test]
fn a_part_of_an_older_file_is_thrown_away() {
    let desk = Desk::new();
    let older =
        Server::start(|_| Response::Cut(200, vec![("ETag", "\"one\"".to_owned())], b"old ".repeat(50_000), 150_000));
    assert_eq!(desk.fetch("gsm8k-socratic", &["--base-url", &older.url(""), "--attempts", "1"]).0, Some(1));
    let newer = Server::start(|request| range(request, &body(&request.path), "\"two\""));
    let (code, _, said) = desk.fetch("gsm8k-socratic", &["--base-url", &newer.url("")]);
    assert_eq!(code, Some(0), "{said}");
    let path = "/grade_school_math/data/train_socratic.jsonl";
    assert_eq!(std::fs::read(desk.path("train_socratic.jsonl")).unwrap(), body(path));
}

#[test]
fn a_server_without_ranges_is_asked_for_the_whole_again() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Response::Cut(200, vec![], body(&request.path), 100_000),
        _ => Response::Whole(200, vec![], body(&request.path)),
    });
    let desk = Desk::new();
    let (code, _, said) = desk.fetch("gsm8k-socratic", &["--base-url", &server.url("")]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(server.seen()[1].header("range"), "", "nothing tells that the part is of the same file");
    assert_eq!(
        std::fs::read(desk.path("train_socratic.jsonl")).unwrap(),
        body("/grade_school_math/data/train_socratic.jsonl")
    );
}

#[test]
fn wrong_bytes_are_refused_and_removed() {
    let desk = Desk::new();
    for wrong in [b"short".to_vec(), vec![b'x'; 4_166_206], vec![b'x'; 4_166_300]] {
        let length = wrong.len();
        let server = Server::start(move |_| Response::Whole(200, vec![], wrong.clone()));
        let (code, _, said) = desk.fetch("gsm8k", &["--base-url", &server.url("")]);
        assert_eq!(code, Some(1), "{length}");
        assert!(said.contains("not the file that is wanted") && said.contains("train.jsonl"), "{said}");
        assert_eq!((desk.names(), server.seen().len()), (vec![], 1), "{length}");
    }
}

#[test]
fn endless_bytes_are_not_written_to_the_end() {
    let endless = [b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\n".to_vec(), vec![b'x'; 6 << 20]].concat();
    let server = Server::start(move |_| Response::Raw(endless.clone()));
    let desk = Desk::new();
    let (code, _, said) = desk.fetch("gsm8k", &["--base-url", &server.url("")]);
    assert_eq!((code, desk.names()), (Some(1), vec![]), "{said}");
    assert!(said.contains("it goes on after"), "{said}");
}

#[test]
fn what_cannot_be_had_is_told_with_address_checksum_and_place() {
    let gone = Server::start(|_| Response::Whole(404, vec![], b"gone".to_vec()));
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for url in [gone.url(""), closed] {
        let desk = Desk::new();
        let (code, _, said) = desk.fetch("gsm8k", &["--base-url", &url, "--attempts", "2"]);
        assert_eq!(code, Some(1), "{said}");
        let place = desk.path("train.jsonl").display().to_string();
        let hash = "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465";
        let address = format!("{url}/grade_school_math/data/train.jsonl");
        for part in [address.as_str(), hash, "4166206 bytes", &place] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    assert_eq!(gone.seen().len(), 1, "a 404 is not tried again");
}

#[test]
fn data_without_a_clear_licence_wants_a_decision_and_says_what_is_known() {
    let server = Server::start(|request| Response::Whole(200, vec![], name(request).into()));
    let (desk, url) = (Desk::new(), server.url(""));
    let (code, _, said) = desk.fetch("vnhsge", &["--base-url", &url]);
    assert_eq!((code, server.seen().len()), (Some(2), 0));
    assert!(said.contains("no licence file") && said.contains("--i-have-read-the-terms"), "{said}");
    let (code, printed, said) = desk.fetch("vnhsge", &["--base-url", &url, "--i-have-read-the-terms"]);
    assert_eq!((code, server.seen().len()), (Some(0), 5), "{said}");
    assert!(server.seen()[0].path.starts_with("/Dataset/VNHSGE-V/JSON%20format/eval/Mathematics/"));
    assert!(printed.contains("nobody publishes a checksum"), "{printed}");
    assert_eq!(std::fs::read(desk.path("MET_Math_IE_2021.json")).unwrap(), b"MET_Math_IE_2021.json");

    let (code, _, said) = desk.fetch("math", &["--i-have-read-the-terms"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("no link built in") && said.contains("--url") && said.contains("MATH.tar"), "{said}");
    let other = server.url("/copy/MATH.tar");
    let (code, _, said) = desk.fetch("math", &["--i-have-read-the-terms", "--url", &other]);
    assert_eq!(code, Some(1));
    assert!(said.contains("0fbe4fad") && !desk.path("MATH.tar").exists(), "{said}");
}

#[test]
fn the_published_files_pass_and_are_kept() {
    let Some(shared) = shared("gsm8k") else { return };
    let folder = shared.clone();
    let server = Server::start(move |request| {
        let body = std::fs::read(folder.join(name(request))).unwrap();
        if request.header("range").is_empty() {
            return Response::Cut(200, vec![], body, 300_000);
        }
        range(request, &body, "\"one\"")
    });
    let desk = Desk::new();
    let (code, printed, said) = desk.fetch("gsm8k", &["--base-url", &server.url("")]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(printed.matches("the published bytes").count(), 2, "{printed}");
    assert_eq!(desk.names(), ["test.jsonl", "train.jsonl"]);
    for name in desk.names() {
        assert_eq!(std::fs::read(desk.path(&name)).unwrap(), std::fs::read(shared.join(&name)).unwrap());
    }
    assert_eq!(server.seen().len(), 4, "the checksum tells that a part may be continued, without an ETag too");
}

/// A folder of the data folder beside the checkout; the test passes by without it, but not in CI.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{} is missing", path.display());
    println!("passed by: {} is not here", path.display());
    None
}
