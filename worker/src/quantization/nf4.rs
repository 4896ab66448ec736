//! The 4-bit normal-float code: blocks of 64, scaled by their absolute maximum. Source: bitsandbytes `functional.py`.

/// Weights in a block.
pub const BLOCK: usize = 64;

/// The sixteen values, ascending.
#[allow(clippy::excessive_precision, reason = "the values as published; each is rounded to fp32 once")]
pub const CODE: [f32; 16] = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
];

/// Packs values two a byte, the first in the high nibble; gives the bytes and each block's absolute maximum.
pub fn quantise(values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let mut packed = vec![0u8; values.len().div_ceil(2)];
    let mut absmax = Vec::with_capacity(values.len().div_ceil(BLOCK));
    for (index, block) in values.chunks(BLOCK).enumerate() {
        let largest = block.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let scale = if largest > 0.0 { 1.0 / largest } else { 0.0 };
        absmax.push(largest);
        for (offset, value) in block.iter().enumerate() {
            let position = index * BLOCK + offset;
            packed[position / 2] |= nearest(value * scale) << (4 * (1 - position % 2));
        }
    }
    (packed, absmax)
}

/// Code of a scaled value: the number of midpoints below it, so that a tie goes to the lower code.
pub fn nearest(x: f32) -> u8 {
    CODE.windows(2).filter(|pair| (pair[0] + pair[1]) / 2.0 < x).count() as u8
}

/// The two values of each byte.
static PAIRS: [[f32; 2]; 256] = {
    let mut pairs = [[0.0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [CODE[byte >> 4], CODE[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Writes the values from `start` on, each `CODE[q] * absmax`.
pub(crate) fn expand(packed: &[u8], absmax: impl Fn(usize) -> f32, start: usize, out: &mut [f32]) {
    let (mut at, mut out) = (start, out);
    while !out.is_empty() {
        let count = (BLOCK - at % BLOCK).min(out.len());
        let (head, rest) = out.split_at_mut(count);
        let scale = absmax(at / BLOCK);
        if at.is_multiple_of(2) && count.is_multiple_of(2) {
            let (pairs, _) = head.as_chunks_mut::<2>();
            for (pair, byte) in pairs.iter_mut().zip(&packed[at / 2..]) {
                *pair = PAIRS[usize::from(*byte)];
            }
            head.iter_mut().for_each(|value| *value *= scale);
        } else {
            for (offset, value) in head.iter_mut().enumerate() {
                let position = at + offset;
                *value = PAIRS[usize::from(packed[position / 2])][position % 2] * scale;
            }
        }
        at += count;
        out = rest;
    }
}

/// Writes `CODE[q] * absmax` for packed values; `absmax` gives a block's scale.
pub fn dequantise(packed: &[u8], absmax: impl Fn(usize) -> f32, out: &mut [f32]) {
    for (index, (block, bytes)) in out.chunks_mut(BLOCK).zip(packed.chunks(BLOCK / 2)).enumerate() {
        let scale = absmax(index);
        let table = CODE.map(|value| value * scale);
        for (pair, byte) in block.chunks_mut(2).zip(bytes) {
            pair[0] = table[usize::from(byte >> 4)];
            if let Some(second) = pair.get_mut(1) {
                *second = table[usize::from(byte & 15)];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own_nearest_and_ties_go_down() {
        for (index, value) in CODE.iter().enumerate() {
            assert_eq!(usize::from(nearest(*value)), index);
        }
        for (index, pair) in CODE.windows(2).enumerate() {
            assert_eq!(usize::from(nearest((pair[0] + pair[1]) / 2.0)), index);
        }
    }

    #[test]
    fn values_of_the_code_survive_and_a_zero_block_is_all_code_seven() {
        let values: Vec<f32> = CODE.iter().cycle().take(130).map(|value| value * 3.0).collect();
        let (packed, absmax) = quantise(&values);
        let mut back = vec![0.0; 130];
        dequantise(&packed, |block| absmax[block], &mut back);
        assert_eq!(back, values);
        assert_eq!(packed[0], 0x01);
        assert_eq!(quantise(&[0.0; 4]).0, [0x77, 0x77]);
    }
}
