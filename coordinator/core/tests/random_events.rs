//! Random histories over the pure core: joins, deaths, broken streams, coordinator crashes, lost appends. After every
//! event the core checks its own invariants; at the end the run must be the undisturbed one (I1, I2, I4, I5, I6, I9).

mod fleet;

use coordinator_core::{Digest, End, Event, Setup, audit};
use fleet::{World, setup};
use proptest::prelude::*;

/// More than any history without faults needs.
const STEPS_TO_FINISH: usize = 20_000;

#[expect(clippy::panic, reason = "a test that does not end has failed")]
fn run_to_its_end(world: &mut World, workers: usize) {
    for choice in 0..STEPS_TO_FINISH {
        if world.end.is_some() {
            return;
        }
        while world.workers() < workers {
            world.spawn();
        }
        world.step((choice as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32);
    }
    panic!("the run does not end once faults stop: {:?}", coordinator_core::reason::why(&world.state));
}

fn undisturbed(workers: usize) -> Vec<Digest> {
    let mut world = World::new();
    run_to_its_end(&mut world, workers);
    assert_eq!(world.end, Some(End::Finished));
    world.digests()
}

fn assert_proven(world: &World) {
    let mut records = world.records.clone();
    let (steps, samples) = (setup().schedule.steps(), setup().schedule.samples().len() as u64);
    let zero = Digest([0; 32]);
    let software = String::new();
    let open =
        coordinator_core::Record::Open { version: 1, config: zero, data: zero, base: zero, samples, steps, software };
    records.insert(0, open);
    let (setup, holdout) = (setup(), Default::default());
    let mut auditor = audit::Auditor::new(&setup, &holdout);
    let digests: Vec<Digest> = records.iter().filter_map(|record| Some(auditor.take(record)?.1)).collect();
    assert_eq!(digests, world.digests());
    let report = auditor.finish();
    assert_eq!(report.faults, Vec::<String>::new());
    assert_eq!((report.steps, report.epochs, report.duplicates, report.missing), (steps, 2, 0, 0));
    assert_eq!(report.samples, 2 * samples);
}

#[test]
fn i4_one_to_eight_workers_commit_the_same_states() {
    let reference = undisturbed(1);
    assert_eq!(reference.len() as u64, setup().schedule.steps());
    for workers in 2..=8 {
        assert_eq!(undisturbed(workers), reference, "{workers} workers");
    }
}

#[test]
fn a_share_of_the_microbatches_is_computed_by_two_workers_where_there_are_two() {
    let recomputed = |workers| {
        let mut world = World::new();
        run_to_its_end(&mut world, workers);
        let (setup, holdout) = (setup(), Default::default());
        let mut auditor = audit::Auditor::new(&setup, &holdout);
        for record in &world.records {
            let _ = auditor.take(record);
        }
        auditor.finish().recomputed
    };
    assert_eq!(recomputed(1), 0);
    let found = recomputed(2);
    assert!(found > 0);
    assert_eq!(recomputed(5), found, "which ones does not depend on the fleet");
}

/// From step 3 on the arithmetic of one worker is wrong, and every microbatch is computed twice: a run as short as this
/// one might else compare nothing of the liar's. Gives how the run of so many workers ends and the liar.
fn ending_with_a_liar(workers: usize, liar: usize) -> (World, String) {
    let mut world = World::of(Setup { second_computation: 1, ..setup() });
    (0..workers).for_each(|_| world.spawn());
    let mut choice = 0u64;
    let mut name = None;
    while world.end.is_none() && choice < STEPS_TO_FINISH as u64 {
        if world.digests().len() == 3 && name.is_none() {
            name = Some(world.corrupt(liar));
        }
        while world.workers() < workers + world.recruits {
            world.spawn();
        }
        world.step(choice.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32);
        choice += 1;
    }
    (world, name.unwrap_or_default())
}

#[test]
fn a_worker_whose_arithmetic_is_wrong_is_named_by_a_third() {
    for (workers, liar) in [(2, 0), (2, 1), (3, 0), (3, 2), (4, 1)] {
        let (world, name) = ending_with_a_liar(workers, liar);
        let Some(End::Stopped(reason)) = &world.end else { panic!("{workers} workers: {:?}", world.end) };
        let named = format!("the arithmetic of worker {name} is wrong");
        assert!(reason.contains(&named), "{workers} workers, liar {liar} ({name}): {reason}");
        assert_eq!(world.recruits, usize::from(workers == 2), "a third is started where there is none");
    }
}

#[test]
fn a_drained_run_is_saved_and_goes_on_to_the_same_end() {
    let reference = undisturbed(2);
    let mut world = World::new();
    world.spawn();
    while world.digests().len() < 4 {
        world.step(0);
    }
    world.apply(Event::Drain);
    while world.end.is_none() {
        world.step(0);
    }
    assert_eq!(world.end, Some(End::Drained));
    let last = world.digests().len() as u64;
    assert!(world.state.journal().committed() == last);
    let saved = |record: &coordinator_core::Record| matches!(record, coordinator_core::Record::Checkpoint { step, .. } if *step == last);
    assert!(world.records.iter().any(saved), "the drained state is saved");
    world.end = None;
    world.crash(0);
    run_to_its_end(&mut world, 1);
    assert_eq!(world.digests(), reference);
    assert_proven(&world);
}

fn apply(world: &mut World, kind: u8, choice: u64) {
    match kind {
        0 => world.kill(choice),
        1 => world.disconnect(choice),
        2 => world.crash(choice),
        7 => world.dismiss(choice),
        3 | 4 if world.workers() < 5 => world.spawn(),
        5 => world.apply(Event::Tick),
        _ => drop(world.step(choice)),
    }
}

/// (kind, choice, how often). A READY worker came back, replaced the open step and died: the step opened again under the
/// same attempt, and a result that was on its way from before was kept although its worker had cleared it.
const REPLACED_STEP: &[(u8, u64, usize)] = &[
    (3, 0, 1),
    (6, 0, 20),
    (5, 0, 1),
    (0, 0, 1),
    (6, 0, 1),
    (3, 0, 1),
    (6, 0, 1),
    (3, 0, 1),
    (6, 11510188565152020719, 1),
    (6, 4350450895001746363, 1),
    (6, 0, 1),
    (6, 13774935675221619566, 1),
    (6, 0, 1),
    (3, 0, 1),
    (6, 6710703907736800535, 1),
    (6, 943053328546841582, 1),
    (6, 16234051214218667623, 1),
    (6, 1807118430761928152, 1),
    (6, 2196879452466831773, 1),
    (6, 0, 3),
    (3, 0, 1),
    (6, 0, 8),
    (5, 0, 2),
    (6, 822873857505663260, 1),
    (5, 0, 1),
    (6, 7877669452574540808, 1),
    (2, 0, 1),
    (6, 263423203273038694, 1),
    (6, 5012970617831240044, 1),
    (6, 6816553774893000944, 1),
    (6, 258406024100652681, 1),
    (6, 4095770906490550793, 1),
    (6, 4880064098816870627, 1),
    (6, 2351808763843915290, 1),
    (6, 9234862927088203820, 1),
    (6, 7845999597078529207, 1),
    (0, 882496371884404003, 1),
    (0, 16076725665661589265, 1),
    (3, 0, 1),
    (6, 693111552818617278, 1),
    (3, 0, 1),
    (0, 2532432105798380814, 1),
    (5, 0, 4),
    (0, 8540309563049013398, 1),
    (3, 0, 3),
];

#[test]
fn a_result_from_before_a_replaced_step_is_not_kept_after_it() {
    let mut world = World::new();
    for &(kind, choice, times) in REPLACED_STEP {
        (0..times).for_each(|_| apply(&mut world, kind, choice));
    }
    run_to_its_end(&mut world, 2);
    assert_eq!(world.digests(), undisturbed(1));
    assert_proven(&world);
}

/// 100,000 with `FAULTS_FULL=1`, as in `make test-faults`.
fn histories() -> u32 {
    if std::env::var_os("FAULTS_FULL").is_some() { 100_000 } else { 10_000 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: histories(), max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_of_faults_changes_the_outcome(history in prop::collection::vec((0u8..40, any::<u64>()), 0..400)) {
        let mut world = World::new();
        for (kind, choice) in history {
            apply(&mut world, kind, choice);
            prop_assert!(!matches!(world.end, Some(End::Stopped(_))), "{:?}", world.end);
        }
        run_to_its_end(&mut world, 2);
        prop_assert_eq!(world.end.clone(), Some(End::Finished));
        prop_assert_eq!(world.digests(), undisturbed(1));
        assert_proven(&world);
    }
}
