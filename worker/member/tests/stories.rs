//! A worker against a coordinator that a test plays, over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fake;

use std::time::Duration;

use fake::*;
use polya_proto::v1::coordinator_message::Body as Order;
use polya_proto::v1::evaluation_done::Result as Scored;
use polya_proto::v1::worker_message::Body as Message;
use polya_proto::v1::*;

/// One step of a fleet: each seat computes its microbatches, all reduce, all agree. Gives S_t.
async fn step(seats: &mut [(&str, &mut Seat)], number: u64, group: (u64, u64), shares: &[&[u32]]) -> Vec<u8> {
    let mut parts = Vec::new();
    for ((name, seat), share) in seats.iter_mut().zip(shares) {
        seat.send(plan(group.0, number)).await;
        parts.push((*name, seat.compute(number, share).await));
    }
    let rows: Vec<(&str, &[Done])> = parts.iter().map(|(name, all)| (*name, &all[..])).collect();
    let table = table(&rows);
    let world_size = seats.len() as u32;
    for (rank, (_, seat)) in (0..).zip(seats.iter_mut()) {
        seat.send(reduce(group, number, rank, world_size, &table)).await;
    }
    let mut states = Vec::new();
    for (_, seat) in seats.iter_mut() {
        let ready = seat.ready().await;
        assert_eq!(ready.sum_digest, digest(&table));
        assert!(ready.table.is_empty(), "who made the table knows it");
        states.push(ready.state_digest);
    }
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]));
    for (_, seat) in seats.iter_mut() {
        seat.send(commit(group.0, number, &states[0])).await;
        assert_eq!(seat.idle().await, Idle { step: number, state_digest: states[0].clone() });
    }
    states.swap_remove(0)
}

/// Three steps with one worker: the states that every other fleet must reach.
async fn reference() -> Vec<Vec<u8>> {
    let mut fake = Fake::start().await;
    let worker = fake.worker("w0");
    let mut seat = fake.seat().await;
    let mut states = vec![seat.welcome(1).await.state_digest];
    for number in 1..=3 {
        states.push(step(&mut [("w0", &mut seat)], number, (1, number), &[&[0, 1, 2, 3]]).await);
    }
    seat.send(Order::Leave(Leave { reason: "the run is finished".to_owned(), exit_code: 0 })).await;
    assert_eq!(worker.outcome().await.exit_code, 0);
    states
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_reach_the_states_that_one_reaches() {
    let expected = reference().await;
    let mut fake = Fake::start().await;
    let first = fake.worker("w0");
    let mut a = fake.seat().await;
    assert_eq!((a.hello.worker.as_str(), a.hello.incarnation), ("w0", 1));
    assert_eq!(a.hello.host, "127.0.0.1");
    assert!(a.hello.idle.is_none());
    let _second = fake.worker("w1");
    let mut b = fake.seat().await;
    assert_eq!(a.welcome(1).await.state_digest, expected[0]);
    assert_eq!(b.welcome(1).await.state_digest, expected[0]);
    let shares: [[&[u32]; 2]; 3] = [[&[0, 1], &[2, 3]], [&[3], &[1, 0, 2]], [&[0, 1, 2, 3], &[]]];
    for (number, shares) in (1..).zip(shares) {
        let state = step(&mut [("w0", &mut a), ("w1", &mut b)], number, (1, number), &shares).await;
        assert_eq!(state, expected[number as usize], "step {number}");
    }
    a.send(Order::Leave(Leave { reason: "dismissed".to_owned(), exit_code: 75 })).await;
    assert_eq!(first.outcome().await.exit_code, 75);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_kept_comes_into_the_sum() {
    let expected = reference().await;
    let mut fake = Fake::start().await;
    let _worker = fake.worker("w0");
    let mut seat = fake.seat().await;
    seat.welcome(1).await;
    seat.send(plan(1, 1)).await;
    seat.send(lease(1, 2)).await;
    let dropped = seat.done().await;
    seat.send(Order::Drop(Drop { step: 1, attempt: 0, microbatch: 2 })).await;
    let kept = seat.compute(1, &[0, 1, 2, 3]).await;
    assert_eq!(kept[2], dropped, "a gradient depends on state and samples alone");
    let table = table(&[("w0", &kept)]);
    seat.send(reduce((1, 1), 1, 0, 1, &table)).await;
    assert_eq!(seat.ready().await.state_digest, expected[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_lost_in_the_reduce_leaves_the_digest_unchanged() {
    let expected = reference().await;
    let mut fake = Fake::start().await;
    let _survivor = fake.worker("w0");
    let mut a = fake.seat().await;
    let mut lost = fake.worker("w1");
    let mut b = fake.seat().await;
    a.welcome(1).await;
    b.welcome(1).await;
    a.send(plan(1, 1)).await;
    b.send(plan(1, 1)).await;
    let mut mine = a.compute(1, &[0, 3]).await;
    let theirs = b.compute(1, &[1, 2]).await;
    let both = table(&[("w0", &mine), ("w1", &theirs)]);
    a.send(reduce((1, 1), 1, 0, 2, &both)).await;
    lost.shut_down("SIGTERM");
    assert_eq!(b.hear().await, Some(Message::Left(Left { reason: "SIGTERM".to_owned() })));
    assert_eq!(b.hear().await, None);
    assert_eq!(lost.outcome().await.exit_code, 75);
    a.send(Order::Abort(Abort { group: Some(Group { epoch: 1, generation: 1 }) })).await;
    assert_eq!(a.broken().await.group, Some(Group { epoch: 1, generation: 1 }));
    mine.extend(a.compute(1, &[1, 2]).await);
    a.send(reduce((1, 2), 1, 0, 1, &table(&[("w0", &mine)]))).await;
    assert_eq!(a.ready().await.state_digest, expected[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_outlives_the_coordinator_and_is_committed_by_the_next() {
    let expected = reference().await;
    let mut fake = Fake::start().await;
    let _worker = fake.worker("w0");
    let mut seat = fake.seat().await;
    seat.welcome(1).await;
    seat.send(plan(1, 1)).await;
    let kept = seat.compute(1, &[0, 1, 2, 3]).await;
    let table = table(&[("w0", &kept)]);
    seat.send(reduce((1, 1), 1, 0, 1, &table)).await;
    let ready = seat.ready().await;
    let first = seat.hello.incarnation;
    let address = fake.address.clone();
    fake.stop();
    drop(seat);
    drop(fake);
    let mut fake = restarted(&address).await;
    let mut seat = fake.seat().await;
    assert_eq!(seat.hello.ready, Some(Ready { table, ..ready }), "with the table, which the old coordinator knew");
    assert_eq!(seat.hello.kept, kept);
    assert_eq!((seat.hello.step, seat.hello.plan_hash.clone()), (1, vec![1; 32]));
    assert!(seat.hello.incarnation > first, "another stream of the same life");
    seat.send(welcome(2)).await;
    seat.send(commit(2, 1, &expected[1])).await;
    assert_eq!(seat.idle().await.state_digest, expected[1]);
    assert_eq!(step(&mut [("w0", &mut seat)], 2, (2, 1), &[&[0, 1, 2, 3]]).await, expected[2]);
}

/// A coordinator on an address that another one has just left.
async fn restarted(address: &str) -> Fake {
    let free = async {
        while tokio::net::TcpListener::bind(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, free).await.expect("the address is free in time");
    Fake::start_at(address, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sum_outlives_the_stream_but_not_a_fence() {
    let mut fake = Fake::start().await;
    let _worker = fake.worker("w0");
    let mut seat = fake.seat().await;
    let start = seat.welcome(1).await;
    seat.send(plan(1, 1)).await;
    let kept = seat.compute(1, &[0, 1]).await;
    seat.send(lease(1, 2)).await;
    seat.done().await;
    drop(seat);
    let seat = fake.seat().await;
    assert_eq!(seat.hello.kept, kept, "what was done and not kept is not presented");
    seat.send(welcome(1)).await;
    seat.send(Order::Fence(Fence { reason: "too late".to_owned(), incarnation: 0 })).await;
    let fenced = seat.hello.incarnation;
    let mut seat = fake.seat().await;
    assert!(seat.hello.incarnation > fenced);
    assert_eq!(seat.hello.idle, Some(start), "the model stays");
    assert!(seat.hello.kept.is_empty());
    seat.send(welcome(1)).await;
    assert_eq!(step(&mut [("w0", &mut seat)], 1, (1, 1), &[&[0, 1, 2, 3]]).await, reference().await[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_copies_the_state_and_a_wrong_one_ends_it() {
    let mut fake = Fake::start().await;
    let _holder = fake.worker("w0");
    let mut a = fake.seat().await;
    a.welcome(1).await;
    let state = step(&mut [("w0", &mut a)], 1, (1, 1), &[&[0, 1, 2, 3]]).await;
    let fetch = |step, state_digest: &[u8]| {
        let peer_address = a.hello.peer_address.clone();
        Order::Fetch(Fetch { step, state_digest: state_digest.to_vec(), peer_address })
    };
    let joiner = fake.worker("w1");
    let mut b = fake.seat().await;
    let start = b.welcome(1).await;
    b.send(fetch(1, &state)).await;
    assert_eq!(b.idle().await, Idle { step: 1, state_digest: state.clone() });
    b.send(fetch(7, &state)).await;
    assert_eq!(b.hear().await, None, "nobody has step 7: come again and say what is here");
    let mut b = fake.seat().await;
    assert_eq!(b.hello.idle, Some(Idle { step: 1, state_digest: state.clone() }));
    b.send(welcome(1)).await;
    b.send(fetch(1, &start.state_digest)).await;
    assert_eq!(b.hear().await, None);
    let outcome = joiner.outcome().await;
    assert_eq!(outcome.exit_code, 1);
    assert!(outcome.reason.contains("state of step 1 has digest") && outcome.reason.contains(&a.hello.peer_address));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_saved_and_loaded_again() {
    let mut fake = Fake::start().await;
    let _first = fake.worker("w0");
    let mut a = fake.seat().await;
    a.welcome(1).await;
    let state = step(&mut [("w0", &mut a)], 1, (1, 1), &[&[0, 1, 2, 3]]).await;
    a.send(Order::Save(Save { step: 1 })).await;
    let chunks = tokio::time::timeout(PATIENCE, fake.uploads.recv()).await.unwrap().unwrap();
    assert!(chunks.iter().all(|chunk| chunk.worker == "w0" && chunk.step == 1));
    assert!(chunks.last().unwrap().last);
    let files = chunks.into_iter().map(|chunk| (chunk.file, chunk.data)).collect();
    *fake.checkpoint.lock().unwrap() = Some(chunk(1, files));
    let _second = fake.worker("w1");
    let mut b = fake.seat().await;
    b.welcome(1).await;
    b.send(Order::Load(Load { step: 1, state_digest: state.clone() })).await;
    assert_eq!(b.idle().await, Idle { step: 1, state_digest: state });
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluation_answers_with_its_unit() {
    let mut fake = Fake::start().await;
    let _worker = fake.worker("w0");
    let mut seat = fake.seat().await;
    seat.welcome(1).await;
    let work = GenerateWork { prompts: vec![Prompt { ids: vec![1, 2] }], max_tokens: 8, batch: 1 };
    let work = Some(evaluate::Work::Generate(work));
    seat.send(Order::Evaluate(Evaluate { unit: 6, step: 0, adapters: true, work })).await;
    let Some(Message::EvaluationDone(done)) = seat.hear().await else { panic!("no result") };
    let Some(Scored::Generated(generated)) = done.result else { panic!("{done:?}") };
    assert_eq!((done.unit, generated.continuations.len()), (6, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_coordinator_leaves_after_its_park_limit() {
    let fake = Fake::start().await;
    let mut options = fake.options("w0");
    options.coordinator = "127.0.0.1:1".to_owned();
    options.park_limit = Some(Duration::from_millis(120));
    let outcome = Worker::start(options).outcome().await;
    assert_eq!(outcome.exit_code, 75);
    assert!(outcome.reason.contains("127.0.0.1:1"), "{}", outcome.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_join_token_opens_the_door() {
    let mut fake = Fake::start_at("127.0.0.1:0", Some("open sesame")).await;
    let mut options = fake.options("w0");
    options.token = Some("open barley".to_owned());
    let outcome = Worker::start(options.clone()).outcome().await;
    assert_eq!(outcome.exit_code, 78);
    assert!(!outcome.reason.contains("barley"), "{}", outcome.reason);
    options.token = Some("open sesame".to_owned());
    let _worker = Worker::start(options);
    fake.seat().await.welcome(1).await;
}
