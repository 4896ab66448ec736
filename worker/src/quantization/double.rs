//! Double quantisation: the blocks' absolute maxima as 8-bit codes of their distance to the mean, in blocks of 256.
//! Source: bitsandbytes `functional.py`, `create_dynamic_map`.

use std::sync::OnceLock;

/// Absolute maxima in a nested block.
pub const BLOCK: usize = 256;

/// Absolute maxima, quantised.
#[derive(Debug, Clone, PartialEq)]
pub struct Double {
    /// One a block of 64 weights.
    pub codes: Vec<u8>,
    /// One fp32 a nested block.
    pub nested: Vec<f32>,
    /// Mean of the absolute maxima.
    pub offset: f32,
}

/// The 256 values of the dynamic 8-bit code, ascending.
pub fn code() -> &'static [f32; 256] {
    static CODE: OnceLock<[f32; 256]> = OnceLock::new();
    CODE.get_or_init(|| {
        let mut values = vec![0f32, 1.0];
        for i in 0..7i32 {
            let edges = linspace(0.1, 1.0, (1usize << i) + 1);
            for pair in edges.windows(2) {
                let mean = (pair[0] + pair[1]) / 2.0 * 10f32.powi(i - 6);
                values.extend([mean, -mean]);
            }
        }
        values.sort_by(f32::total_cmp);
        values.try_into().expect("2 * (1 + 2 + … + 64) + 2 values are 256")
    })
}

/// torch's fp32 linspace: from the start up to the middle, from the end down behind it, each with
/// one rounding (a fused multiply-add): without it the code is not bitsandbytes', bit for bit.
fn linspace(start: f32, end: f32, count: usize) -> Vec<f32> {
    let step = (end - start) / (count - 1) as f32;
    let value = |index: usize| {
        if index < count / 2 {
            step.mul_add(index as f32, start)
        } else {
            (-step).mul_add((count - index - 1) as f32, end)
        }
    };
    (0..count).map(value).collect()
}

/// Quantises absolute maxima to the nearest code.
pub fn quantise(absmax: &[f32]) -> Double {
    let sum: f64 = absmax.iter().map(|value| f64::from(*value)).sum();
    let offset = if absmax.is_empty() { 0.0 } else { (sum / absmax.len() as f64) as f32 };
    let mut codes = Vec::with_capacity(absmax.len());
    let mut nested = Vec::with_capacity(absmax.len().div_ceil(BLOCK));
    for block in absmax.chunks(BLOCK) {
        let largest = block.iter().fold(0f32, |largest, value| largest.max((value - offset).abs()));
        nested.push(largest);
        let scale = if largest > 0.0 { 1.0 / largest } else { 0.0 };
        codes.extend(block.iter().map(|value| nearest((value - offset) * scale)));
    }
    Double { codes, nested, offset }
}

fn nearest(x: f32) -> u8 {
    let code = code();
    let above = code.partition_point(|value| *value < x);
    match above {
        0 => 0,
        256 => 255,
        above if x - code[above - 1] <= code[above] - x => (above - 1) as u8,
        above => above as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_runs_from_the_published_minimum_to_one() {
        let code = code();
        assert_eq!((code[0], code[127], code[255]), (-0.992_968_74, 0.0, 1.0));
        assert!(code.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn the_code_is_bitsandbytes_own_bit_for_bit() {
        // blake3 of the 1,024 bytes whose SHA-256 begins with e732639a65f497b4, that of bitsandbytes' map.
        let bytes: Vec<u8> = code().iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(blake3::hash(&bytes).to_hex()[..16], *"254be593f146580b");
    }

    #[test]
    fn maxima_come_back_within_the_code_s_cells() {
        let absmax: Vec<f32> = (0..1000).map(|i| 0.5 + (i as f32 * 0.37).sin() * 0.2).collect();
        let double = quantise(&absmax);
        assert_eq!((double.codes.len(), double.nested.len()), (1000, 4));
        for (index, value) in absmax.iter().enumerate() {
            let back = code()[usize::from(double.codes[index])] * double.nested[index / BLOCK] + double.offset;
            assert!((back - value).abs() <= 0.01 * double.nested[index / BLOCK] + 1e-6, "{value} {back}");
        }
    }
}
