//! Who is not of the fleet: bytes, silence, floods and wrong credentials cost the coordinator a line in its log.

#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use polya_tests::process::{LIMIT, SETTINGS, binary, proven_digests, run_texts, stderr};
use polya_tests::wait::until;

/// A program that is killed when the test ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn wait(mut self) -> Option<i32> {
        until("the end of a program", LIMIT, || self.0.try_wait().ok().flatten()).code()
    }
}

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let dir = folder.path().join("run");
    (folder, dir)
}

/// Starts a run without local workers; gives it and where it listens.
fn external(dir: &Path, arguments: &[&str]) -> (Process, SocketAddr) {
    let log = std::fs::File::create(dir.with_extension("out")).expect("a temporary folder can be written");
    let mut command = Command::new(binary("coordinator"));
    command.arg("--external").arg("--run-dir").arg(dir).args(arguments);
    for set in SETTINGS.iter().chain(&["evaluation.samples=0"]) {
        command.args(["--set", set]);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file handle can be copied")).stderr(log);
    let mut process = Process(command.spawn().expect("a built binary starts"));
    let address = until("the coordinator's address", LIMIT, || {
        assert!(matches!(process.0.try_wait(), Ok(None)), "{}", said(dir));
        std::fs::read_to_string(dir.join("address")).ok()?.trim().parse().ok()
    });
    (process, address)
}

fn worker(address: SocketAddr, arguments: &[&str]) -> Process {
    let mut command = Command::new(binary("worker"));
    command.args(["--coordinator", &address.to_string()]).args(arguments);
    Process(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a built binary starts"),
    )
}

/// Everything the coordinator has written for people.
fn said(dir: &Path) -> String {
    let log = std::fs::read_to_string(dir.join("log.jsonl")).unwrap_or_default();
    std::fs::read_to_string(dir.with_extension("out")).unwrap_or_default() + &log
}

/// The most memory a process has had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().expect("proc(5) says how much memory a living process has had")
}

#[test]
fn strangers_are_cut_off_and_the_run_goes_on_as_if_they_had_not_been() {
    let (folder, dir) = fresh();
    let token = folder.path().join("token");
    let token = token.to_str().unwrap();
    let (run, address) = external(&dir, &["--join-token-file", token]);
    let before = peak_kib(run.0.id());
    // Bytes that are no HTTP/2, some of them endless.
    let junk: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for length in [0, 1, 100, junk.len()] {
        let mut stream = TcpStream::connect(address).unwrap();
        drop(stream.write_all(&junk[..length])); // it may be cut off before it has said all
    }
    // An HTTP/2 preface and a header frame that claims 16 MiB.
    let mut stream = TcpStream::connect(address).unwrap();
    drop(stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\xff\xff\xff\x01\x04\0\0\0\x01"));
    // A flood of connections that say nothing, or a byte of the preface: more than may wait.
    let mut silent: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in silent.iter_mut().step_by(2) {
        drop(stream.write_all(b"P"));
    }
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut bytes = [0; 1024];
        // Settings may come; then the end, or a reset. A time-out would be a connection that may stay for ever.
        let end = loop {
            match stream.read(&mut bytes) {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error.kind()),
            }
        };
        assert!(!matches!(end, Err(std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)), "{end:?}");
    }
    let grown = peak_kib(run.0.id()) - before;
    assert!(grown < 64 << 10, "{grown} KiB more for strangers");
    // Workers without the token, or with another one, are told so and leave for good.
    let wrong = folder.path().join("wrong");
    std::fs::write(&wrong, "not the token of this run").unwrap();
    for arguments in [vec![], vec!["--join-token-file", wrong.to_str().unwrap()]] {
        assert_eq!(worker(address, &arguments).wait(), Some(78));
    }
    let member = worker(address, &["--join-token-file", token]);
    assert_eq!(run.wait(), Some(0), "{}", said(&dir));
    assert_eq!(member.wait(), Some(0));
    proven_digests(&dir);
    let (said, secret) = (said(&dir), std::fs::read_to_string(token).unwrap());
    for words in ["has not said who it is", "without the join token"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let run_toml = std::fs::read_to_string(dir.join("run.toml")).unwrap();
    assert!(!said.contains(secret.trim()) && !run_toml.contains(secret.trim()), "the token is in no file of the run");
}

/// Passes one connection on to `to`; gives its own address and what was said to `to`.
fn overheard(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let said = Arc::new(Mutex::new(vec![]));
    let heard = said.clone();
    std::thread::spawn(move || {
        let (mut from, _) = listener.accept().unwrap();
        let mut there = TcpStream::connect(to).unwrap();
        let (mut answers, mut back) = (there.try_clone().unwrap(), from.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            heard.lock().unwrap().extend_from_slice(&bytes[..length]);
            if there.write_all(&bytes[..length]).is_err() {
                return;
            }
        }
    });
    (address, said)
}

/// Whoever hears a worker on a wire without TLS can say all of it again, byte for byte.
#[test]
fn what_a_worker_has_said_costs_a_log_line_when_it_is_said_again() {
    let (_folder, dir) = fresh();
    let (run, address) = external(&dir, &["--set", "run.min_workers=2"]);
    let (proxy, heard) = overheard(address);
    let member = worker(proxy, &["--id", "w0"]);
    until("a member with a state", LIMIT, || {
        let status = run_texts("coordinator", &["status", dir.to_str().unwrap()]).stdout;
        String::from_utf8_lossy(&status).contains("a second worker").then_some(())
    });
    let words = heard.lock().unwrap().clone();
    let mut repeated = TcpStream::connect(address).unwrap();
    let (preface, rest) = words.split_at(24);
    repeated.write_all(preface).unwrap();
    repeated.read_exact(&mut [0; 9]).unwrap(); // a client's answer to settings must not come before them
    repeated.write_all(rest).unwrap();
    until("the log line", LIMIT, || said(&dir).contains("of w0 is stale").then_some(()));
    let other = worker(address, &["--id", "w1"]);
    assert_eq!(run.wait(), Some(0), "{}", said(&dir));
    [member, other].into_iter().for_each(|member| assert_eq!(member.wait(), Some(0)));
    proven_digests(&dir);
    assert!(!said(&dir).contains("worker w0 is gone"), "it was not disturbed: {}", said(&dir));
}

fn certificates(folder: &Path) -> Output {
    run_texts("coordinator", &["certificates", &folder.display().to_string()])
}

#[test]
fn with_certificates_only_the_fleet_s_own_take_part() {
    let (folder, dir) = fresh();
    let [ours, theirs] = ["ours", "theirs"].map(|name| folder.path().join(name));
    for fleet in [&ours, &theirs] {
        let output = certificates(fleet);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert_eq!(certificates(&ours).status.code(), Some(2), "a folder of certificates is not overwritten");
    let tls = ours.to_str().unwrap();
    let (run, address) = external(&dir, &["--tls", tls, "--set", "run.min_workers=2"]);
    let short = ["--park-limit", "2"];
    // Plain text, and a certificate of another authority.
    assert_eq!(worker(address, &short).wait(), Some(75));
    assert_eq!(worker(address, &[&short[..], &["--tls", theirs.to_str().unwrap()]].concat()).wait(), Some(75));
    let status = ["status", "--addr", &address.to_string()];
    assert_eq!(run_texts("coordinator", &status).status.code(), Some(1));
    let output = run_texts("coordinator", &[&status[..], &["--tls", tls]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    // Two workers, so that state and rendezvous go over the encrypted wire too.
    let members = [worker(address, &["--tls", tls]), worker(address, &["--tls", tls])];
    assert_eq!(run.wait(), Some(0), "{}", said(&dir));
    members.into_iter().for_each(|member| assert_eq!(member.wait(), Some(0)));
    proven_digests(&dir);
}

#[test]
fn a_folder_without_certificates_is_exit_2_and_names_the_file() {
    let (folder, dir) = fresh();
    let empty = folder.path().to_str().unwrap();
    let output = run_texts("coordinator", &["--run-dir", dir.to_str().unwrap(), "--tls", empty]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("authority.pem"), "{}", stderr(&output));
    let output = run_texts("worker", &["--coordinator", "127.0.0.1:1", "--tls", empty]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("authority.pem"), "{}", stderr(&output));
}
