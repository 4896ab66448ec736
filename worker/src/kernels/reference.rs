//! Twins of the kernels on a CPU: the same operations in the same order, so that results are compared bit for bit.
//!
//! Dequantising is [`crate::quantization::nf4::dequantise`], dropout [`crate::adapters::dropout`]: what the CPU path uses. Only the product for decoding has its twin here.

use half::f16;

use crate::quantization::{double, nf4};

/// Weights that a lane takes at a time.
const RUN: usize = 8;
/// Lanes of a warp.
const WARP: usize = 32;

/// `y = x W^T` as `nf4_multiply_f16` computes it: `x` `[rows, input]`, `y` `[rows, output]`.
///
/// Lane l adds the runs l, l + 32, … in fp32 with fused multiply-adds, then the lanes are added as a tree of halves.
pub fn nf4_multiply(
    x: &[f16],
    packed: &[u8],
    (scale_codes, nested, offset): (&[u8], &[f32], f32),
    (input, output): (usize, usize),
) -> Vec<f16> {
    let code = double::code();
    let scale = |block: usize| code[usize::from(scale_codes[block])] * nested[block / double::BLOCK] + offset;
    let rows = x.len() / input;
    let mut y = vec![f16::ZERO; rows * output];
    for row in 0..rows {
        for column in 0..output {
            let mut lanes = [0f32; WARP];
            for place in (0..input).step_by(RUN) {
                let lane = &mut lanes[place / RUN % WARP];
                let scale = scale((column * input + place) / nf4::BLOCK);
                for index in place..place + RUN {
                    let element = column * input + index;
                    let byte = packed[element / 2];
                    let code = if element.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
                    let weight = nf4::CODE[usize::from(code)] * scale;
                    *lane = weight.mul_add(x[row * input + index].to_f32(), *lane);
                }
            }
            let mut distance = WARP / 2;
            while distance > 0 {
                lanes = std::array::from_fn(|lane| lanes[lane] + lanes[lane ^ distance]);
                distance /= 2;
            }
            y[row * output + column] = f16::from_f32(lanes[0]);
        }
    }
    y
}
