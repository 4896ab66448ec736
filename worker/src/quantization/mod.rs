//! NF4 with double quantisation: four bits a weight stay packed in memory and are dequantised at each use.
//!
//! Formats and ties as bitsandbytes has them. Source: docs/architecture.md, "NF4"; Dettmers et al. 2023 (QLoRA).

pub mod double;
pub mod nf4;

use tch::{Device, Kind, Tensor};

use crate::kernels::launch::Packed;

/// A packed `[out, in]` matrix.
#[derive(Debug)]
pub struct Nf4Weight {
    /// `[ceil(out * in / 2)]` uint8, first value in the high nibble.
    pub(crate) packed: Tensor,
    /// `[blocks]` uint8: the 8-bit codes of the blocks' absolute maxima.
    pub(crate) scale_codes: Tensor,
    /// `[ceil(blocks / 256)]` fp32.
    pub(crate) nested: Tensor,
    /// Mean of the absolute maxima.
    pub(crate) offset: f32,
    /// Rows and columns.
    pub(crate) shape: (i64, i64),
}

impl Nf4Weight {
    /// Quantises an fp32 matrix `[out, in]`.
    pub fn quantise(weight: &Tensor) -> Self {
        let (out, input) = weight.size2().expect("a weight has two dimensions");
        let values = floats(weight);
        let (packed, absmax) = nf4::quantise(&values);
        let double = double::quantise(&absmax);
        Nf4Weight {
            packed: Tensor::from_slice(&packed),
            scale_codes: Tensor::from_slice(&double.codes),
            nested: Tensor::from_slice(&double.nested),
            offset: double.offset,
            shape: (out, input),
        }
    }

    /// `x W^T` for `x` `[T, in]`, of the type of x; differentiable in x, the dense matrix lives only during the product.
    pub fn linear(&self, x: &Tensor) -> Tensor {
        crate::ffi::nf4_linear::nf4_linear(x, self)
    }

    /// The dense matrix, fp32.
    pub fn dequantise(&self) -> Tensor {
        let eye = Tensor::eye(self.shape.1, (Kind::Float, self.packed.device()));
        self.linear(&eye).tr().contiguous()
    }

    /// What the kernels for GPUs take.
    pub(crate) fn parts(&self) -> Packed<'_> {
        Packed { packed: &self.packed, scale_codes: &self.scale_codes, nested: &self.nested, offset: self.offset }
    }

    /// A copy on another device.
    pub(crate) fn copied_to(&self, device: Device) -> Self {
        let copied = |tensor: &Tensor| tensor.to_device(device);
        Nf4Weight {
            packed: copied(&self.packed),
            scale_codes: copied(&self.scale_codes),
            nested: copied(&self.nested),
            ..*self
        }
    }

    /// Moves it; the four bits stay.
    pub(crate) fn move_to(&mut self, device: Device) {
        for tensor in [&mut self.packed, &mut self.scale_codes, &mut self.nested] {
            *tensor = tensor.to_device(device);
        }
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.packed.numel() + self.scale_codes.numel() + 4 * self.nested.numel()
    }
}

/// The values of a tensor in order.
pub(crate) fn floats(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view(-1);
    Vec::<f32>::try_from(&flat).expect("a flat fp32 tensor converts to a vector")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_that_of_the_dense_matrix_and_so_is_its_gradient() {
        tch::manual_seed(3);
        let weight = Tensor::randn([24, 96], (Kind::Float, Device::Cpu));
        let packed = Nf4Weight::quantise(&weight);
        let dense = packed.dequantise();
        assert!(f64::try_from((&dense - &weight).abs().max()).unwrap() < 0.6);
        let x = Tensor::randn([5, 96], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let grad_of = |y: Tensor| {
            let scale = Tensor::arange(5 * 24, (Kind::Float, Device::Cpu)).view([5, 24]);
            Tensor::run_backward(&[(y * scale).sum(Kind::Float)], &[&x], false, false).remove(0)
        };
        assert!(packed.linear(&x).allclose(&x.matmul(&dense.tr()), 1e-5, 1e-5, false));
        assert!(grad_of(packed.linear(&x)).allclose(&grad_of(x.matmul(&dense.tr())), 1e-5, 1e-4, false));
    }

    #[test]
    fn a_weight_takes_a_little_over_four_bits() {
        let packed = Nf4Weight::quantise(&Tensor::randn([256, 256], (Kind::Float, Device::Cpu)));
        let bits = packed.bytes() as f64 * 8.0 / 65_536.0;
        assert!((bits - 4.127).abs() < 0.005, "{bits}");
    }
}
