//! Storms: the real service, driver and journal, and real members, in one process, over a network that breaks. The trainer
//! is the exact integer fold, so I4 is checked bit for bit. 200 seeds, 1,000 with `FAULTS_FULL=1`; `FAULTS_SEED` replays one.
//!
//! A seed fixes which faults fall and how much traffic lies between them. Threads and the disk are real, so one seed is a
//! family of histories and not a single one: the pure core's random events (`random_events`) are what replays exactly.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what failed by failing")]

mod coordinator;
mod fault;
mod lies;
mod network;
mod run;
mod storm;
mod witness;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coordinator_core::Digest;
use polya_tests::process::is_full;
use polya_tests::seed::{self, Random};
use storm::{FELT_MIN, Storm, Survived};

/// Storms at once: most of a storm's time is waiting for something that is broken.
const TOGETHER: usize = 12;
/// After so many failures no new storm begins: what is broken is known.
const FAILED_MAX: usize = 3;

type Outcome = Result<(Survived, Duration), (String, Vec<String>)>;

#[test]
fn i4_no_storm_changes_a_state() {
    let seeds: Vec<u64> = match seed::given() {
        Some(seed) => vec![seed],
        None => (0..if is_full() { 1_000 } else { 200 }).collect(),
    };
    let undisturbed: Vec<Arc<Vec<Digest>>> = (0..run::COUNT).map(undisturbed).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let all: Mutex<Vec<(u64, Outcome)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..TOGETHER.min(seeds.len()) {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) < FAILED_MAX
                    && let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let outcome = pass(seed, &undisturbed);
                    failed.fetch_add(usize::from(outcome.is_err()), Ordering::Relaxed);
                    all.lock().unwrap().push((seed, outcome));
                }
            });
        }
    });
    report(all.into_inner().unwrap());
}

/// The states of a kind of run with one worker and without faults.
fn undisturbed(kind: usize) -> Arc<Vec<Digest>> {
    let workers = run::config_of(kind).run.min_workers;
    let folder = tempfile::tempdir().unwrap();
    let storm = || Storm::new(0, kind, workers, folder.path().join("run"), Arc::default()).pass(0);
    let calm = on_a_runtime(|| async { storm().await });
    Arc::new(calm.unwrap_or_else(|(error, log)| panic!("kind {kind}, undisturbed: {error}\n{}", log.join("\n"))).states)
}

fn pass(seed: u64, undisturbed: &[Arc<Vec<Digest>>]) -> Outcome {
    let mut random = Random::new(seed);
    let kind = random.below(run::COUNT as u64) as usize;
    let workers = 2 + random.below(3) as usize;
    let faults = 10 + random.below(6) as usize;
    let folder = tempfile::tempdir().unwrap();
    let expected = undisturbed[kind].clone();
    let began = Instant::now();
    let dir = folder.path().join("run");
    let survived =
        on_a_runtime(|| async { Storm::new(random.draw(), kind, workers, dir, expected.clone()).pass(faults).await })?;
    if survived.states != *expected {
        return Err(("I4: the states are not those of the undisturbed run".to_owned(), survived.log));
    }
    let felt: u64 = survived.felt.values().sum();
    if felt < FELT_MIN {
        return Err((format!("only {felt} faults met anything"), survived.log));
    }
    Ok((survived, began.elapsed()))
}

/// The network and the storm itself have a thread of their own.
fn on_a_runtime<T, F: Future<Output = T>>(storm: impl FnOnce() -> F) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { storm().await })
}

fn report(all: Vec<(u64, Outcome)>) {
    let (mut felt, mut times, mut failed) = (BTreeMap::<&str, u64>::new(), vec![], vec![]);
    for (seed, outcome) in all {
        match outcome {
            Ok((survived, time)) => {
                survived.felt.into_iter().for_each(|(name, count)| *felt.entry(name).or_default() += count);
                times.push(time);
            }
            Err((error, log)) => {
                println!("FAULTS_SEED={seed}: {error}\n{}\n", log.join("\n"));
                failed.push(seed);
            }
        }
    }
    times.sort_unstable();
    let at = |share: f64| times.get((share * times.len() as f64) as usize).copied().unwrap_or_default();
    println!(
        "{} storms survived, p50 {:?}, p95 {:?}; faults that met something: {felt:#?}",
        times.len(),
        at(0.5),
        at(0.95)
    );
    assert_eq!(failed, Vec::<u64>::new(), "seeds of storms that broke a promise");
}
