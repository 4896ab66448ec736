//! Every lie of a device, over the wire: the real service and real members, an exact fold that lies from one step on. The
//! run stops, nothing wrong is committed, and the liar is named. `tests/lies.rs` does the same with real tensors.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{Digest, End};
use polya_tests::fleet::commits;
use polya_tests::liar::{LIES, Lie, LyingFactory};
use tokio::sync::mpsc;
use worker_member::integer_fold::IntegerFoldFactory;

use crate::coordinator::Coordinator;
use crate::storm::Happened;
use crate::worker::Worker;
use crate::{on_a_runtime, run};

const STEPS: usize = 8;
const FROM_STEP: u64 = 3;
const LIAR: usize = 1;
const THREE: std::ops::Range<usize> = 0..3;
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything is computed twice, by two of three.
const COMPARED: [&str; 3] = ["run.second_computation=1", "run.min_workers=3", "checkpoint.every=0"];
/// Nothing is: what is wrong with a sum or a state is found all the same.
const NOT_COMPARED: [&str; 3] = ["run.second_computation=0", "run.min_workers=3", "checkpoint.every=0"];
/// The lies about a sum or a state.
const ABOUT_SUMS: [Lie; 6] =
    [Lie::Stale, Lie::Swapped, Lie::Doubled, Lie::HalfReduced, Lie::WrongExponentInTheStep, Lie::FlippedBit];

#[test]
fn every_lie_stops_the_run_before_its_commit_and_names_the_liar() {
    let honest = told(Lie::None, THREE, &COMPARED);
    assert_eq!((honest.0, honest.1.len()), (End::Finished, STEPS));
    let compared = LIES.into_iter().map(|lie| (lie, &COMPARED));
    let not_compared = ABOUT_SUMS.into_iter().map(|lie| (lie, &NOT_COMPARED));
    let verdicts = compared.chain(not_compared).map(|(lie, values)| verdict(lie, values, &honest.1));
    let got_away: Vec<String> = verdicts.filter_map(Result::err).collect();
    assert!(got_away.is_empty(), "lies that got away:\n{}", got_away.join("\n"));
}

/// Nobody is there to compare with; the state that is sent for a checkpoint still folds to something.
#[test]
fn a_lie_in_a_lone_worker_s_memory_is_found_when_its_state_is_saved() {
    let saved = format!("checkpoint.every={}", FROM_STEP - 1);
    let (end, committed) = told(Lie::FlippedBit, LIAR..LIAR + 1, &["run.second_computation=0", &saved]);
    println!("{end:?}");
    let End::Stopped(reason) = end else { panic!("the run ended with {end:?}") };
    assert!(reason.ends_with("sent for the checkpoint, is not the committed one; workers involved: w1"), "{reason}");
    assert!(committed.len() as u64 >= FROM_STEP - 1, "stopped before it lied");
}

fn verdict(lie: Lie, values: &[&str], honest: &[Digest]) -> Result<(), String> {
    let (end, committed) = told(lie, THREE, values);
    println!("{lie:?}: {end:?}");
    let End::Stopped(reason) = end else { return Err(format!("{lie:?}: the run ended with {end:?}")) };
    // A step that is made otherwise from the same sum leaves no trace of whose fault it is: all are listed with their states.
    let is_named = match lie {
        Lie::WrongExponentInTheStep => reason.contains("w1 ("),
        _ => reason.contains("the arithmetic of worker w1 is wrong") || reason.ends_with("workers involved: w1"),
    };
    if !is_named {
        return Err(format!("{lie:?}: the liar is not named: {reason}"));
    }
    if !honest.starts_with(&committed) {
        return Err(format!("{lie:?}: something wrong is committed"));
    }
    if (committed.len() as u64) < FROM_STEP - 1 {
        return Err(format!("{lie:?}: stopped before it lied: {reason}"));
    }
    Ok(())
}

/// How the run ends when one of these workers tells a lie, and what it has committed by then.
fn told(lie: Lie, fleet: std::ops::Range<usize>, values: &[&str]) -> (End, Vec<Digest>) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let steps = format!("train.steps={STEPS}");
    let config = run::config(&[&[steps.as_str(), "batch.microbatches_per_step=6"], values].concat());
    let end = on_a_runtime(|| async {
        let (tell, mut happened) = mpsc::unbounded_channel();
        let as_they_are = Arc::new(|_: &str, address: &str| address.to_owned());
        let _coordinator = Coordinator::start(config, dir.clone(), as_they_are, tell.clone());
        let mut workers = vec![];
        let ends = async {
            loop {
                match happened.recv().await {
                    Some(Happened::CoordinatorListens(address)) => {
                        for index in fleet.clone() {
                            let lie = if index == LIAR { lie } else { Lie::None };
                            let factory = LyingFactory { inner: IntegerFoldFactory, lie, from_step: FROM_STEP };
                            workers.push(Worker::start(index, 1, address, Box::new(factory), tell.clone()));
                        }
                    }
                    Some(Happened::CoordinatorEnded(end)) => return end.unwrap().unwrap(),
                    _ => {}
                }
            }
        };
        let end = tokio::time::timeout(PATIENCE, ends).await;
        workers.iter_mut().for_each(|worker| {
            worker.crash();
        });
        end.unwrap_or_else(|_| panic!("{lie:?}: no end in {PATIENCE:?}"))
    });
    (end, commits(&dir).into_iter().map(|commit| commit.state).collect())
}
