//! Attention of one token to what its row holds.

use super::cache::{CachedRow, TOKENS};
use crate::cpu::vector::exp;
use crate::ffi::instructions::vectorised;
use crate::ffi::lanes::{Lanes, Stored, multiply_add};

/// Attends from `queries` `[heads, width]` (turned and scaled) to the row's first `seen` tokens; writes `[heads, width]`.
pub(super) fn attend(row: &CachedRow, layer: usize, kv_heads: usize, seen: usize, queries: &[f32], out: &mut [f32]) {
    let heads_out = out.len() / kv_heads;
    for (head, (queries, out)) in queries.chunks_exact(heads_out).zip(out.chunks_exact_mut(heads_out)).enumerate() {
        attend_group(row, (layer, head), seen, queries, out);
    }
}

/// The query heads that share one head of keys and values.
fn attend_group(row: &CachedRow, (layer, head): (usize, usize), seen: usize, queries: &[f32], out: &mut [f32]) {
    let width = row.width();
    let (group, parts, blocks) = (queries.len() / width, width.div_ceil(16), seen.div_ceil(TOKENS));
    // `[width / 16, group]`, the form that vectors of tokens are multiplied by.
    let mut arranged = vec![Lanes::ZERO; parts * group];
    for (query, channels) in queries.chunks_exact(width).enumerate() {
        for (part, channels) in channels.chunks(16).enumerate() {
            arranged[part * group + query].0[..channels.len()].copy_from_slice(channels);
        }
    }
    let mut scores = vec![Lanes::ZERO; blocks * group];
    for (block, scores) in scores.chunks_exact_mut(group).enumerate() {
        multiply_add(&arranged, group, Stored::Full(row.keys(block, layer, head)), scores);
    }
    let sums = softmax(&mut scores, group, seen);
    for part in 0..parts {
        let mut attended = vec![Lanes::ZERO; group];
        for (block, shares) in scores.chunks_exact(group).enumerate() {
            multiply_add(shares, group, Stored::Full(row.values(block, layer, head, part)), &mut attended);
        }
        for ((attended, sum), out) in attended.iter().zip(&sums).zip(out.chunks_exact_mut(width)) {
            for (out, value) in out[part * 16..].iter_mut().zip(attended.0) {
                *out = value / sum;
            }
        }
    }
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
