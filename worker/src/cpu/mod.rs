//! The training step on a CPU, without a graph: forward and backward of a layer are written out, weights stay packed
//! and are expanded into the panels of a matrix product, nothing is kept that is cheap to make again.
//!
//! [`step`] is one microbatch, [`layer`] one layer, [`projection`] one frozen matrix with its adapters, [`product`] the
//! matrix product under all of them. The same functions on libtorch's graph (`model::transformer`, `step::loss`) are
//! the reference that tests compare with, and what other devices run.

pub(crate) mod attention;
pub(crate) mod head;
pub(crate) mod layer;
pub(crate) mod operand;
pub(crate) mod product;
pub(crate) mod projection;
pub(crate) mod scratch;
pub(crate) mod step;
pub(crate) mod vector;

use tch::Tensor;

use crate::quantization::Nf4Weight;

/// `x W^T` `[N, out]` for `x` `[N, in]` fp32 and a matrix of fp32, fp16 or bf16; no gradient passes.
pub(crate) fn linear(x: &Tensor, weight: &Tensor) -> Tensor {
    multiply(x, operand::Frozen::of_tensor(weight))
}

/// The same with a packed matrix.
pub(crate) fn linear_nf4(x: &Tensor, weight: &Nf4Weight) -> Tensor {
    multiply(x, operand::Frozen::of_nf4(weight))
}

fn multiply(x: &Tensor, factor: operand::Frozen) -> Tensor {
    let x = x.contiguous();
    let (input, out) = factor.size();
    let rows = operand::View::new(crate::ffi::view::floats(&x), input);
    let mut y = vec![0f32; rows.rows * out];
    product::product(rows, &operand::Right::Frozen(factor), &mut y, product::Onto::Nothing);
    Tensor::from_slice(&y).view([-1, out as i64])
}

#[cfg(test)]
mod tests;
