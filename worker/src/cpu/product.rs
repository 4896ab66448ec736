//! The matrix product: blocks of the right factor are packed (and expanded) once and used for all rows of the left one.
//!
//! Loop order and blocking are those of Goto and van de Geijn 2008. Each element of the result is one sum in the order
//! of the summed dimension, with fused multiply-adds: its bits depend on neither threads, rows beside it nor block sizes.

use std::cell::RefCell;

use super::operand::{Right, View};
use crate::ffi::instructions::{Class, Tile, tile_avx2, tile_avx512, tile_portable};
use crate::ffi::parallel::for_each_chunk;

/// Summed dimension of a block: a panel of the right factor stays in the first-level cache.
const DEPTH: usize = 256;
/// Columns of a block of the right factor: with all of its depth in the last-level cache.
const COLUMNS: usize = 1024;
/// Rows of a block of the left factor: with all of its depth in the second-level cache.
const ROWS: usize = 192;
/// Fp32 in a cache line.
const LINE: usize = 16;

/// Memory that is used again.
#[derive(Default)]
struct Room {
    panels: Vec<f32>,
    rows: Vec<f32>,
}

thread_local! {
    static RIGHT: RefCell<Room> = RefCell::default();
    static LEFT: RefCell<Room> = RefCell::default();
}

/// What becomes of the old content of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Onto {
    /// It is replaced.
    Nothing,
    /// The product is added to it.
    Sum,
}

/// `c = a b` or `c += a b`; `c` has rows of `b`'s columns without gaps.
pub(crate) fn product(a: View, b: &Right, c: &mut [f32], onto: Onto) {
    let columns = b.size().1;
    product_into(a, b, c, columns, onto);
}

/// The same with rows of `c` that are `apart` numbers apart.
pub(crate) fn product_into(a: View, b: &Right, c: &mut [f32], apart: usize, onto: Onto) {
    match Class::here() {
        Class::Avx512 => blocked(a, b, c, apart, onto, tile_avx512),
        Class::Avx2 => blocked(a, b, c, apart, onto, tile_avx2),
        Class::Portable => blocked(a, b, c, apart, onto, tile_portable),
    }
}

fn blocked<const R: usize, const W: usize>(
    a: View,
    b: &Right,
    c: &mut [f32],
    apart: usize,
    onto: Onto,
    tile: Tile<R, W>,
) {
    let (depth, columns) = b.size();
    assert!(a.columns == depth && columns <= apart, "the factors fit: {} columns, {depth} rows", a.columns);
    if a.rows == 0 || columns == 0 {
        return;
    }
    let c = &mut c[..(a.rows - 1) * apart + columns];
    if onto == Onto::Nothing {
        c.chunks_mut(apart).for_each(|row| row[..columns].fill(0.0));
    }
    let threads = tch::get_num_threads().max(1) as usize;
    // Whole tiles to each thread.
    let share = a.rows.div_ceil(threads).next_multiple_of(R);
    RIGHT.with_borrow_mut(|room| {
        for left_column in (0..columns).step_by(COLUMNS) {
            let width = COLUMNS.min(columns - left_column);
            for from in (0..depth).step_by(DEPTH) {
                let deep = DEPTH.min(depth - from);
                let panels = aligned(&mut room.panels, width.div_ceil(W) * W * deep);
                for_each_chunk(panels, W * deep, |index, panel| {
                    let panel = panel.as_chunks_mut::<W>().0;
                    LEFT.with_borrow_mut(|room| b.pack(from, left_column + index * W, panel, &mut room.rows));
                });
                let panels = &*panels;
                for_each_chunk(c, share * apart, |index, c| {
                    let first = index * share;
                    let a = View { rows: share.min(a.rows - first), data: &a.data[first * a.rows_apart..], ..a };
                    let c = &mut c[left_column..];
                    LEFT.with_borrow_mut(|room| strip(a, from, deep, panels, width, c, apart, &mut room.panels, tile));
                });
            }
        }
    });
}

/// All rows of `a` with one packed block.
#[expect(clippy::too_many_arguments, reason = "the inner loops of one function, apart so that threads can share them")]
fn strip<const R: usize, const W: usize>(
    a: View,
    from: usize,
    deep: usize,
    panels: &[f32],
    width: usize,
    c: &mut [f32],
    apart: usize,
    room: &mut Vec<f32>,
    tile: Tile<R, W>,
) {
    for first in (0..a.rows).step_by(ROWS - ROWS % R) {
        let rows = (ROWS - ROWS % R).min(a.rows - first);
        let packed = aligned(room, rows.div_ceil(R) * R * deep);
        for (index, panel) in packed.chunks_exact_mut(R * deep).enumerate() {
            a.pack_rows::<R>(first + index * R, from, panel.as_chunks_mut().0);
        }
        for (j, right) in panels.chunks_exact(W * deep).enumerate() {
            let (right, column) = (right.as_chunks::<W>().0, j * W);
            let wide = W.min(width - column);
            for (i, left) in packed.chunks_exact(R * deep).enumerate() {
                let row = first + i * R;
                let high = R.min(a.rows - row);
                let mut sums = [[0f32; W]; R];
                let start = row * apart + column;
                for (sums, c) in sums[..high].iter_mut().zip(c[start..].chunks(apart)) {
                    sums[..wide].copy_from_slice(&c[..wide]);
                }
                tile(left.as_chunks::<R>().0, right, &mut sums);
                for (sums, c) in sums[..high].iter().zip(c[start..].chunks_mut(apart)) {
                    c[..wide].copy_from_slice(&sums[..wide]);
                }
            }
        }
    }
}

/// `length` numbers of `room` that begin at a cache line.
fn aligned(room: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if room.len() < length + LINE {
        room.resize(length + LINE, 0.0);
    }
    let start = room.as_ptr().align_offset(4 * LINE).min(LINE);
    &mut room[start..start + length]
}
