//! Orders in, effects out: one story a rule.

use polya_proto::v1::{Abort, Commit, Done, Drop, Keep, Lease, Leave, OwnedMicrobatch, Plan, Reduce, Refuse};

use super::*;
use crate::trainer::Shadow;

const STATE: [[u8; 32]; 4] = [[10; 32], [11; 32], [12; 32], [13; 32]];

/// A machine and a short notation for what it does.
struct Story {
    machine: Machine,
}

impl Story {
    fn new() -> Story {
        let identity = Identity { worker: "w0".to_owned(), incarnation: 5, ..Identity::default() };
        let mut story = Story { machine: Machine::new(identity) };
        assert_eq!(story.order(welcome(1)), ["job loading the base"]);
        story
    }

    /// IDLE(0).
    fn idle() -> Story {
        let mut story = Story::new();
        assert_eq!(
            story.order(Order::Load(Load { step: 0, state_digest: vec![] })),
            ["job making the state of step 0"]
        );
        assert_eq!(story.loaded(0), ["idle 0"]);
        story
    }

    /// WORK(1, 0) with microbatches 0 and 2 in the sum.
    fn working() -> Story {
        let mut story = Story::idle();
        assert_eq!(story.order(plan(1, 0)), ["job clearing the sum"]);
        for k in [0, 2] {
            assert_eq!(story.order(lease(1, 0, k)), ["job computing a microbatch"]);
            assert_eq!(story.computed(1, 0, k), [format!("done {k}")]);
            assert_eq!(story.order(keep(1, 0, k)), ["job adding to the sum"]);
        }
        story
    }

    fn ready() -> Story {
        let mut story = Story::working();
        assert_eq!(story.order(reduce(1)), ["job reducing"]);
        assert_eq!(story.reduced(1, Ok(())), ["ready 1/0"]);
        story
    }

    fn order(&mut self, order: Order) -> Vec<String> {
        words(self.machine.order(order))
    }

    fn loaded(&mut self, step: u64) -> Vec<String> {
        let report =
            Report::Loaded { step, digest: STATE[step as usize], expected: vec![], source: "a test".to_owned() };
        words(self.machine.trained(report))
    }

    fn computed(&mut self, step: u64, attempt: u32, k: u32) -> Vec<String> {
        let work = self.machine.computing.as_ref().map(|computing| computing.work).unwrap();
        words(self.machine.trained(Report::Computed { work, done: done(step, attempt, k) }))
    }

    fn reduced(&mut self, generation: u64, result: Result<(), &str>) -> Vec<String> {
        let group = Group { epoch: 1, generation };
        let shadow = Shadow { sum_digest: 102, state_digest: STATE[1], gradient_norm: 1.0, own_digest: 102 };
        let broken = |reason: &str| TrainerError::Broken { group, reason: reason.to_owned() };
        words(self.machine.trained(Report::Reduced { group, result: result.map(|()| shadow).map_err(broken) }))
    }

    fn lost(&mut self) -> Vec<String> {
        words(self.machine.link_lost())
    }
}

fn words(effects: Vec<Effect>) -> Vec<String> {
    effects.into_iter().map(word).collect()
}

fn word(effect: Effect) -> String {
    match effect {
        Effect::Send(Message::Idle(idle)) => format!("idle {}", idle.step),
        Effect::Send(Message::Class(class)) => format!("class {}", class.words),
        Effect::Send(Message::Done(done)) => format!("done {}", done.microbatch),
        Effect::Send(Message::Ready(ready)) => format!("ready {}/{}", ready.step, ready.attempt),
        Effect::Send(Message::Broken(broken)) => format!("broken {}", broken.group.unwrap().generation),
        Effect::Send(Message::Failed(failed)) => format!("failed: {}", failed.culprit),
        Effect::Send(message) => format!("{message:?}"),
        Effect::Job(job) => format!("job {}", job.name()),
        Effect::Abort(group) => format!("abort {}", group.generation),
        Effect::Download { step, source, .. } => format!("download {step} from {}", source.name()),
        Effect::Upload { step, .. } => format!("upload {step}"),
        Effect::Reconnect { .. } => "reconnect".to_owned(),
        Effect::Exit(outcome) => format!("exit {}", outcome.exit_code),
    }
}

fn welcome(epoch: u64) -> Order {
    Order::Welcome(Welcome { coordinator_epoch: epoch, settings: Some(Settings::default()), ..Welcome::default() })
}

fn plan(step: u64, attempt: u32) -> Order {
    Order::Plan(Plan { coordinator_epoch: 1, step, attempt, hash: vec![attempt as u8; 32], ..Plan::default() })
}

fn lease(step: u64, attempt: u32, microbatch: u32) -> Order {
    Order::Lease(Lease { step, attempt, microbatch, ..Lease::default() })
}

fn keep(step: u64, attempt: u32, microbatch: u32) -> Order {
    Order::Keep(Keep { step, attempt, microbatch })
}

fn done(step: u64, attempt: u32, microbatch: u32) -> Done {
    Done { step, attempt, microbatch, digest: 50 + u64::from(microbatch), ..Done::default() }
}

fn reduce(generation: u64) -> Order {
    let row = |microbatch: u32, worker: &str| OwnedMicrobatch {
        microbatch,
        worker: worker.to_owned(),
        digest: 50 + u64::from(microbatch),
        statistics: None,
        second_worker: String::new(),
    };
    let group = Some(Group { epoch: 1, generation });
    let table = vec![row(0, "w0"), row(1, "w1"), row(2, "w0")];
    Order::Reduce(Reduce { group, step: 1, attempt: 0, rank: 0, world_size: 2, table })
}

fn commit(step: u64) -> Order {
    let state_digest = STATE[step as usize].to_vec();
    Order::Commit(Commit { coordinator_epoch: 1, step, state_digest })
}

fn fetch(step: u64) -> Order {
    let state_digest = STATE[step as usize].to_vec();
    Order::Fetch(Fetch { step, state_digest, peer_address: "peer:1".to_owned() })
}

#[test]
fn the_class_is_said_once_it_is_known_and_with_every_hello_after() {
    struct Nothing;
    impl crate::trainer::AbortHandle for Nothing {
        fn abort(&self, _: &Group) {}
    }
    let mut story = Story::new();
    assert!(story.machine.hello().class.is_none());
    let class = Class { digest: vec![1; 32], words: "integers".to_owned() };
    let report = Report::Built(std::sync::Arc::new(Nothing), class.clone());
    assert_eq!(words(story.machine.trained(report)), ["class integers"]);
    assert_eq!(story.machine.hello().class, Some(class));
}

#[test]
fn a_step_from_plan_to_flip() {
    let mut story = Story::ready();
    assert_eq!(story.order(commit(1)), ["job flip"]);
    let now = Idle { step: 1, state_digest: STATE[1].to_vec() };
    assert_eq!(words(story.machine.trained(Report::Flipped(now))), ["idle 1"]);
    assert_eq!(story.order(commit(1)), ["idle 1"], "a Commit that comes twice changes nothing");
    assert_eq!(story.order(plan(2, 0)), ["job clearing the sum"]);
    assert!(story.machine.hello().kept.is_empty());
}

#[test]
fn leases_wait_in_line_and_can_be_withdrawn() {
    let mut story = Story::idle();
    story.order(plan(1, 0));
    assert_eq!(story.order(lease(1, 0, 0)), ["job computing a microbatch"]);
    assert_eq!(story.order(lease(1, 0, 1)), [""; 0]);
    assert_eq!(story.order(lease(1, 0, 2)), [""; 0]);
    assert_eq!(story.order(Order::Drop(Drop { step: 1, attempt: 0, microbatch: 1 })), [""; 0]);
    assert_eq!(story.computed(1, 0, 0), ["done 0", "job computing a microbatch"], "2 is next, 1 was withdrawn");
    assert_eq!(story.order(Order::Drop(Drop { step: 1, attempt: 0, microbatch: 0 })), ["job dropping a microbatch"]);
    assert_eq!(story.order(Order::Drop(Drop { step: 1, attempt: 0, microbatch: 2 })), [""; 0]);
    assert_eq!(story.computed(1, 0, 2), ["job dropping a microbatch"], "withdrawn while it was computed");
    assert!(story.machine.hello().kept.is_empty(), "R1: only Keep adds");
}

#[test]
fn r1_a_keep_of_what_is_not_here_is_no_sum() {
    let mut story = Story::working();
    assert_eq!(story.order(keep(1, 0, 1)), ["reconnect"]);
    assert_eq!(story.order(keep(1, 7, 1)), [""; 0], "of an attempt that is over");
}

#[test]
fn r4_ready_survives_everything_but_its_four_ends() {
    let mut story = Story::ready();
    let presented = story.machine.hello();
    assert_eq!(presented.ready.as_ref().unwrap().table.len(), 3);
    assert_eq!((presented.step, presented.kept.len(), presented.plan_hash.len()), (1, 2, 32));
    assert_eq!(story.order(Order::Abort(Abort { group: Some(Group { epoch: 1, generation: 1 }) })), ["abort 1"]);
    assert_eq!(story.lost(), [""; 0]);
    assert_eq!(story.order(welcome(2)), [""; 0], "another coordinator, the same run");
    assert_eq!(story.order(fetch(0)), ["reconnect"], "an older state");
    story.lost();
    assert_eq!(story.order(plan(1, 0)), ["reconnect"], "the same attempt");
    assert_eq!(story.order(reduce(2)), ["reconnect"], "a new group");
    let incarnation = presented.incarnation + 2; // two streams were lost
    assert_eq!(story.machine.hello(), Hello { incarnation, ..presented });
    let again = Order::Commit(Commit { coordinator_epoch: 2, step: 1, state_digest: STATE[1].to_vec() });
    assert_eq!(story.order(again), ["job flip"]);
}

#[test]
fn r4_a_newer_attempt_or_state_ends_ready() {
    let mut story = Story::ready();
    assert_eq!(story.order(plan(1, 1)), ["job clearing the sum"]);
    assert!(story.machine.hello().ready.is_none());
    let mut story = Story::ready();
    assert_eq!(story.order(fetch(1)), ["download 1 from the worker at peer:1"]);
    assert!(story.machine.hello().ready.is_some(), "until the other state is here");
    assert_eq!(words(story.machine.downloaded(99, Ok(vec![]))), [""; 0], "not the ticket");
    let ticket = story.machine.fetching.as_ref().unwrap().0;
    assert_eq!(words(story.machine.downloaded(ticket, Ok(vec![]))), ["job loading a state"]);
    assert!(story.machine.hello().ready.is_none());
    assert_eq!(story.loaded(1), ["idle 1"]);
}

#[test]
fn r4_another_commit_than_ready_ends_the_process() {
    let mut story = Story::ready();
    let other = Order::Commit(Commit { coordinator_epoch: 1, step: 1, state_digest: STATE[2].to_vec() });
    assert_eq!(story.order(other), ["exit 1"]);
}

#[test]
fn r5_a_broken_group_keeps_the_sum() {
    let mut story = Story::working();
    let before = story.machine.hello();
    assert_eq!(story.order(reduce(1)), ["job reducing"]);
    assert!(!story.machine.is_presentable());
    assert_eq!(story.order(Order::Abort(Abort { group: Some(Group { epoch: 1, generation: 1 }) })), ["abort 1"]);
    assert_eq!(story.reduced(1, Err("aborted")), ["broken 1"]);
    assert_eq!(story.machine.hello(), before);
    assert_eq!(story.order(reduce(1)), ["reconnect"], "a group is never used again");
    assert_eq!(story.order(reduce(2)), ["job reducing"]);
    assert_eq!(story.reduced(1, Ok(())), [""; 0], "of the group before");
    assert_eq!(story.reduced(2, Ok(())), ["ready 1/0"]);
}

#[test]
fn r5_an_error_past_the_all_reduce_ends_the_process() {
    let mut story = Story::working();
    story.order(reduce(1));
    let group = Group { epoch: 1, generation: 1 };
    let result = Err(TrainerError::Fatal("the device is gone".to_owned()));
    assert_eq!(words(story.machine.trained(Report::Reduced { group, result })), ["exit 1"]);
}

#[test]
fn r6_the_past_is_refused() {
    let mut story = Story::idle();
    assert_eq!(story.order(welcome(3)), [""; 0]);
    assert_eq!(story.order(welcome(2)), ["reconnect"]);
    assert_eq!(story.order(plan(1, 0)), ["reconnect"], "a plan of epoch 1");
    assert_eq!(story.order(commit(1)), ["reconnect"]);
}

#[test]
fn r8_a_lost_stream_takes_leases_and_unkept_results() {
    let mut story = Story::working();
    story.order(lease(1, 0, 1));
    assert_eq!(story.computed(1, 0, 1), ["done 1"]);
    story.order(lease(1, 0, 3));
    story.order(lease(1, 0, 4));
    assert_eq!(story.lost(), ["job dropping a microbatch"], "1 was done, not kept");
    let kept: Vec<u32> = story.machine.hello().kept.iter().map(|done| done.microbatch).collect();
    assert_eq!(kept, [0, 2]);
    story.order(welcome(1));
    assert_eq!(story.order(lease(1, 0, 3)), [""; 0], "the void one is still being computed");
    assert_eq!(story.computed(1, 0, 3), ["job dropping a microbatch", "job computing a microbatch"]);
    assert_eq!(story.computed(1, 0, 3), ["done 3"]);
}

/// R6. A machine whose clock is behind that of the one whose place it takes.
#[test]
fn a_fence_before_the_first_welcome_only_makes_it_come_again_as_the_newest() {
    let identity = Identity { worker: "w0".to_owned(), incarnation: 5, ..Identity::default() };
    let mut story = Story { machine: Machine::new(identity) };
    let fence = Order::Fence(Fence { reason: "incarnation 5 of w0 is stale".to_owned(), incarnation: 9 });
    assert_eq!(story.order(fence), ["reconnect"]);
    story.lost();
    assert_eq!(story.machine.hello().incarnation, 10);
    assert_eq!(story.order(welcome(1)), ["job loading the base"]);
}

#[test]
fn a_fence_clears_the_sum_and_keeps_the_model() {
    let mut story = Story::working();
    let fence = || Order::Fence(Fence { reason: "too late".to_owned(), incarnation: 9 });
    assert_eq!(story.order(fence()), ["job clearing the sum", "reconnect"]);
    story.machine.link_lost();
    let hello = story.machine.hello();
    assert_eq!((hello.incarnation, hello.step, hello.kept.len()), (10, 0, 0));
    assert_eq!(hello.idle.unwrap().step, 0);
    let mut story = Story::ready();
    assert_eq!(story.order(fence()), ["reconnect"]);
    let hello = story.machine.hello();
    assert!(hello.ready.is_some() && hello.kept.is_empty(), "R4: READY is a value");
}

#[test]
fn a_table_that_is_not_the_sum_is_refused() {
    let mut story = Story::working();
    let Order::Reduce(mut order) = reduce(1) else { return };
    order.table[1].worker = "w0".to_owned();
    assert_eq!(story.order(Order::Reduce(order.clone())), ["reconnect"]);
    order.table[1].worker = "w1".to_owned();
    order.table[2].digest += 1;
    assert_eq!(story.order(Order::Reduce(order)), ["reconnect"]);
}

#[test]
fn a_retry_drops_what_the_old_attempt_still_computes() {
    let mut story = Story::working();
    story.order(lease(1, 0, 1));
    let old = story.machine.computing.as_ref().unwrap().work;
    assert_eq!(story.order(plan(1, 1)), ["job clearing the sum"]);
    assert_eq!(story.order(lease(1, 1, 0)), [""; 0]);
    let report = Report::Computed { work: old, done: done(1, 0, 1) };
    assert_eq!(words(story.machine.trained(report)), ["job computing a microbatch"], "cleared, and the new one begins");
    assert_eq!(story.computed(1, 1, 0), ["done 0"]);
    assert_eq!(story.order(keep(1, 0, 1)), [""; 0]);
}

#[test]
fn states_are_compared_and_a_failed_copy_costs_nothing() {
    let mut story = Story::idle();
    story.order(fetch(2));
    let ticket = story.machine.fetching.as_ref().unwrap().0;
    assert_eq!(words(story.machine.downloaded(ticket, Err("gone".to_owned()))), ["reconnect"]);
    assert_eq!(story.machine.hello().idle.unwrap().step, 0);
    let expected = STATE[2].to_vec();
    let wrong = Report::Loaded { step: 2, digest: STATE[3], expected, source: "the worker at peer:1".to_owned() };
    let effects = story.machine.trained(wrong);
    let Some(Effect::Exit(outcome)) = effects.last() else { panic!("{effects:?}") };
    assert!(outcome.reason.contains("peer:1") && outcome.reason.contains("0d0d"), "{}", outcome.reason);
}

#[test]
fn a_copy_that_was_ordered_before_a_plan_does_not_come_between_it_and_its_work() {
    let mut story = Story::idle();
    story.order(fetch(1));
    let ticket = story.machine.fetching.as_ref().unwrap().0;
    story.order(plan(1, 0));
    assert_eq!(words(story.machine.downloaded(ticket, Ok(vec![]))), [""; 0]);
    assert_eq!(story.machine.hello().step, 1, "the plan stands");
}

#[test]
fn orders_that_end_a_worker() {
    let mut story = Story::new();
    let reason = "other version".to_owned();
    assert_eq!(story.order(Order::Refuse(Refuse { reason: reason.clone(), exit_code: 78 })), ["exit 78"]);
    assert_eq!(story.order(Order::Leave(Leave { reason, exit_code: 0 })), ["exit 0"]);
    let refused =
        Report::Failed { during: "loading the base", error: TrainerError::Refused("no such base".to_owned()) };
    assert_eq!(words(story.machine.trained(refused)), ["failed: loading the base: no such base", "exit 78"]);
    let panicked = Report::Panicked("shape".to_owned());
    assert_eq!(words(story.machine.trained(panicked)), ["exit 101"], "others may go on");
    let exhausted = Report::Failed { during: "reducing", error: TrainerError::Fatal("no memory".to_owned()) };
    assert_eq!(words(story.machine.trained(exhausted)), ["exit 1"], "others may go on");
}

#[test]
fn a_ready_worker_folds_the_state_before_the_step_again() {
    let mut story = Story::ready();
    assert_eq!(story.order(Order::Recheck(polya_proto::v1::Recheck {})), ["job folding the state again"]);
    let found = Idle { step: 0, state_digest: STATE[0].to_vec() };
    let effects = story.machine.trained(Report::Rechecked(found.clone()));
    assert!(matches!(&effects[..], [Effect::Send(Message::Rechecked(said))] if *said == found));
    assert!(story.machine.hello().ready.is_some(), "R4: it stays ready");
}

#[test]
fn save_and_evaluation_need_the_state() {
    let mut story = Story::idle();
    assert_eq!(story.order(Order::Save(Save { step: 1 })), ["reconnect"]);
    assert_eq!(story.order(Order::Save(Save { step: 0 })), ["job saving the state"]);
    let saved = |session| Report::Saved { step: 0, session, files: vec![] };
    assert_eq!(words(story.machine.trained(saved(0))), ["upload 0"]);
    story.lost();
    assert_eq!(words(story.machine.trained(saved(0))), [""; 0], "for a stream that is gone");
    let evaluate = |adapters| Order::Evaluate(Evaluate { unit: 1, step: 3, adapters, work: None });
    assert_eq!(story.order(evaluate(true)), ["reconnect"]);
    assert_eq!(story.order(evaluate(false)), ["job evaluating"], "the bare base is the same at every step");
    assert!(story.machine.may_serve(0).is_ok());
    assert!(story.machine.may_serve(1).unwrap_err().contains("of step 0"));
}
