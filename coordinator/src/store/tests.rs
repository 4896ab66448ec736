use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

use super::*;
use crate::checkpoints::StateJson;

fn store(folder: &Path) -> Store {
    Store::open(&format!("file://{}", folder.display())).unwrap()
}

/// A run directory with checkpoints of these steps.
fn run(steps: &[u64]) -> tempfile::TempDir {
    let run = tempfile::tempdir().unwrap();
    for &step in steps {
        let files = vec![("optimizer.safetensors".to_owned(), vec![step as u8; 100])];
        let fold = polya_proto::state_digest(files.iter().map(|(n, b)| (n.as_str(), b.as_slice())));
        checkpoints::save(run.path(), &StateJson { step, state: Digest(fold), epoch: 1 }, &files).unwrap();
    }
    std::fs::write(run.path().join("run.toml"), "quantisation = 'nf4'").unwrap();
    std::fs::write(run.path().join("journal"), "a journal").unwrap();
    std::fs::create_dir(run.path().join("journal.sealed")).unwrap();
    std::fs::write(run.path().join("journal.sealed/00000001"), "a segment").unwrap();
    std::fs::write(run.path().join("journal.sealed/00000001.snapshot"), "derivable").unwrap();
    run
}

#[tokio::test]
async fn a_run_comes_back_from_the_store_and_old_checkpoints_are_pruned_there() {
    let (remote, run) = (tempfile::tempdir().unwrap(), run(&[3, 6, 9]));
    let store = store(remote.path());
    for step in [3, 6, 9] {
        store.put_checkpoint(run.path(), step).await.unwrap();
        store.put_journal(run.path()).await.unwrap();
        store.prune(run.path(), 2).await.unwrap();
    }
    let back = tempfile::tempdir().unwrap();
    store.restore(back.path()).await.unwrap();
    assert_eq!(checkpoints::steps(back.path()), [6, 9]);
    for step in [6, 9] {
        checkpoints::verify(&checkpoints::folder(back.path(), step)).unwrap();
    }
    for name in ["run.toml", "journal", "journal.sealed/00000001"] {
        assert_eq!(std::fs::read(back.path().join(name)).unwrap(), std::fs::read(run.path().join(name)).unwrap());
    }
    assert!(!back.path().join("journal.sealed/00000001.snapshot").exists(), "what is derivable is not copied");
}

#[tokio::test]
async fn r7_an_epoch_is_claimed_once_and_above_all_others() {
    let remote = tempfile::tempdir().unwrap();
    let store = store(remote.path());
    assert_eq!(store.highest_claim().await.unwrap(), 0);
    assert_eq!(store.claim(0).await.unwrap(), 1);
    assert_eq!(store.claim(7).await.unwrap(), 8);
    let claims = futures_of(8, || store.claim(0)).await;
    assert_eq!(claims, (9..17).collect::<Vec<_>>(), "no epoch is claimed twice");
    assert_eq!(store.highest_claim().await.unwrap(), 16);
}

/// The results of several calls at once, in order.
async fn futures_of<F: Future<Output = Result<u64, StoreError>>>(count: usize, call: impl Fn() -> F) -> Vec<u64> {
    let mut claims = vec![];
    let mut calls: Vec<_> = (0..count).map(|_| Box::pin(call())).collect();
    std::future::poll_fn(|cx| {
        calls.retain_mut(|call| match call.as_mut().poll(cx) {
            std::task::Poll::Ready(claim) => {
                claims.push(claim.unwrap());
                false
            }
            std::task::Poll::Pending => true,
        });
        if calls.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    claims.sort_unstable();
    claims
}

#[test]
fn an_address_that_is_none_is_named() {
    for url in ["nothing", "ftp://host/path"] {
        let error = Store::open(url).unwrap_err().to_string();
        assert!(error.contains("checkpoint.store") && error.contains(url), "{error}");
    }
}

/// A server that speaks enough S3 to put and get, answers the first `failures` requests with 500, and passes what it gives
/// back through `spoil`.
fn s3(failures: usize, spoil: fn(&mut Vec<u8>)) -> Store {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let objects = Mutex::new(BTreeMap::new());
        for (index, stream) in listener.incoming().flatten().enumerate() {
            // A client that hangs up in the middle is its own affair.
            let _ = answer(stream, &objects, index < failures, spoil);
        }
    });
    let options = [
        ("aws_endpoint", endpoint.as_str()),
        ("aws_allow_http", "true"),
        ("aws_region", "here"),
        ("aws_access_key_id", "somebody"),
        ("aws_secret_access_key", "something"),
    ];
    let options = options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    Store::with_options("s3://bucket/run", options).unwrap()
}

fn answer(
    stream: TcpStream,
    objects: &Mutex<BTreeMap<String, Vec<u8>>>,
    fails: bool,
    spoil: fn(&mut Vec<u8>),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = vec![];
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        lines.push(line.to_lowercase());
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request: Vec<&str> = lines.first().map_or(vec![], |line| line.split(' ').collect());
    let mut objects = objects.lock().unwrap();
    let (status, body) = match request[..] {
        _ if fails => ("500 Internal Server Error", vec![]),
        ["put", key, ..] => {
            objects.insert(key.to_owned(), body);
            ("200 OK", vec![])
        }
        ["get", key, ..] if objects.contains_key(key) => {
            let mut found = objects[key].clone();
            spoil(&mut found);
            ("200 OK", found)
        }
        _ => ("404 Not Found", vec![]),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nETag: \"1\"\r\nLast-Modified: Mon, 23 Nov 2026 08:00:00 GMT\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    reader.get_mut().write_all(&[head.as_bytes(), &body].concat())
}

#[tokio::test]
async fn an_s3_store_that_fails_at_first_is_asked_again() {
    let store = s3(2, |_| {});
    store.put("journal", b"a journal".to_vec()).await.unwrap();
    assert_eq!(store.get("journal").await.unwrap().as_deref(), Some(&b"a journal"[..]));
    assert_eq!(store.get("nothing").await.unwrap(), None);
}

#[tokio::test]
async fn a_store_that_gives_back_something_else_is_named() {
    let spoils: [fn(&mut Vec<u8>); 2] = [|bytes| bytes[3] ^= 1, |bytes| bytes.truncate(4)];
    for spoil in spoils {
        let error = s3(0, spoil).put("journal", b"a journal".to_vec()).await.unwrap_err();
        assert!(matches!(error, StoreError::Unfaithful { .. }), "{error}");
        assert!(error.to_string().contains("run/journal"), "{error}");
    }
}
