//! One story a rule and a crash point of docs/architecture.md, "The commit": events in, actions in words out.

mod story;

use coordinator_core::event::{Done, Held, Hello, Ready};
use coordinator_core::statistics::{NOT_FINITE, Statistics};
use coordinator_core::{Event, Record, Report, Setup, reason};
use story::{K, Story, done, setup};

/// All four microbatches done by w0 (0, 1) and w1 (2, 3), and the reduction ordered.
fn reducing() -> Story {
    let mut story = Story::new(setup());
    story.join_all(&["w0", "w1"]);
    story.done("w0", 1, 0);
    story.done("w1", 1, 1);
    story.done("w0", 1, 2);
    assert_eq!(story.done("w1", 1, 3), ["w1: keep 3", "w0: reduce in group 1 of 2", "w1: reduce in group 1 of 2"]);
    story
}

#[test]
fn a_step_from_the_first_hello_to_the_next_plan() {
    let mut story = Story::new(setup());
    assert_eq!(story.hello("w0"), ["w0: welcome", "w0: load 0"]);
    assert_eq!(story.say("w0", Report::Class(Story::class("usual"))), ["append class usual"]);
    assert_eq!(story.idle("w0", 0), [""; 0], "the class is durable before anything is planned");
    assert_eq!(story.durable(), ["w0: plan 1/0", "w0: lease 0", "w0: lease 1"]);
    assert_eq!(story.done("w0", 1, 0), ["w0: keep 0", "w0: lease 2"]);
    assert_eq!(story.done("w0", 1, 1), ["w0: keep 1"], "near the end one at a time");
    assert_eq!(story.done("w0", 1, 2), ["w0: keep 2", "w0: lease 3"]);
    assert_eq!(story.done("w0", 1, 3), ["w0: keep 3", "w0: reduce in group 1 of 1"]);
    assert_eq!(story.ready("w0", 1), ["append commit 1/0"]);
    assert_eq!(story.durable()[..2], ["w0: commit 1", "w0: plan 2/0"], "R3: told once it is durable");
}

#[test]
fn another_class_is_refused_by_name_with_the_words_of_both() {
    let mut story = Story::new(setup());
    story.join("w0");
    story.hello("w1");
    let said = story.say("w1", Report::Class(Story::class("AVX2")));
    let [refused] = &said[..] else { panic!("{said:?}") };
    for words in ["w1: refused 76", "worker w1", "[AVX2]", "[usual]", "--allow-mixed"] {
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn where_the_run_allows_it_another_class_is_written_down_first() {
    let mut story = Story::new(Setup { allow_mixed: true, ..setup() });
    story.join("w0");
    story.hello("w1");
    assert_eq!(story.say("w1", Report::Class(Story::class("AVX2"))), ["append class AVX2"]);
    assert_eq!(story.idle("w1", 0), [""; 0]);
    assert!(story.durable().contains(&"w1: plan 1/0".to_owned()));
    let (setup, holdout) = (setup(), Default::default());
    let mut auditor = coordinator_core::audit::Auditor::new(&setup, &holdout);
    for record in &story.records {
        let _ = auditor.take(record);
    }
    let report = auditor.finish();
    assert_eq!(report.classes.iter().map(|(_, words)| words.as_str()).collect::<Vec<_>>(), ["usual", "AVX2"]);
}

#[test]
fn r1_what_was_lost_before_its_keep_goes_to_another() {
    let mut story = Story::new(setup());
    story.join_all(&["w0", "w1"]);
    assert_eq!(story.done("w1", 1, 1), ["w1: keep 1"]);
    story.done("w0", 1, 0);
    story.done("w0", 1, 2);
    assert_eq!(story.cut("w1"), ["w0: lease 1", "w0: lease 3"], "w1's sum and lease are gone, and nothing else");
    assert_eq!(story.done("w0", 1, 3), ["w0: keep 3"]);
    assert_eq!(story.done("w0", 1, 1), ["w0: keep 1", "w0: reduce in group 1 of 1"]);
}

#[test]
fn r5_lost_in_the_reduction_only_its_own_microbatches_are_computed_again() {
    let mut story = reducing();
    assert_eq!(story.cut("w1"), ["w0: abort 1"]);
    assert_eq!(story.broken("w0", 1), ["w0: lease 1", "w0: lease 3"]);
    story.done("w0", 1, 1);
    assert_eq!(story.done("w0", 1, 3), ["w0: keep 3", "w0: reduce in group 2 of 1"], "a group is never used again");
}

#[test]
fn lost_after_ready_the_others_commit_without_it() {
    let mut story = reducing();
    assert_eq!(story.ready("w0", 1), [""; 0], "R2: all live members");
    assert_eq!(story.cut("w1"), ["append commit 1/0"]);
    story.durable();
    let Some(Record::Commit(commit)) = story.records.last() else { panic!("no commit") };
    assert_eq!(commit.microbatches[&3].worker, "w1", "the commit names who computed it");
}

#[test]
fn r5_while_a_ready_lives_the_others_wait_and_fetch() {
    let mut story = reducing();
    story.ready("w0", 1);
    assert_eq!(story.broken("w1", 1), ["append commit 1/0"], "no new group while w0 is ready");
    assert_eq!(story.durable(), ["w0: commit 1"]);
    assert_eq!(story.idle("w0", 1), ["w1: fetch 1 from w0"]);
    let said = story.idle("w1", 1);
    assert_eq!(said[..2], ["w0: plan 2/0", "w1: plan 2/0"]);
}

#[test]
fn r5_when_the_last_ready_dies_the_others_form_a_new_group() {
    let mut story = reducing();
    story.ready("w0", 1);
    assert_eq!(story.cut("w0"), ["w1: abort 1"]);
    assert_eq!(story.broken("w1", 1), ["w1: lease 0", "w1: lease 2"]);
}

#[test]
fn lost_between_commit_and_flip_the_replacement_fetches_the_step() {
    let mut story = reducing();
    story.ready("w0", 1);
    story.ready("w1", 1);
    assert_eq!(story.durable()[..2], ["w0: commit 1", "w1: commit 1"]);
    story.idle("w0", 1);
    story.cut("w1");
    let fresh = Hello { worker: "w1".to_owned(), incarnation: 1, ..Hello::default() };
    assert_eq!(story.hello_with(fresh), ["w1: welcome", "w1: load 0"]);
    story.say("w1", Report::Class(Story::class("usual")));
    assert_eq!(story.idle("w1", 0), [""; 0], "w0 is in the middle of step 2");
    (0..K).for_each(|k| drop(story.done("w0", 2, k)));
    story.ready("w0", 2);
    story.durable();
    assert_eq!(story.idle("w0", 2), ["w1: fetch 2 from w0"]);
}

#[test]
fn who_copies_from_a_lost_worker_copies_from_another_at_once() {
    let mut story = Story::with_step_one(setup(), &["w0", "w1"]);
    ["w0", "w1"].iter().for_each(|worker| drop(story.idle(worker, 1)));
    story.join("w2");
    (0..K).for_each(|k| drop(story.done(["w0", "w1"][k as usize % 2], 2, k)));
    ["w0", "w1"].iter().for_each(|worker| drop(story.ready(worker, 2)));
    story.durable();
    assert_eq!(story.idle("w0", 2), ["w2: fetch 2 from w0"]);
    assert_eq!(story.idle("w1", 2), [""; 0]);
    assert_eq!(story.cut("w0"), ["w2: fetch 2 from w1"]);
}

#[test]
fn r8_a_stream_that_breaks_in_mid_step_costs_nothing_that_was_kept() {
    let mut story = Story::new(setup());
    story.join_all(&["w0", "w1"]);
    story.done("w1", 1, 1);
    let holding = story.holding("w1", 0, &[1]);
    story.cut("w1");
    story.done("w0", 1, 0);
    let said = story.hello_with(holding);
    assert_eq!(said[0], "w1: welcome");
    assert!(!said.iter().any(|word| word.contains("plan")), "it goes on with its sum: {said:?}");
    assert!(!said.iter().any(|word| word.ends_with("lease 1")), "{said:?}");
}

#[test]
fn r6_a_hello_that_was_there_before_takes_nobody_s_place() {
    let mut story = Story::new(setup());
    story.hello_with(Hello { worker: "w0".to_owned(), incarnation: 7, ..Hello::default() });
    let repeated = |incarnation| Hello { worker: "w0".to_owned(), incarnation, ..Hello::default() };
    for incarnation in [7, 6] {
        assert_eq!(story.hello_with(repeated(incarnation)), ["w0: fence", "close w0"], "{incarnation}");
    }
    assert_eq!(
        story.say("w0", Report::Class(Story::class("usual"))),
        ["append class usual"],
        "w0 itself is still there"
    );
    assert_eq!(story.cut("w0"), [""; 0]);
    assert_eq!(story.hello_with(repeated(7)), ["w0: fence", "close w0"], "nor the place of one that is gone");
    assert_eq!(story.hello_with(repeated(8)), ["w0: welcome", "w0: load 0"]);
}

#[test]
fn r8_what_has_another_owner_by_now_fences_the_whole_sum() {
    let mut story = Story::new(setup());
    story.join_all(&["w0", "w1"]);
    story.done("w1", 1, 1);
    let holding = story.holding("w1", 0, &[1]);
    story.cut("w1");
    for k in [0, 2, 3, 1] {
        story.done("w0", 1, k);
    }
    story.broken("w0", 1);
    assert_eq!(story.hello_with(holding.clone()), ["w1: welcome", "w1: fence"]);
    let again = story.hello_with(Hello { incarnation: 1, plan: None, kept: vec![], ..holding });
    assert!(again.contains(&"w1: plan 1/0".to_owned()), "{again:?}");
}

#[test]
fn a_coordinator_lost_before_the_append_commits_from_a_ready_worker_s_table() {
    let mut before = reducing();
    let ready = before.shadow("w1", 1);
    let hello = Hello { ready: Some(ready), ..before.holding("w1", 0, &[1, 3]) };
    before.ready("w0", 1);
    let mut story = Story::after(setup(), before.records);
    assert_eq!(story.hello_with(hello), ["w1: welcome", "append commit 1/0"]);
    assert_eq!(story.durable()[0], "w1: commit 1");
}

#[test]
fn r4_a_ready_without_the_whole_table_comes_again_and_only_a_later_attempt_ends_it() {
    let workers = ["w0", "w1", "w2"];
    let mut before = Story::with_step_one(setup(), &workers);
    (0..K).for_each(|k| drop(before.done(workers[k as usize % 3], 2, k)));
    let ready = |worker: &str, kept: &[u32]| {
        let ready = before.shadow(worker, 2);
        assert_eq!(ready.table.len(), if worker == "w2" { 1 } else { K as usize }, "what {worker} was told");
        Hello { ready: Some(ready), ..before.holding(worker, 1, kept) }
    };
    let (with_table, without) = (ready("w0", &[0, 3]), ready("w2", &[2]));

    let mut story = Story::after(setup(), before.records.clone());
    assert_eq!(story.hello_with(without.clone()), ["w2: welcome", "close w2"], "somebody with the table may come");
    assert_eq!(story.hello_with(with_table), ["w0: welcome", "append commit 2/0"]);
    story.durable();
    assert_eq!(story.hello_with(without.clone()), ["w2: welcome", "w2: commit 2"], "it has lost nothing");

    let mut story = Story::after(setup(), before.records.clone());
    story.pass(1_500, &[]);
    assert_eq!(story.hello_with(without), ["w2: welcome", "append retry 2/1 scale 0"], "nobody else has come");
    assert_eq!(story.durable(), ["w2: plan 2/1", "w2: lease 0", "w2: lease 1"]);
}

#[test]
fn r8_a_ready_that_comes_back_fences_those_who_have_begun_the_step_again() {
    let workers = ["w0", "w1"];
    let mut before = Story::with_step_one(setup(), &workers);
    (0..K).for_each(|k| drop(before.done(workers[k as usize % 2], 2, k)));
    let ready = Hello { ready: Some(before.shadow("w0", 2)), ..before.holding("w0", 1, &[0, 2]) };
    let mut story = Story::after(setup(), before.records.clone());
    story.hello_with(before.holding("w1", 1, &[1, 3]));
    story.pass(1_500, &[]);
    let said = story.hello_with(ready);
    assert!(said.iter().any(|word| word.starts_with("w1: fence")), "its sum is of a step that is no more: {said:?}");
}

#[test]
fn a_coordinator_lost_after_the_append_tells_the_ready_and_lets_the_others_fetch() {
    let mut before = reducing();
    let ready = Hello { ready: Some(before.shadow("w0", 1)), ..before.holding("w0", 0, &[0, 2]) };
    let behind = before.holding("w1", 0, &[1, 3]);
    before.ready("w0", 1);
    before.ready("w1", 1);
    before.durable();
    let mut story = Story::after(setup(), before.records);
    assert_eq!(story.hello_with(behind), ["w1: welcome"], "w0 worked for the coordinator before and may come back");
    assert_eq!(story.hello_with(ready), ["w0: welcome", "w0: commit 1"]);
    assert_eq!(story.idle("w0", 1), ["w1: fetch 1 from w0"]);
}

#[test]
fn a_new_coordinator_waits_a_second_for_the_workers_of_the_last_step() {
    let before = Story::with_step_one(setup(), &["w0", "w1"]);
    let mut story = Story::after(setup(), before.records);
    let held = |worker: &str| Hello { plan: None, ..Story::new(setup()).holding(worker, 1, &[]) };
    assert_eq!(story.hello_with(held("w0")), ["w0: welcome"]);
    assert!(reason::why(&story.core).waiting_for.starts_with("w1, who worked"), "{:?}", reason::why(&story.core));
    let said = story.hello_with(held("w1"));
    assert!(said.contains(&"w0: plan 2/0".to_owned()), "both are back: {said:?}");
    let mut story = Story::after(setup(), story.records);
    story.hello_with(held("w0"));
    assert_eq!(story.pass(1_000, &[])[0], "w0: plan 2/0", "w1 does not come");
}

#[test]
fn a_slow_worker_gets_fewer_microbatches() {
    let mut story = Story::new(setup());
    story.join_all(&["w0", "w1"]);
    for (worker, microbatch, ms) in [("w0", 0, 100), ("w0", 2, 100), ("w1", 1, 200), ("w1", 3, 400)] {
        story.now_ms += ms;
        story.done(worker, 1, microbatch);
    }
    story.ready("w0", 1);
    story.ready("w1", 1);
    let said = story.durable();
    let of = |worker: &str| said.iter().filter(|word| word.starts_with(worker) && word.contains("lease")).count();
    assert_eq!((of("w0"), of("w1")), (2, 1), "four times 100 ms are no longer than once 400: {said:?}");
    story.now_ms += 100;
    assert_eq!(story.done("w0", 2, 0), ["w0: keep 0"]);
    story.now_ms += 100;
    assert_eq!(story.done("w0", 2, 1), ["w0: keep 1", "w0: lease 2"], "the last one is w0's too");
}

#[test]
fn who_is_silent_is_lost_and_who_hangs_is_too() {
    let mut story = Story::new(setup());
    story.join_all(&["w0", "w1"]);
    assert_eq!(story.pass(2_500, &["w1"])[0], "kill w1");
    let mut story = Story::with_step_one(setup(), &["w0", "w1"]);
    story.idle("w0", 1);
    story.idle("w1", 1);
    let limit = setup().limits().hangs_after_ms(Some(0));
    assert_eq!(story.pass(limit, &[]), [""; 0], "it lives, and may yet come to an end");
    assert_eq!(story.pass(1_000, &[])[0], "kill w0");
}

#[test]
fn a_coordinator_that_stood_still_itself_loses_nobody_for_it() {
    let mut story = Story::new(setup());
    story.join_all(&["w0", "w1"]);
    story.pass(1_000, &[]);
    story.now_ms += 3_600_000;
    assert_eq!(story.apply(Event::Tick), [""; 0], "what they said meanwhile is on its way, and no microbatch is late");
    assert_eq!(story.pass(2_500, &["w1"])[0], "kill w1", "who is silent from then on is lost as always");
}

#[test]
fn a_dismissed_worker_leaves_at_the_boundary_and_nothing_is_computed_again() {
    let mut story = reducing();
    assert_eq!(story.apply(Event::Dismiss("w1".to_owned())), [""; 0]);
    story.ready("w0", 1);
    story.ready("w1", 1);
    let said = story.durable();
    assert_eq!(said[..4], ["w0: commit 1", "w1: commit 1", "w1: leave 75", "w0: plan 2/0"]);
}

#[test]
fn the_reason_of_a_wait_is_said_and_since_when() {
    let mut story = Story::new(Setup { min_workers: 2, ..setup() });
    story.join("w0");
    let since = story.now_ms;
    story.pass(14_000, &[]);
    let why = reason::why(&story.core);
    assert_eq!(why.waiting_for, "a second worker, because run.min_workers = 2");
    assert_eq!(why.since_ms, since);
    (1..=5).for_each(|index| drop(story.join(&format!("w{index}"))));
    assert!(reason::warnings(&story.core)[0].starts_with("6 workers share 4 microbatches a step"));
}

fn not_finite(step: u64, microbatch: u32) -> Done {
    Done { statistics: Statistics { magnitudes: vec![NOT_FINITE], ..Statistics::default() }, ..done(step, microbatch) }
}

#[test]
fn a_gradient_that_is_not_finite_stops_an_fp32_run_and_names_its_samples() {
    let mut story = Story::new(setup());
    story.join("w0");
    (0..3).for_each(|k| drop(story.done("w0", 1, k)));
    let said = story.done_as("w0", not_finite(1, 3));
    let sample = &setup().schedule.samples()[setup().schedule.microbatches(1)[3][0] as usize].id.clone();
    let expected = format!("microbatch 3 (samples {sample}; computed by w0)");
    assert!(said.last().unwrap().contains(&expected), "{said:?}");
}

#[test]
fn a_device_that_alone_finds_no_finite_number_is_named_instead_of_the_sample() {
    let mut story = Story::new(setup());
    story.join_all(&["w0", "w1", "w2"]);
    story.done("w0", 1, 0);
    story.done_as("w1", not_finite(1, 1));
    story.done("w2", 1, 2);
    let said = story.done("w0", 1, 3);
    assert_eq!(said, ["w0: keep 3", "w0: lease 1"], "somebody else computes it too");
    assert_eq!(story.done("w0", 1, 1), ["w0: drop 1", "w2: lease 1"]);
    let said = story.done("w2", 1, 1);
    assert!(said.last().unwrap().contains("the arithmetic of worker w1 is wrong"), "{said:?}");
}

#[test]
fn fp16_halves_the_scale_for_the_same_samples_down_to_its_floor() {
    let mut story = Story::new(Setup { scale_log2: 12, ..setup() });
    story.join("w0");
    for scale in (0..12).rev() {
        (0..3).for_each(|k| drop(story.done("w0", 1, k)));
        let attempt = 12 - scale;
        let said = story.done_as("w0", not_finite(1, 3));
        assert_eq!(said[1], format!("append retry 1/{attempt} scale {scale}"));
        assert_eq!(story.durable()[0], format!("w0: plan 1/{attempt}"), "the step stays, the attempt is new");
    }
    (0..3).for_each(|k| drop(story.done("w0", 1, k)));
    assert!(story.done_as("w0", not_finite(1, 3)).last().unwrap().contains("microbatch 3 (samples"));
}

#[test]
fn a_sum_that_is_not_what_was_kept_is_named() {
    let mut story = reducing();
    story.ready("w0", 1);
    let mut ready = story.shadow("w1", 1);
    ready.own_digest += 1;
    let said = story.say("w1", Report::Ready(ready));
    assert!(said.last().unwrap().ends_with("workers involved: w1"), "{said:?}");
}

#[test]
fn of_two_that_make_different_states_the_one_whose_memory_changed_is_named() {
    let differing = || {
        let mut story = reducing();
        story.ready("w0", 1);
        let ready = Ready { state: story::state(9), ..story.shadow("w1", 1) };
        assert_eq!(story.say("w1", Report::Ready(ready)), ["w0: recheck", "w1: recheck"]);
        story
    };
    let held = |step| Report::Rechecked(Held { step: 0, state: story::state(step) });
    let mut story = differing();
    assert_eq!(story.say("w0", held(0)), [""; 0]);
    let said = story.say("w1", held(7));
    assert!(
        said.last().unwrap().ends_with("the state of step 0 has changed in a worker's memory; workers involved: w1"),
        "{said:?}"
    );
    let mut story = differing();
    story.say("w0", held(0));
    let said = story.cut("w1");
    assert!(said.last().unwrap().contains("w0 (") && said.last().unwrap().contains("w1 ("), "never a commit: {said:?}");
}

#[test]
fn who_sends_another_state_for_a_checkpoint_than_the_committed_one_is_named() {
    let mut story = Story::with_step_one(setup(), &["w0"]);
    let said = story.apply(Event::CheckpointWrong { step: 1, worker: "w0".to_owned(), state: story::state(9) });
    assert!(said.last().unwrap().ends_with("is not the committed one; workers involved: w0"), "{said:?}");
}

#[test]
fn without_a_third_worker_both_are_named_after_a_while() {
    let mut story = Story::new(Setup { second_computation: 1, ..setup() });
    story.join_all(&["w0", "w1"]);
    story.done("w0", 1, 0);
    story.done("w1", 1, 1);
    assert_eq!(story.done("w0", 1, 2), ["w0: keep 2", "w0: lease 1"]);
    assert_eq!(story.done("w1", 1, 3), ["w1: keep 3", "w1: lease 0"]);
    let wrong = Done { digest: 7, ..done(1, 1) };
    let said = story.done_as("w0", wrong);
    assert_eq!(said[..2], ["w0: drop 1", "recruit"], "a third worker is to decide");
    for (worker, microbatch) in [("w1", 0), ("w1", 2), ("w0", 3)] {
        story.done(worker, 1, microbatch);
    }
    let limit = setup().limits().arbiter_ms;
    let said = story.pass(limit + 500, &[]);
    let stopped = said.iter().find(|word| word.starts_with("stopped"));
    let Some(stopped) = stopped else { panic!("{said:?} {:?}", reason::why(&story.core)) };
    assert!(stopped.contains("w1 and w0 find different results") && stopped.contains("both"), "{stopped}");
}
