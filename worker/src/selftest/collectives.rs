//! Sums over workers: real Gloo between threads of this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use polya_proto::v1::Group;
use worker_member::trainer::Membership;

use super::{Comparison, Subject};
use crate::collectives::{Aborts, Backend, LocalRendezvous, all_reduce_i32};
use crate::step::exact_sum;

/// Words of the all-reduce: 4 MB.
const WORDS: usize = 1 << 20;

/// Sums the ranks' words; gives what each of them got.
fn reduce(ranks: Vec<Vec<i32>>) -> Result<Vec<Vec<i32>>> {
    let (store, world_size) = (Arc::new(LocalRendezvous::default()), ranks.len() as u32);
    let run = |(rank, words): (u32, Vec<i32>)| {
        let store = store.clone();
        std::thread::spawn(move || {
            let group = Group { epoch: 1, generation: 1 };
            let membership = Membership { group, rank, world_size, host: "127.0.0.1".to_owned() };
            let patience = Duration::from_secs(20);
            all_reduce_i32(&Backend::Gloo, words, &membership, store, &Aborts::default(), patience)
        })
    };
    let threads: Vec<_> = (0..).zip(ranks).map(run).collect();
    let join = |thread: std::thread::JoinHandle<Result<Vec<i32>, _>>| -> Result<Vec<i32>> {
        Ok(thread.join().ok().context("a rank's thread panicked")??)
    };
    threads.into_iter().map(join).collect()
}

fn integers(words: &[i32]) -> impl Iterator<Item = f64> {
    words.iter().map(|word| f64::from(*word))
}

pub(super) fn all_reduce(_: &Subject) -> Result<Comparison> {
    let words =
        |rank: usize| (0..WORDS as i32).map(|index| index.wrapping_mul(7919).wrapping_add(rank as i32)).collect();
    let ranks: Vec<Vec<i32>> = (0..3).map(words).collect();
    let mut sum = vec![0i32; WORDS];
    ranks.iter().for_each(|words| exact_sum::add(&mut sum, words));
    let started = Instant::now();
    let found = reduce(ranks)?;
    let detail = format!("4 MB in {:.0} ms, connecting included", started.elapsed().as_secs_f64() * 1e3);
    let found: Vec<f64> = found.iter().flat_map(|words| integers(words)).collect();
    let expected = (0..3).flat_map(|_| integers(&sum)).collect();
    Ok(Comparison { found, expected, tolerance: 0.0, detail })
}

/// Microbatches' gradients as integers: on one worker in order, and on two, each its own half in another order. The sum's
/// linear digest must be the sum of the parts' digests, too.
pub(super) fn exact_sum(subject: &Subject) -> Result<Comparison> {
    const BITS: u32 = 27;
    let mut parts = vec![];
    for sample in &subject.samples {
        let (gradient, _) = subject.gradient(std::slice::from_ref(sample), 0.05, false)?;
        let mut words = vec![0; gradient.len()];
        for slot in &subject.layout.slots {
            let values = &gradient[slot.range.clone()];
            let exponent = BITS as i32 - 3 - exact_sum::magnitude(values).max(-100);
            exact_sum::quantise(values, exponent, BITS, &mut words[slot.range.clone()]);
        }
        parts.push(words);
    }
    let sum = |indices: &[usize]| {
        let mut sum = vec![0; parts[0].len()];
        indices.iter().for_each(|index| exact_sum::add(&mut sum, &parts[*index]));
        sum
    };
    let alone = sum(&[0, 1, 2, 3, 4]);
    let together = reduce(vec![sum(&[4, 0]), sum(&[3, 1, 2])])?;
    let digests = parts.iter().fold(0u64, |digest, words| digest.wrapping_add(exact_sum::digest(5, words)));
    let halves = |digest: u64| [f64::from((digest >> 32) as u32), f64::from(digest as u32)];
    let found = together.iter().flat_map(|words| integers(words).chain(halves(exact_sum::digest(5, words)))).collect();
    let expected = (0..2).flat_map(|_| integers(&alone).chain(halves(digests))).collect();
    let detail = format!("{} microbatches, {} words", parts.len(), alone.len());
    Ok(Comparison { found, expected, tolerance: 0.0, detail })
}
