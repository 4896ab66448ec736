//! Attention within each sequence of a pack, by blocks of rows: no mask exists, a block multiplies only the keys that
//! one of its rows sees. Backward makes the probabilities again from the rows' logsumexp (Dao et al. 2022).

use std::ops::Range;

use super::operand::{Right, View};
use super::product::{Onto, product, product_into};
use super::vector;
use crate::ffi::parallel::for_each_chunk;
use crate::model::Segment;

/// Rows of a block.
const ROWS: i64 = 96;

/// Heads of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) queries: usize,
    /// Key and value heads.
    pub(crate) keys: usize,
    /// Width of a head.
    pub(crate) width: usize,
}

/// Rows that are computed together, and the keys that its last row sees. Row r of n sees all but the last n - 1 - r.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    rows: Range<usize>,
    keys: Vec<Range<usize>>,
}

/// The blocks of a pack, in the order of its rows.
pub(crate) fn blocks(segments: &[Segment]) -> Vec<Block> {
    let range = |from: i64, to: i64| from as usize..to as usize;
    let mut blocks = vec![];
    for Segment { tokens, shadow, before_tag } in segments {
        let real = tokens.end - shadow;
        for first in (tokens.start..real).step_by(ROWS as usize) {
            let end = (first + ROWS).min(real);
            blocks.push(Block { rows: range(first, end), keys: vec![range(tokens.start, end)] });
        }
        if *shadow > 0 {
            // The shadow sees what is before the tag and itself; no real row sees it.
            let seen = vec![range(tokens.start, tokens.start + before_tag), range(real, tokens.end)];
            blocks.push(Block { rows: range(real, tokens.end), keys: seen });
        }
    }
    blocks
}

/// Queries, keys and values of one layer, a row a token.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
}

impl Heads {
    fn scale(self) -> f32 {
        (self.width as f32).powf(-0.5)
    }

    fn query_columns(self) -> usize {
        self.queries * self.width
    }

    fn key_columns(self) -> usize {
        self.keys * self.width
    }

    fn query(self, x: &[f32], head: usize, rows: Range<usize>) -> View<'_> {
        View::new(x, self.query_columns()).part(rows.start, rows.len(), head * self.width, self.width)
    }

    fn key(self, x: &[f32], group: usize, rows: Range<usize>) -> View<'_> {
        View::new(x, self.key_columns()).part(rows.start, rows.len(), group * self.width, self.width)
    }
}

impl Block {
    fn columns(&self) -> usize {
        self.keys.iter().map(Range::len).sum()
    }

    /// Keys that row `row` of the block sees.
    fn seen(&self, row: usize) -> usize {
        self.columns() - self.rows.len() + row + 1
    }

    /// `a B^T` for B the rows of a key head that the block sees: `[rows, columns]`.
    fn against(&self, heads: Heads, a: View, keys: &[f32], group: usize, out: &mut [f32]) {
        let (columns, mut column) = (self.columns(), 0);
        for span in self.keys.iter().filter(|span| !span.is_empty()) {
            let right = Right::View(heads.key(keys, group, span.clone()).transposed());
            product_into(a, &right, &mut out[column..], columns, Onto::Nothing);
            column += span.len();
        }
    }

    /// `p B` for B as above: `[rows, width]`.
    fn of(&self, heads: Heads, p: &[f32], keys: &[f32], group: usize, out: &mut [f32]) {
        out.fill(0.0);
        let (p, mut column) = (View::new(p, self.columns()), 0);
        for span in self.keys.iter().filter(|span| !span.is_empty()) {
            let right = Right::View(heads.key(keys, group, span.clone()));
            product(p.part(0, p.rows, column, span.len()), &right, out, Onto::Sum);
            column += span.len();
        }
    }
}

/// `out` `[T, queries * width]`; `sums` `[queries, T]` gets each row's logsumexp.
pub(crate) fn forward(heads: Heads, blocks: &[Block], inputs: Inputs, out: &mut [f32], sums: &mut [f32]) {
    let tokens = inputs.q.len() / heads.query_columns();
    let each = tokens * (heads.width + 1);
    let mut by_head = vec![0f32; heads.queries * each];
    for_each_chunk(&mut by_head, each, |head, chunk| {
        let group = head * heads.keys / heads.queries;
        let (out, sums) = chunk.split_at_mut(tokens * heads.width);
        let mut scores = vec![];
        for block in blocks {
            scores.resize(block.rows.len() * block.columns(), 0.0);
            block.against(heads, heads.query(inputs.q, head, block.rows.clone()), inputs.k, group, &mut scores);
            for (row, scores) in scores.chunks_exact_mut(block.columns()).enumerate() {
                let (seen, unseen) = scores.split_at_mut(block.seen(row));
                let shift = vector::largest(seen).0 * heads.scale();
                let sum = vector::exp_sum(seen, heads.scale(), shift);
                vector::affine(seen, 1.0 / sum, 0.0);
                unseen.fill(0.0);
                sums[block.rows.start + row] = shift + sum.ln();
            }
            let rows = block.rows.start * heads.width..block.rows.end * heads.width;
            block.of(heads, &scores, inputs.v, group, &mut out[rows]);
        }
    });
    for (head, chunk) in by_head.chunks_exact(each).enumerate() {
        let (of_head, of_sums) = chunk.split_at(tokens * heads.width);
        scatter(of_head, heads.width, out, heads.query_columns(), head);
        sums[head * tokens..][..tokens].copy_from_slice(of_sums);
    }
}

/// Gradients of q, k and v; `out` and `sums` are what [`forward`] gave.
pub(crate) fn backward(
    heads: Heads,
    blocks: &[Block],
    inputs: Inputs,
    (out, sums): (&[f32], &[f32]),
    upstream: &[f32],
    (dq, dk, dv): (&mut [f32], &mut [f32], &mut [f32]),
) {
    let tokens = inputs.q.len() / heads.query_columns();
    let (ratio, plane) = (heads.queries / heads.keys, tokens * heads.width);
    let mut by_group = vec![0f32; heads.keys * (ratio + 2) * plane];
    for_each_chunk(&mut by_group, (ratio + 2) * plane, |group, chunk| {
        let (dq, rest) = chunk.split_at_mut(ratio * plane);
        let (dk, dv) = rest.split_at_mut(plane);
        let (mut p, mut dp) = (vec![], vec![]);
        for head in group * ratio..(group + 1) * ratio {
            for block in blocks {
                let (rows, columns) = (block.rows.clone(), block.columns());
                p.resize(rows.len() * columns, 0.0);
                dp.resize(rows.len() * columns, 0.0);
                let (q, g) = (heads.query(inputs.q, head, rows.clone()), heads.query(upstream, head, rows.clone()));
                block.against(heads, q, inputs.k, group, &mut p);
                block.against(heads, g, inputs.v, group, &mut dp);
                let both = p.chunks_exact_mut(columns).zip(dp.chunks_exact_mut(columns));
                for ((row, (p, dp)), token) in both.enumerate().zip(rows.clone()) {
                    let (p, unseen) = p.split_at_mut(block.seen(row));
                    unseen.fill(0.0);
                    let (dp, unseen) = dp.split_at_mut(block.seen(row));
                    unseen.fill(0.0);
                    vector::exp_sum(p, heads.scale(), sums[head * tokens + token]);
                    let at = token * heads.query_columns() + head * heads.width;
                    let along = vector::dot(&upstream[at..][..heads.width], &out[at..][..heads.width]);
                    vector::softmax_backward(p, dp, along, heads.scale());
                }
                let start = (head - group * ratio) * plane;
                let dq_rows = start + rows.start * heads.width..start + rows.end * heads.width;
                block.of(heads, &dp, inputs.k, group, &mut dq[dq_rows]);
                let mut column = 0;
                for span in block.keys.iter().filter(|span| !span.is_empty()) {
                    let of = |x| View::new(x, columns).part(0, rows.len(), column, span.len()).transposed();
                    let to = span.start * heads.width..span.end * heads.width;
                    product(of(&dp), &Right::View(q), &mut dk[to.clone()], Onto::Sum);
                    product(of(&p), &Right::View(g), &mut dv[to], Onto::Sum);
                    column += span.len();
                }
            }
        }
    });
    for (group, chunk) in by_group.chunks_exact((ratio + 2) * plane).enumerate() {
        for (index, plane) in chunk.chunks_exact(plane).enumerate() {
            match index.checked_sub(ratio) {
                None => scatter(plane, heads.width, dq, heads.query_columns(), group * ratio + index),
                Some(0) => scatter(plane, heads.width, dk, heads.key_columns(), group),
                Some(_) => scatter(plane, heads.width, dv, heads.key_columns(), group),
            }
        }
    }
}

/// Rows of one head to their place in rows of all heads.
fn scatter(of_head: &[f32], width: usize, out: &mut [f32], columns: usize, head: usize) {
    for (from, to) in of_head.chunks_exact(width).zip(out.chunks_exact_mut(columns)) {
        to[head * width..][..width].copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shadow_sees_the_sample_before_its_tag_and_itself() {
        let segments = [
            Segment { tokens: 0..10, shadow: 3, before_tag: 4 },
            Segment { tokens: 10..120, shadow: 0, before_tag: 0 },
        ];
        let found = blocks(&segments);
        let of = |rows, keys: Vec<Range<usize>>| Block { rows, keys };
        let plain = |rows, start, end| of(rows, std::iter::once(start..end).collect());
        assert_eq!(
            found,
            [plain(0..7, 0, 7), of(7..10, vec![0..4, 7..10]), plain(10..106, 10, 106), plain(106..120, 10, 120)]
        );
        assert_eq!((found[1].seen(0), found[1].seen(2), found[3].seen(0)), (5, 7, 97));
    }
}
