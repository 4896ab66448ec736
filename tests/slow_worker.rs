//! One worker four times slower than the other: it gets fewer microbatches, and nobody waits for it as for an equal one.

use polya_tests::fleet::{Fleet, READY_TO_BEGIN, commits};
use polya_tests::process::{Coordinator, proven_digests_of, small_holdout};

const STEPS: u64 = 14;
const MORE: [&str; 5] = [
    "train.steps=14",
    "batch.microbatches_per_step=10",
    "batch.tokens_per_microbatch=256",
    "evaluation.samples=0",
    "checkpoint.every=0",
];
const SLOWNESS: u32 = 4;
/// By then the coordinator knows both.
const KNOWN: usize = 4;

#[test]
fn a_slow_worker_s_share_shrinks_and_the_states_stay() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let holds = [("fast", READY_TO_BEGIN), ("slow", READY_TO_BEGIN)];
    let holdout = small_holdout(folder.path());
    let more = [&MORE[..], &[&holdout]].concat();
    let mut fleet = Fleet::start(folder.path(), &more, &holds);
    fleet.start_slow_worker("slow", SLOWNESS);
    fleet.start_together(&["fast", "slow"]);
    assert_eq!(fleet.wait_for_end(), 0);

    let commits = commits(&fleet.dir());
    let share = |id: &str| {
        let parts = commits[KNOWN..].iter().flat_map(|commit| commit.microbatches.values());
        parts.filter(|part| part.worker == id).count()
    };
    let [fast, slow] = ["fast", "slow"].map(share);
    println!("fast {fast}, slow {slow}");
    assert!(slow > 0, "it is of use");
    assert!(slow * SLOWNESS as usize <= 2 * fast, "it would keep the fast one waiting: fast {fast}, slow {slow}");

    let alone = folder.path().join("alone");
    assert_eq!(Coordinator::start(&alone, 1, &more).wait(), Some(0));
    assert_eq!(proven_digests_of(&fleet.dir(), STEPS), proven_digests_of(&alone, STEPS));
    let took = |commits: &[coordinator_core::record::Commit]| {
        let times: Vec<u64> = commits[KNOWN..].iter().map(|commit| commit.time_ms).collect();
        let mut steps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        steps.sort_unstable();
        steps[steps.len() / 2]
    };
    let (together, alone) = (took(&commits), took(&polya_tests::fleet::commits(&alone)));
    println!("a step takes {together} ms with both, {alone} ms with the fast one alone");
}
