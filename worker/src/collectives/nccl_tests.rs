//! NCCL's paths over a small library of our own that sums in the processor's memory (`fake_nccl.c`): what a GPU would do
//! with the words is not tested here, all that surrounds it is.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tch::Device;

use super::{AbortToken, Backend, CollectiveError, Group, LocalRendezvous, NcclLibrary, Seat};
use crate::step::exact_sum;

/// Long enough for a busy machine; what must end earlier says so.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The fake with some faults, in a folder that stays as long as the value.
struct Fake {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Fake {
    fn build(faults: &[&str]) -> Fake {
        let folder = tempfile::tempdir().unwrap();
        let (source, path) = (folder.path().join("fake_nccl.c"), folder.path().join("libfakenccl.so"));
        std::fs::write(&source, include_str!("fake_nccl.c")).unwrap();
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let built = Command::new(&compiler)
            .args(["-std=gnu11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .args([&path, &source])
            .args(faults.iter().map(|fault| format!("-D{fault}")))
            .output()
            .unwrap();
        assert!(built.status.success(), "{compiler}: {}", String::from_utf8_lossy(&built.stderr));
        Fake { _folder: folder, path }
    }

    fn backend(&self) -> Backend {
        let library = NcclLibrary::open_file(&self.path).unwrap();
        Backend::Nccl { library: Arc::new(library), device: Device::Cpu }
    }
}

/// Words of one rank, small enough that no sum wraps: a digest is linear as long as the sum is exact.
fn words(rank: u32) -> Vec<i32> {
    (0..200_001).map(|index: i32| (index.wrapping_mul(7_919) >> 5) + rank as i32).collect()
}

fn seat(rank: u32, world_size: u32, timeout: Duration) -> Seat {
    Seat { rank, world_size, host: "127.0.0.1".to_owned(), timeout }
}

type Outcome = Result<Vec<i32>, CollectiveError>;

/// One all-reduce of ranks in threads of this process; each may have a library of its own.
fn reduce(backends: &[Backend], timeout: Duration, tokens: &[AbortToken]) -> Vec<Outcome> {
    let store = Arc::new(LocalRendezvous::default());
    let world_size = backends.len() as u32;
    let ranks: Vec<_> = (0..world_size)
        .zip(backends.iter().cloned().zip(tokens.iter().cloned()))
        .map(|(rank, (backend, token))| {
            let store = store.clone();
            std::thread::spawn(move || {
                let group = Group::connect(&backend, store, "e1/g1", &seat(rank, world_size, timeout), &token)?;
                let result = group.all_reduce_i32(words(rank));
                if result.is_err() {
                    let again = group.all_reduce_i32(words(rank));
                    assert!(matches!(again, Err(CollectiveError::Spent)), "a group is never used again: {again:?}");
                }
                result
            })
        })
        .collect();
    ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
}

fn reason(outcome: Outcome) -> String {
    outcome.expect_err("it fails").to_string()
}

#[test]
fn the_sum_and_its_digest_are_those_of_gloo() {
    let nccl = Fake::build(&[]).backend();
    for world_size in [2, 3] {
        let tokens = vec![AbortToken::default(); world_size];
        let over = |backend: &Backend| reduce(&vec![backend.clone(); world_size], TIMEOUT, &tokens);
        let sums: Vec<Vec<i32>> =
            over(&nccl).into_iter().chain(over(&Backend::Gloo)).map(|outcome| outcome.unwrap()).collect();
        let parts = (0..world_size as u32).map(|rank| exact_sum::digest(5, &words(rank)));
        let expected = parts.fold(0, u64::wrapping_add);
        for sum in &sums {
            assert_eq!(*sum, sums[0]);
            assert_eq!(exact_sum::digest(5, sum), expected);
        }
    }
}

#[test]
fn a_library_that_cannot_be_used_is_refused_with_what_is_wrong() {
    let error = |faults: &[&str]| NcclLibrary::open_file(&Fake::build(faults).path).err().unwrap();
    let old = error(&["VERSION=21304"]);
    assert!(old.contains("21304") && old.contains("2.14"), "{old}");
    let incomplete = error(&["WITHOUT_ABORT"]);
    assert!(incomplete.contains("ncclCommAbort"), "{incomplete}");
    let none = NcclLibrary::open(&[PathBuf::from("/nowhere/libnccl.so.2")]).err().unwrap();
    assert!(none.contains("/nowhere/libnccl.so.2"), "{none}");
}

#[test]
fn a_rank_that_cannot_join_fails_at_once_and_the_others_within_their_patience() {
    let (whole, broken) = (Fake::build(&[]), Fake::build(&["FAULT_JOIN"]));
    let patience = Duration::from_secs(1);
    let outcomes = reduce(&[whole.backend(), broken.backend()], patience, &vec![AbortToken::default(); 2]);
    let [first, second] = <[Outcome; 2]>::try_from(outcomes).unwrap().map(reason);
    assert!(second.contains("over NCCL") && second.contains("system error"), "{second}");
    assert!(first.contains("joining: not done in 1s"), "{first}");
}

#[test]
fn an_error_that_comes_later_ends_the_sum_of_every_rank() {
    let (whole, broken) = (Fake::build(&[]), Fake::build(&["FAULT_REMOTE"]));
    let started = Instant::now();
    let outcomes = reduce(&[whole.backend(), broken.backend()], TIMEOUT, &vec![AbortToken::default(); 2]);
    for outcome in outcomes {
        // The whole rank may have had all words before the other one gave up.
        if let Err(error) = outcome {
            assert!(error.to_string().contains("remote process exited"), "{error}");
        }
    }
    assert!(started.elapsed() < TIMEOUT / 2, "nobody waits out the time limit");
}

#[test]
fn a_silent_peer_ends_the_sum_at_the_time_limit() {
    let (whole, silent) = (Fake::build(&[]), Fake::build(&["FAULT_SILENT"]));
    let patience = Duration::from_secs(1);
    for outcome in reduce(&[whole.backend(), silent.backend()], patience, &vec![AbortToken::default(); 2]) {
        let reason = reason(outcome);
        assert!(reason.contains("all-reduce"), "{reason}");
        assert!(reason.contains("not done in 1s") || reason.contains("remote process exited"), "{reason}");
    }
}

#[test]
fn an_abort_ends_a_sum_that_waits_for_a_silent_peer() {
    let (whole, silent) = (Fake::build(&[]), Fake::build(&["FAULT_SILENT"]));
    let (store, token) = (Arc::new(LocalRendezvous::default()), AbortToken::default());
    let first = {
        let (store, token, backend) = (store.clone(), token.clone(), whole.backend());
        std::thread::spawn(move || Group::connect(&backend, store, "e1/g1", &seat(0, 2, TIMEOUT), &token))
    };
    let peer = AbortToken::default();
    let second = Group::connect(&silent.backend(), store, "e1/g1", &seat(1, 2, TIMEOUT), &peer).unwrap();
    let first = first.join().unwrap().unwrap();
    let sums = [first, second].map(|group| std::thread::spawn(move || group.all_reduce_i32(words(0))));
    let started = Instant::now();
    token.abort();
    let [first, second] = sums.map(|sum| sum.join().unwrap());
    assert!(matches!(first, Err(CollectiveError::Aborted)), "{first:?}");
    let second = second.expect_err("the peer of an aborted rank fails too").to_string();
    assert!(second.contains("remote process exited"), "{second}");
    assert!(started.elapsed() < TIMEOUT / 4, "{:?}", started.elapsed());
}

#[test]
fn the_watchdog_ends_a_call_that_never_returns() {
    let (whole, stuck) = (Fake::build(&[]), Fake::build(&["FAULT_STUCK"]));
    let patience = Duration::from_secs(1);
    let outcomes = reduce(&[whole.backend(), stuck.backend()], patience, &vec![AbortToken::default(); 2]);
    let [first, second] = <[Outcome; 2]>::try_from(outcomes).unwrap().map(reason);
    assert!(first.contains("all-reduce: not done in 1s"), "{first}");
    assert!(second.contains("the transport hangs"), "{second}");
}
