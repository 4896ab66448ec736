//! A model by name from a hub of this test: listed, checked, continued after a cut, refused where it is not what it should be.

#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use polya_datasets::fetch::download::Downloader;
use polya_datasets::network::backoff::Backoff;
use polya_datasets::network::stop::Stop;
use polya_datasets::network::{TimeLimits, client};
use sha2::Digest;
use worker::cli::UsageError;
use worker::fetch::{Fetched, Request, fetch};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one model of a small file, held by git, and a large one, held by its hash.
struct Hub {
    address: String,
    config: Mutex<Vec<u8>>,
    weights: Vec<u8>,
    /// The next answer with the large file ends in its middle.
    cut: AtomicBool,
    /// Paths and ranges that were asked for.
    seen: Mutex<Vec<String>>,
}

impl Hub {
    fn start() -> Arc<Hub> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hub = Arc::new(Hub {
            address: format!("http://{}", listener.local_addr().unwrap()),
            config: Mutex::new(b"{\"model_type\": \"qwen2\"}\n".to_vec()),
            weights: (0..200_000u32).map(|i| (i * 7 % 251) as u8).collect(),
            cut: AtomicBool::new(false),
            seen: Mutex::new(vec![]),
        });
        let serving = hub.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serving.answer(stream);
            }
        });
        hub
    }

    fn listing(&self) -> String {
        let config = self.config.lock().unwrap();
        // git's hash of the file as it should be.
        let mut hasher = sha1::Sha1::new();
        hasher.update(b"blob 24\0{\"model_type\": \"qwen2\"}\n");
        let blob = hex(&hasher.finalize());
        let sha256 = hex(&sha2::Sha256::digest(&self.weights));
        serde_json::json!({ "sha": COMMIT, "siblings": [
            { "rfilename": "config.json", "size": config.len(), "blobId": blob },
            { "rfilename": "model.safetensors", "size": self.weights.len(),
              "lfs": { "sha256": sha256, "size": self.weights.len(), "pointerSize": 134 } },
            { "rfilename": "pytorch_model.bin", "size": 5, "blobId": blob },
            { "rfilename": "onnx/model.safetensors", "size": 5, "blobId": blob },
        ]})
        .to_string()
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut line, mut range) = (String::new(), None);
        reader.read_line(&mut line).unwrap();
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let header = header.trim().to_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(from) = header.strip_prefix("range: bytes=") {
                range = from.trim_end_matches('-').parse::<usize>().ok();
            }
        }
        self.seen.lock().unwrap().push(format!("{path} {}", range.unwrap_or(0)));
        let file = |name: &str| format!("/me/tiny/resolve/{COMMIT}/{name}");
        let body = match path.as_str() {
            "/api/models/me/tiny/revision/v1?blobs=true" => self.listing().into_bytes(),
            path if path == file("config.json") => self.config.lock().unwrap().clone(),
            path if path == file("model.safetensors") => self.weights.clone(),
            _ => {
                let _ = stream.write_all(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                return;
            }
        };
        let from = range.unwrap_or(0);
        let status = if range.is_some() { "206" } else { "200" };
        let content_range = format!("Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len());
        let rest = &body[from..];
        let cut = path.ends_with("model.safetensors") && self.cut.swap(false, Ordering::SeqCst);
        let head = format!(
            "HTTP/1.1 {status} X\r\nETag: \"one\"\r\nContent-Length: {}\r\n{}Connection: close\r\n\r\n",
            rest.len(),
            if range.is_some() { content_range.as_str() } else { "" }
        );
        let upto = if cut { rest.len() / 2 } else { rest.len() };
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&rest[..upto]));
    }

    fn fetch(&self, output: &Path, revision: &str) -> anyhow::Result<Fetched> {
        let stop = Stop::default();
        let downloader = Downloader {
            client: &client(TimeLimits { whole: None, silence: Duration::from_secs(20) }, 5),
            backoff: Backoff { attempts: 3, first: Duration::from_millis(1), most: Duration::from_millis(1) },
            stop: &stop,
            progress: &|_, _| {},
        };
        let request = Request {
            model: "me/tiny".to_owned(),
            revision: revision.to_owned(),
            endpoint: self.address.clone(),
            output: output.to_owned(),
        };
        fetch(&request, &downloader, &|_| {})
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_model_comes_whole_and_a_second_time_costs_one_request() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    let output = folder.path().join("tiny");
    let fetched = hub.fetch(&output, "v1").unwrap();
    assert_eq!(fetched.commit, COMMIT);
    let names: Vec<&str> = fetched.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["config.json", "model.safetensors"]);
    assert_eq!(std::fs::read(output.join("model.safetensors")).unwrap(), hub.weights);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no part is left");
    hub.seen();
    assert_eq!(hub.fetch(&output, "v1").unwrap(), fetched);
    assert_eq!(hub.seen().len(), 1);
}

#[test]
fn a_cut_download_goes_on_where_it_ended() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    hub.cut.store(true, Ordering::SeqCst);
    let output = folder.path().join("tiny");
    hub.fetch(&output, "v1").unwrap();
    assert_eq!(std::fs::read(output.join("model.safetensors")).unwrap(), hub.weights);
    let from: Vec<usize> = hub
        .seen()
        .iter()
        .filter(|line| line.contains("model.safetensors"))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    assert_eq!(from.len(), 2);
    assert!(from[0] == 0 && from[1] > 0, "{from:?}");
}

#[test]
fn a_file_with_another_hash_is_no_part_of_the_model() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    *hub.config.lock().unwrap() = b"{\"model_type\": \"qwen3\"}\n".to_vec();
    let output = folder.path().join("tiny");
    let said = format!("{:#}", hub.fetch(&output, "v1").unwrap_err());
    assert!(said.contains("config.json") && said.contains("hash"), "{said}");
    assert!(!output.exists() && !folder.path().join("tiny.part/config.json").exists());
}

#[test]
fn what_cannot_be_had_is_said_with_what_to_do() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    let output = folder.path().join("tiny");
    let said = format!("{:#}", hub.fetch(&output, "v2").unwrap_err());
    assert!(said.contains("404") && said.contains("no such model or revision"), "{said}");
    let said = hub.fetch(&output, "../v1").unwrap_err();
    assert!(said.is::<UsageError>(), "{said}");
    std::fs::create_dir_all(output.join("mine")).unwrap();
    let said = hub.fetch(&output, "v1").unwrap_err();
    assert!(said.is::<UsageError>() && said.to_string().contains("not empty"), "{said}");
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = Hub {
        address: format!("http://{unused}"),
        config: Mutex::default(),
        weights: vec![],
        cut: AtomicBool::new(false),
        seen: Mutex::default(),
    };
    let said = format!("{:#}", nobody.fetch(&folder.path().join("other"), "v1").unwrap_err());
    assert!(said.contains("base.path") && said.contains("--endpoint"), "{said}");
}
