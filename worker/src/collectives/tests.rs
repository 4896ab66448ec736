//! Groups between threads of this process, and one whose peer is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use polya_proto::v1::Group;
use worker_member::trainer::{AbortHandle, Membership, Rendezvous};

use super::{AbortToken, Aborts, Backend, CollectiveError, Group as Ranks, LocalRendezvous, Seat, all_reduce_i32};
use crate::ffi::gloo::RawGroup;

const TIMEOUT: Duration = Duration::from_secs(20);
const LOOPBACK: &str = "127.0.0.1";

fn membership(generation: u64, rank: u32, world_size: u32) -> Membership {
    Membership { group: Group { epoch: 1, generation }, rank, world_size, host: LOOPBACK.to_owned() }
}

fn seat(rank: u32) -> Seat {
    Seat { rank, world_size: 2, host: LOOPBACK.to_owned(), timeout: TIMEOUT }
}

/// Words of one rank; a few thousand so that gloo cuts them into segments.
fn words(rank: u32) -> Vec<i32> {
    (0..300_001).map(|index: i32| index.wrapping_mul(7).wrapping_sub(i32::MAX / 4) + rank as i32).collect()
}

#[test]
fn every_world_size_gives_the_exact_sum() {
    for world_size in 1..=4 {
        let store = Arc::new(LocalRendezvous::default());
        let mut expected = words(0);
        for rank in 1..world_size {
            expected.iter_mut().zip(words(rank)).for_each(|(sum, word)| *sum = sum.wrapping_add(word));
        }
        let ranks: Vec<_> = (0..world_size)
            .map(|rank| {
                let store = store.clone();
                std::thread::spawn(move || {
                    let (membership, aborts) = (membership(7, rank, world_size), Aborts::default());
                    all_reduce_i32(&Backend::Gloo, words(rank), &membership, store, &aborts, TIMEOUT)
                })
            })
            .collect();
        for rank in ranks {
            assert_eq!(rank.join().unwrap().unwrap(), expected, "world size {world_size}");
        }
    }
}

/// Without the lock in gloo_shim.cpp this ends the process.
#[test]
fn groups_of_one_process_may_begin_at_the_same_moment() {
    const THREADS: u32 = 2;
    let arrived = AtomicU32::new(0);
    let rounds = || {
        for round in 1..=1_000 {
            let store = LocalRendezvous::default();
            let group = RawGroup::connect(&store, 0, 1, LOOPBACK, TIMEOUT).unwrap();
            arrived.fetch_add(1, Ordering::AcqRel);
            while arrived.load(Ordering::Acquire) < THREADS * round {
                std::hint::spin_loop(); // a barrier that sleeps would let them begin one after the other
            }
            group.all_reduce_i32(&mut [1, 2]).unwrap();
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(rounds))));
}

#[test]
fn an_abort_ends_a_reduce_that_waits_for_a_peer() {
    let store = Arc::new(LocalRendezvous::default());
    let token = AbortToken::default();
    let group = {
        let (store, token) = (store.clone(), token.clone());
        move || Ranks::connect(&Backend::Gloo, store, "e1/g1", &seat(0), &token)
    };
    let first = std::thread::spawn(group);
    let silent = Ranks::connect(&Backend::Gloo, store, "e1/g1", &seat(1), &AbortToken::default()).unwrap();
    let first = first.join().unwrap().unwrap();
    let (sent, received) = channel();
    let waits = std::thread::spawn(move || {
        sent.send(()).unwrap();
        (first.all_reduce_i32(words(0)), first.all_reduce_i32(words(0)))
    });
    received.recv().unwrap();
    let started = Instant::now();
    token.abort();
    let (result, again) = waits.join().unwrap();
    assert!(matches!(result, Err(CollectiveError::Aborted)), "{result:?}");
    assert!(matches!(again, Err(CollectiveError::Spent)), "a group is never used again: {again:?}");
    assert!(started.elapsed() < TIMEOUT / 4, "{:?}", started.elapsed());
    // The peer of an aborted rank does not wait out its time limit either.
    let result = silent.all_reduce_i32(words(1));
    assert!(matches!(result, Err(CollectiveError::Reduce { .. })), "{result:?}");
    assert!(started.elapsed() < TIMEOUT / 4, "{:?}", started.elapsed());
}

#[test]
fn an_abort_ends_a_rendezvous_that_waits_for_a_peer() {
    let aborts = Aborts::default();
    let handle = aborts.clone();
    let (entered, wait_entered) = channel();
    let lonely = std::thread::spawn(move || {
        let store = Arc::new(Announcing { inner: LocalRendezvous::default(), entered });
        all_reduce_i32(&Backend::Gloo, words(0), &membership(3, 0, 2), store, &aborts, TIMEOUT)
    });
    wait_entered.recv().unwrap();
    let started = Instant::now();
    handle.abort(&Group { epoch: 1, generation: 2 });
    handle.abort(&Group { epoch: 1, generation: 3 });
    assert!(matches!(lonely.join().unwrap(), Err(CollectiveError::Aborted)));
    assert!(started.elapsed() < TIMEOUT / 4, "{:?}", started.elapsed());
}

#[test]
fn an_abort_that_overtakes_its_reduce_holds() {
    let aborts = Aborts::default();
    aborts.abort(&Group { epoch: 1, generation: 3 });
    for generation in [2, 3] {
        assert!(aborts.enter(&Group { epoch: 1, generation }).is_aborted());
    }
    assert!(!aborts.enter(&Group { epoch: 1, generation: 4 }).is_aborted());
    assert!(!aborts.enter(&Group { epoch: 2, generation: 1 }).is_aborted(), "a later epoch is a later group");
}

/// Says when somebody begins to wait.
struct Announcing {
    inner: LocalRendezvous,
    entered: std::sync::mpsc::Sender<()>,
}

impl Rendezvous for Announcing {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), String> {
        self.inner.set(key, value)
    }
    fn get(&self, key: &str, wait_ms: u64) -> Result<Option<Vec<u8>>, String> {
        let _ = self.entered.send(());
        self.inner.get(key, wait_ms)
    }
    fn add(&self, key: &str, amount: i64) -> Result<i64, String> {
        self.inner.add(key, amount)
    }
}

/// Keys as files of a folder, so that two processes meet.
struct Folder(PathBuf);

impl Folder {
    fn path(&self, key: &str) -> PathBuf {
        self.0.join(blake3::hash(key.as_bytes()).to_hex().as_str())
    }
}

impl Rendezvous for Folder {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), String> {
        let partial = self.path(key).with_extension(std::process::id().to_string());
        std::fs::write(&partial, value)
            .and_then(|()| std::fs::rename(&partial, self.path(key)))
            .map_err(|error| error.to_string())
    }
    fn get(&self, key: &str, _wait_ms: u64) -> Result<Option<Vec<u8>>, String> {
        std::thread::yield_now();
        Ok(std::fs::read(self.path(key)).ok())
    }
    fn add(&self, _key: &str, _amount: i64) -> Result<i64, String> {
        Err("not needed".to_owned())
    }
}

/// Set in the process that is to be killed.
const CHILD: &str = "POLYA_TEST_GLOO_CHILD";

/// Not a test of its own: what the killed process does. It connects, says so, takes part once and never again.
#[test]
fn child_of_the_kill_test() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let store = Arc::new(Folder(folder.into()));
    let group = Ranks::connect(&Backend::Gloo, store, "e1/g1", &seat(1), &AbortToken::default()).unwrap();
    group.all_reduce_i32(words(1)).unwrap();
    // Past the captured output of the test harness.
    std::fs::OpenOptions::new().write(true).open("/dev/stderr").unwrap().write_all(b"took part\n").unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_killed_peer_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "collectives::tests::child_of_the_kill_test", "--nocapture"])
        .env(CHILD, folder.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let store = Arc::new(Folder(folder.path().to_owned()));
    let group = Ranks::connect(&Backend::Gloo, store, "e1/g1", &seat(0), &AbortToken::default()).unwrap();
    group.all_reduce_i32(words(0)).unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "took part\n");
    let reduce = std::thread::spawn(move || {
        let result = group.all_reduce_i32(words(0));
        (result, Instant::now())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = Instant::now();
    let (result, failed) = reduce.join().unwrap();
    let Err(CollectiveError::Reduce { reason, .. }) = result else { panic!("{result:?}") };
    println!("failed {:?} after the kill: {reason}", failed.saturating_duration_since(killed));
    assert!(failed.saturating_duration_since(killed) < TIMEOUT / 10, "{reason}");
}
