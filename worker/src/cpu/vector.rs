//! What is done to every number of a row, in fp32: norms, gates, rotary positions, dropout, exponentials.
//!
//! Sums run in sixteen lanes whatever the processor's vectors are, and nothing is contracted, so that the bits are the
//! same on all of them.

use crate::adapters::dropout::Mask;
use crate::ffi::instructions::vectorised;
use crate::ffi::parallel::for_each_chunk;

/// Partial sums side by side.
const LANES: usize = 16;
/// Numbers that one thread takes at a time.
const SHARE: usize = 1 << 15;

/// Rows of `width` that make about [`SHARE`] numbers.
pub(crate) fn rows_at_once(width: usize) -> usize {
    SHARE.div_ceil(width)
}

#[inline(always)]
fn lanes(length: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let whole = length - length % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    for (lane, sum) in sums.iter_mut().enumerate().take(length - whole) {
        *sum += term(whole + lane);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// e^x to about one unit in the last place; below -87 it is that of -87. Source: Cephes `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the integer in the low bits
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4;
    let r = r + n * 2.121_944_4e-4;
    let p = ((((1.987_569_1e-4 * r + 1.398_2e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 0.166_666_65) * r;
    let y = (p + 0.5) * r * r + r + 1.0;
    f32::from_bits(y.to_bits().wrapping_add(shifted.to_bits() << 23))
}

vectorised! {
    fn norm_rows(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        let width = weight.len();
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let scale = 1.0 / (lanes(width, |i| x[i] * x[i]) / width as f32 + epsilon).sqrt();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = x * scale * weight;
            }
        }
    }

    fn norm_rows_backward(x: &[f32], weight: &[f32], epsilon: f32, upstream: &[f32], dx: &mut [f32]) {
        let width = weight.len();
        for ((x, g), dx) in x.chunks_exact(width).zip(upstream.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
            let scale = 1.0 / (lanes(width, |i| x[i] * x[i]) / width as f32 + epsilon).sqrt();
            let along = lanes(width, |i| g[i] * weight[i] * x[i]) * scale * scale * scale / width as f32;
            for (((dx, x), g), weight) in dx.iter_mut().zip(x).zip(g).zip(weight) {
                *dx += g * weight * scale - x * along;
            }
        }
    }

    fn gate_rows(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate / (1.0 + exp(-gate)) * up;
        }
    }

    fn gate_rows_backward(gate: &mut [f32], up: &mut [f32], upstream: &[f32]) {
        for ((gate, up), g) in gate.iter_mut().zip(up).zip(upstream) {
            let open = 1.0 / (1.0 + exp(-*gate));
            let d_gate = g * *up * (open * (1.0 + *gate * (1.0 - open)));
            *up = g * *gate * open;
            *gate = d_gate;
        }
    }

    fn rotate_row(heads: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        let half = cos.len();
        for head in heads.chunks_exact_mut(2 * half) {
            let (a, b) = head.split_at_mut(half);
            for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                let sin = sin * sign;
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }

    fn drop_row(x: &[f32], mask: Mask, row: u32, out: &mut [f32]) {
        for ((column, out), x) in (0u32..).zip(out).zip(x) {
            *out = x * mask.factor(row, column);
        }
    }

    fn add_dropped_row(x: &[f32], mask: Mask, row: u32, out: &mut [f32]) {
        for ((column, out), x) in (0u32..).zip(out).zip(x) {
            *out += x * mask.factor(row, column);
        }
    }

    /// Adds `more` to `sum`.
    pub(crate) fn add(sum: &mut [f32], more: &[f32]) {
        for (sum, more) in sum.iter_mut().zip(more) {
            *sum += more;
        }
    }

    /// Sum of the products.
    pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
        lanes(a.len(), |i| a[i] * b[i])
    }

    /// Sum of the numbers.
    pub(crate) fn sum(x: &[f32]) -> f32 {
        lanes(x.len(), |i| x[i])
    }

    /// Largest number and its first place.
    pub(crate) fn largest(x: &[f32]) -> (f32, usize) {
        let mut best = [f32::NEG_INFINITY; LANES];
        let (whole, rest) = x.as_chunks::<LANES>();
        for chunk in whole {
            for (best, x) in best.iter_mut().zip(chunk) {
                *best = if *x > *best { *x } else { *best };
            }
        }
        let best = best.iter().chain(rest).fold(f32::NEG_INFINITY, |best, x| if *x > best { *x } else { best });
        (best, x.iter().position(|x| *x == best).unwrap_or(0))
    }

    /// Replaces x by `e^(scale x - shift)`, gives the sum.
    pub(crate) fn exp_sum(x: &mut [f32], scale: f32, shift: f32) -> f32 {
        for x in x.iter_mut() {
            *x = exp(*x * scale - shift);
        }
        lanes(x.len(), |i| x[i])
    }

    /// `x = x factor + shift`
    pub(crate) fn affine(x: &mut [f32], factor: f32, shift: f32) {
        for x in x {
            *x = *x * factor + shift;
        }
    }

    /// Gradient of a softmax row: `dp = p (dp - along) scale`.
    pub(crate) fn softmax_backward(p: &[f32], dp: &mut [f32], along: f32, scale: f32) {
        for (dp, p) in dp.iter_mut().zip(p) {
            *dp = p * (*dp - along) * scale;
        }
    }
}

/// Root-mean-square norm times the weight (Zhang and Sennrich 2019).
pub(crate) fn norm(x: &[f32], weight: &[f32], epsilon: f64, out: &mut [f32]) {
    let (width, rows) = (weight.len(), rows_at_once(weight.len()));
    for_each_chunk(out, rows * width, |index, out| {
        norm_rows(&x[index * rows * width..][..out.len()], weight, epsilon as f32, out);
    });
}

/// Adds the norm's gradient to `dx`.
pub(crate) fn norm_backward(x: &[f32], weight: &[f32], epsilon: f64, upstream: &[f32], dx: &mut [f32]) {
    let (width, rows) = (weight.len(), rows_at_once(weight.len()));
    for_each_chunk(dx, rows * width, |index, dx| {
        let part = index * rows * width..index * rows * width + dx.len();
        norm_rows_backward(&x[part.clone()], weight, epsilon as f32, &upstream[part], dx);
    });
}

/// `silu(gate) up`
pub(crate) fn gated(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for_each_chunk(out, SHARE, |index, out| {
        let part = index * SHARE..index * SHARE + out.len();
        gate_rows(&gate[part.clone()], &up[part], out);
    });
}

/// Replaces gate and up by their gradients.
pub(crate) fn gated_backward(gate: &mut [f32], up: &mut [f32], upstream: &[f32]) {
    let mut parts: Vec<_> = gate.chunks_mut(SHARE).zip(up.chunks_mut(SHARE)).zip(upstream.chunks(SHARE)).collect();
    for_each_chunk(&mut parts, 1, |_, parts| {
        for ((gate, up), upstream) in parts {
            gate_rows_backward(gate, up, upstream);
        }
    });
}

/// Turns the heads of every row by its position (`sign` 1), or back (-1). `cos` and `sin` hold `width / 2` a row.
pub(crate) fn rotate(x: &mut [f32], columns: usize, cos: &[f32], sin: &[f32], half: usize, sign: f32) {
    let rows = rows_at_once(columns);
    for_each_chunk(x, rows * columns, |index, x| {
        for (row, x) in (index * rows..).zip(x.chunks_exact_mut(columns)) {
            rotate_row(x, &cos[row * half..][..half], &sin[row * half..][..half], sign);
        }
    });
}

/// Some rows of `x` with dropout: row i of `out` is row `rows[i]` of `x`; `keys` are those of `x`'s rows.
pub(crate) fn dropped(x: &[f32], width: usize, rows: &[u32], mask: Mask, keys: &[u64], out: &mut [f32]) {
    let share = rows_at_once(width);
    for_each_chunk(out, share * width, |index, out| {
        for (row, out) in rows[index * share..].iter().zip(out.chunks_exact_mut(width)) {
            let row = *row as usize;
            drop_row(&x[row * width..][..width], mask, mask.row(keys[row]), out);
        }
    });
}

/// Adds what comes back through the dropout: row i of `x` to row `rows[i]` of `out`.
pub(crate) fn add_dropped(x: &[f32], width: usize, rows: &[u32], mask: Mask, keys: &[u64], out: &mut [f32]) {
    for (row, x) in rows.iter().zip(x.chunks_exact(width)) {
        let row = *row as usize;
        add_dropped_row(x, mask, mask.row(keys[row]), &mut out[row * width..][..width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_fp64_to_two_units() {
        for i in -8700..8800 {
            let x = i as f32 * 0.01 + 0.003;
            let mut y = [x];
            exp_sum(&mut y, 1.0, 0.0);
            let exact = f64::from(x).exp();
            assert!((f64::from(y[0]) - exact).abs() <= 2.5e-7 * exact, "{x}: {} {exact}", y[0]);
        }
        let mut rest = [f32::NEG_INFINITY, f32::NAN];
        exp_sum(&mut rest, 1.0, 0.0);
        assert!(rest[0] < 1e-37 && rest[1].is_nan());
    }

    #[test]
    fn lanes_sum_every_number_once() {
        for length in [0usize, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (1..=length).map(|i| i as f32).collect();
            assert_eq!(sum(&x), (length * (length + 1) / 2) as f32);
        }
        assert_eq!(largest(&[1.0, 5.0, 2.0, 5.0]), (5.0, 1));
    }
}
