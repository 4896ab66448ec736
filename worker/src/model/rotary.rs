//! Rotary positions on halves: `[a, b] * cos + [-b, a] * sin`, angles in fp32. Source: Su et al. 2021; transformers.

use tch::{Device, Kind, Tensor};

use super::ModelConfig;

/// Cosines and sines of some positions, each `[T, 1, D]` fp32.
#[derive(Debug)]
pub struct Rotary {
    pub(crate) cos: Tensor,
    pub(crate) sin: Tensor,
}

impl Rotary {
    /// For these positions.
    pub fn new(config: &ModelConfig, positions: &[i64], device: Device) -> Self {
        let half = config.head_dim / 2;
        let exponents = Tensor::arange(half, (Kind::Float, Device::Cpu)) * (2.0 / config.head_dim as f64);
        let frequencies = (exponents * -config.rope_theta.ln()).exp();
        let angles = Tensor::from_slice(positions).to_kind(Kind::Float).unsqueeze(1) * frequencies.unsqueeze(0);
        let angles = Tensor::cat(&[&angles, &angles], 1).unsqueeze(1).to_device(device);
        Rotary { cos: angles.cos(), sin: angles.sin() }
    }

    /// Cosines and sines, `[T, D]` each.
    pub(crate) fn angles(&self) -> (Vec<f32>, Vec<f32>) {
        (crate::quantization::floats(&self.cos), crate::quantization::floats(&self.sin))
    }

    /// Turns `[T, heads, D]`; the product is fp32, the result of the input's type.
    pub fn apply(&self, x: &Tensor) -> Tensor {
        let halves = x.chunk(2, -1);
        let turned = Tensor::cat(&[&halves[1].neg(), &halves[0]], -1);
        (x * &self.cos + turned * &self.sin).to_kind(x.kind())
    }
}
