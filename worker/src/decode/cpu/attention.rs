//! Attention of one token to what its row holds.

use std::cell::RefCell;

use super::cache::{CachedRow, TOKENS};
use crate::cpu::vector::exp;
use crate::ffi::instructions::vectorised;
use crate::ffi::lanes::{Lanes, ROWS, Stored, multiply_add};

/// Attends from `queries` `[queries, width]` (turned and scaled), which share one head of keys and values, to the row's
/// first `seen` tokens; writes `[queries, width]`.
pub(super) fn attend(row: &CachedRow, (layer, head): (usize, usize), seen: usize, queries: &[f32], out: &mut [f32]) {
    let few = ROWS * row.width();
    ROOM.with_borrow_mut(|room| {
        for (queries, out) in queries.chunks(few).zip(out.chunks_mut(few)) {
            room.attend(row, (layer, head), seen, queries, out);
        }
    });
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// What is between the queries and what they attend to.
#[derive(Default)]
struct Room {
    queries: Vec<Lanes>,
    scores: Vec<Lanes>,
    attended: Vec<Lanes>,
}

impl Room {
    fn attend(
        &mut self,
        row: &CachedRow,
        (layer, head): (usize, usize),
        seen: usize,
        queries: &[f32],
        out: &mut [f32],
    ) {
        let width = row.width();
        let (group, parts, blocks) = (queries.len() / width, width.div_ceil(16), seen.div_ceil(TOKENS));
        // `[width / 16, group]`, the form that vectors of tokens are multiplied by.
        let arranged = zeros(&mut self.queries, parts * group);
        for (query, channels) in queries.chunks_exact(width).enumerate() {
            for (part, channels) in channels.chunks(16).enumerate() {
                arranged[part * group + query] = Lanes::of(channels);
            }
        }
        let scores = zeros(&mut self.scores, blocks * group);
        for (block, scores) in scores.chunks_exact_mut(group).enumerate() {
            multiply_add(arranged, Stored::Full(row.keys(block, layer, head)), scores);
        }
        let sums = softmax(scores, group, seen);
        let attended = zeros(&mut self.attended, parts * group);
        for (block, shares) in scores.chunks_exact(group).enumerate() {
            for (part, attended) in attended.chunks_exact_mut(group).enumerate() {
                multiply_add(shares, Stored::Full(row.values(block, layer, head, part)), attended);
            }
        }
        for (part, attended) in attended.chunks_exact(group).enumerate() {
            for ((attended, sum), out) in attended.iter().zip(&sums).zip(out.chunks_exact_mut(width)) {
                for (out, value) in out[part * 16..].iter_mut().zip(attended.0) {
                    *out = value / sum;
                }
            }
        }
    }
}

fn zeros(room: &mut Vec<Lanes>, count: usize) -> &mut [Lanes] {
    room.clear();
    room.resize(count, Lanes::ZERO);
    room
}

/// Exponentials of `[blocks, group]` scores less their maximum, 0 from token `seen` on; gives each query's sum.
fn softmax(scores: &mut [Lanes], group: usize, seen: usize) -> Vec<f32> {
    let (last, unseen) = (scores.len() - group, (seen - 1) % TOKENS + 1);
    for vector in &mut scores[last..] {
        vector.0[unseen..].fill(f32::NEG_INFINITY);
    }
    let mut sums = vec![0.0; group];
    exponentials(scores, &mut sums, unseen);
    sums
}

vectorised! {
    /// Of each query's scores, whose last vector has tokens up to `unseen`; adds them up.
    fn exponentials(scores: &mut [Lanes], sums: &mut [f32], unseen: usize) {
        let group = sums.len();
        let last = scores.len() - group;
        for (query, sum) in sums.iter_mut().enumerate() {
            let mut largest = [f32::NEG_INFINITY; 16];
            for vector in scores[query..].iter().step_by(group) {
                largest.iter_mut().zip(vector.0).for_each(|(largest, x)| *largest = if x > *largest { x } else { *largest });
            }
            let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
            let mut total = [0f32; 16];
            for (block, vector) in scores[query..].iter_mut().step_by(group).enumerate() {
                vector.0.iter_mut().for_each(|x| *x = exp(*x - largest));
                if block * group == last {
                    vector.0[unseen..].fill(0.0);
                }
                total.iter_mut().zip(vector.0).for_each(|(total, x)| *total += x);
            }
            *sum = total.iter().sum();
        }
    }
}
