//! Sixteen numbers side by side: the inner loops of decoding on CPUs.
//!
//! Every lane adds in the order of k, so a result depends neither on what is computed beside it nor on the width of the
//! vectors, as long as they have fused multiply-add.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod expand;

use std::cell::RefCell;

use half::{bf16, f16};

use super::instructions::Class;

/// Sixteen numbers, one cache line.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub(crate) [f32; 16]);

impl Lanes {
    pub(crate) const ZERO: Lanes = Lanes([0.0; 16]);

    /// The first sixteen numbers, zeros behind the last.
    pub(crate) fn of(values: &[f32]) -> Self {
        match values.first_chunk() {
            Some(values) => Lanes(*values),
            None => Lanes(std::array::from_fn(|lane| values.get(lane).copied().unwrap_or(0.0))),
        }
    }
}

/// Sixteen numbers of sixteen bits.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(32))]
pub(crate) struct Short<T>(pub(crate) [T; 16]);

/// Weights as they are stored, sixteen a k.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stored<'a> {
    Full(&'a [Lanes]),
    Half(&'a [Short<f16>]),
    Brain(&'a [Short<bf16>]),
    /// `code[q] * scale`, as dequantising does: of each k eight bytes, the first lane in the high nibble; of each `block`
    /// of k one vector of scales.
    Nf4 {
        codes: &'a [[u8; 8]],
        scales: &'a [Lanes],
        block: usize,
        code: &'a [f32; 16],
    },
}

impl<'a> Stored<'a> {
    /// How many k.
    pub(crate) fn len(self) -> usize {
        match self {
            Stored::Full(w) => w.len(),
            Stored::Half(w) => w.len(),
            Stored::Brain(w) => w.len(),
            Stored::Nf4 { codes, .. } => codes.len(),
        }
    }

    /// The first `count` k.
    pub(crate) fn first(self, count: usize) -> Self {
        match self {
            Stored::Full(w) => Stored::Full(&w[..count]),
            Stored::Half(w) => Stored::Half(&w[..count]),
            Stored::Brain(w) => Stored::Brain(&w[..count]),
            Stored::Nf4 { codes, scales, block, code } => Stored::Nf4 { codes: &codes[..count], scales, block, code },
        }
    }

    /// In fp32; `room` may hold it.
    pub(crate) fn expanded(self, room: &'a mut Vec<Lanes>) -> &'a [Lanes] {
        if let Stored::Full(w) = self {
            return w;
        }
        if room.len() < self.len() {
            room.resize(self.len(), Lanes::ZERO);
        }
        let out = &mut room[..self.len()];
        match self {
            Stored::Full(_) => {}
            Stored::Half(w) => expand::half(w, out),
            Stored::Brain(w) => expand::brain(w, out),
            Stored::Nf4 { codes, scales, block, code } => expand::nf4(codes, scales, block, code, out),
        }
        out
    }
}

/// Rows that are multiplied together, and stand together.
pub(crate) const ROWS: usize = 16;

/// `y[m] += sum over k of x[m][k] · w[k]` for every row m. `x` stands by groups of [`ROWS`] rows (the last may have fewer),
/// in each of them a vector a row for every sixteen k: `x[group * ROWS * K / 16 + k / 16 * rows + m][k % 16]`.
pub(crate) fn multiply_add(x: &[Lanes], w: Stored, y: &mut [Lanes]) {
    let blocks = w.len() / 16;
    assert!(w.len().is_multiple_of(16) && x.len() == blocks * y.len(), "every row has the inputs of w");
    #[cfg(target_arch = "x86_64")]
    if Class::here() == Class::Avx512 {
        // SAFETY: this processor has the instructions; x has every block of w for each row, as asserted.
        return unsafe { avx512::multiply_add(x, w, y) };
    }
    ROOM.with_borrow_mut(|room| {
        let w = w.expanded(room);
        for (group, y) in y.chunks_mut(ROWS).enumerate() {
            in_sixes(&x[group * ROWS * blocks..], w, y);
        }
    });
}

thread_local! {
    /// Where weights are expanded.
    static ROOM: RefCell<Vec<Lanes>> = const { RefCell::new(vec![]) };
}

/// Rows whose sums fit the sixteen registers of AVX2, with the weights and one input.
const ROWS_MAX: usize = 6;

fn in_sixes(x: &[Lanes], w: &[Lanes], y: &mut [Lanes]) {
    let (stride, mut at, mut left) = (y.len(), 0, y.len());
    while left > 0 {
        let rows = left.min(ROWS_MAX);
        let (x, y) = (&x[at.min(x.len())..], &mut y[at..at + rows]);
        match rows {
            1 => few::<1>(x, stride, w, y),
            2 => few::<2>(x, stride, w, y),
            3 => few::<3>(x, stride, w, y),
            4 => few::<4>(x, stride, w, y),
            5 => few::<5>(x, stride, w, y),
            _ => few::<6>(x, stride, w, y),
        }
        (at, left) = (at + rows, left - rows);
    }
}

/// M rows, with the instructions of this processor.
fn few<const M: usize>(x: &[Lanes], stride: usize, w: &[Lanes], y: &mut [Lanes]) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2<const M: usize>(x: &[Lanes], stride: usize, w: &[Lanes], y: &mut [Lanes]) {
        plain::<M>(x, stride, w, y, f32::mul_add);
    }
    match Class::here() {
        // SAFETY: this processor has the instructions, which are among those of AVX-512.
        #[cfg(target_arch = "x86_64")]
        Class::Avx2 | Class::Avx512 => unsafe { avx2::<M>(x, stride, w, y) },
        _ => plain::<M>(x, stride, w, y, |x, w, sum| x * w + sum),
    }
}

#[inline(always)]
fn plain<const M: usize>(x: &[Lanes], stride: usize, w: &[Lanes], y: &mut [Lanes], add: impl Fn(f32, f32, f32) -> f32) {
    let mut sums: [[f32; 16]; M] = std::array::from_fn(|m| y[m].0);
    let (blocks, _) = w.as_chunks::<16>();
    for (block, w) in blocks.iter().enumerate() {
        let x: &[Lanes; M] = x[block * stride..].first_chunk().expect("x covers every block of w");
        for (k, w) in w.iter().enumerate() {
            for (x, sums) in x.iter().zip(&mut sums) {
                for (w, sum) in w.0.iter().zip(sums) {
                    *sum = add(x.0[k], *w, *sum);
                }
            }
        }
    }
    for (y, sums) in y.iter_mut().zip(sums) {
        y.0 = sums;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u64, count: usize) -> Vec<Lanes> {
        let mut random = polya_datasets::synthesize::Random::new([seed, 0, 0]);
        let mut number = || (random.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        (0..count).map(|_| Lanes(std::array::from_fn(|_| number()))).collect()
    }

    #[test]
    fn wide_vectors_find_the_bits_of_narrow_ones_for_every_form_and_number_of_rows() {
        let inputs = 128;
        let w = numbers(1, inputs);
        let half: Vec<Short<f16>> = w.iter().map(|w| Short(w.0.map(f16::from_f32))).collect();
        let brain: Vec<Short<bf16>> = w.iter().map(|w| Short(w.0.map(bf16::from_f32))).collect();
        let codes: Vec<[u8; 8]> = w.iter().map(|w| std::array::from_fn(|i| w.0[i].to_bits() as u8)).collect();
        let (scales, code) = (numbers(2, inputs / 64), numbers(3, 1)[0].0);
        for rows in (1..=16).chain([17, 23, 40]) {
            let (x, before) = (numbers(4, inputs / 16 * rows), numbers(5, rows));
            for w in [
                Stored::Full(&w),
                Stored::Half(&half),
                Stored::Brain(&brain),
                Stored::Nf4 { codes: &codes, scales: &scales, block: 64, code: &code },
            ] {
                let (mut found, mut one_by_one) = (before.clone(), before.clone());
                multiply_add(&x, w, &mut found);
                let mut room = vec![];
                let w = w.expanded(&mut room);
                for (row, y) in one_by_one.chunks_mut(1).enumerate() {
                    let group = row / ROWS * ROWS;
                    let blocks = x[group * inputs / 16..].chunks_exact(ROWS.min(rows - group)).take(inputs / 16);
                    in_sixes(&blocks.map(|block| block[row - group]).collect::<Vec<_>>(), w, y);
                }
                assert_eq!(found, one_by_one, "{rows} rows");
                assert_ne!(found, before);
            }
        }
    }
}
