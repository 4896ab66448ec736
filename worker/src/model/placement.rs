//! Where a model's weights live and what they are computed in.

use tch::{Device, Kind, Tensor};

use super::transformer::{FrozenWeight, Transformer};

/// A device and the type that products are computed in: fp32 on a CPU, fp16 on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Where.
    pub device: Device,
    /// In what.
    pub kind: Kind,
}

impl Placement {
    /// The processor, in fp32.
    pub const CPU: Placement = Placement { device: Device::Cpu, kind: Kind::Float };

    /// What a device computes in: fp16 on every GPU, since Turing has no bf16 and one run is one arithmetic.
    pub fn of(device: Device) -> Self {
        let kind = if device == Device::Cpu { Kind::Float } else { Kind::Half };
        Placement { device, kind }
    }
}

impl Transformer {
    /// The model at another place. Tensor after tensor, so that there are never two whole copies; packed weights stay
    /// packed, and in fp32 so does a 16-bit embedding.
    pub fn placed(mut self, to: Placement) -> Self {
        if to == self.placement() {
            return self;
        }
        let moved = |tensor: &Tensor| tensor.to_device(to.device).to_kind(to.kind);
        let _guard = tch::no_grad_guard();
        for layer in &mut self.layers {
            layer.attention_norm = moved(&layer.attention_norm);
            layer.mlp_norm = moved(&layer.mlp_norm);
            for projection in &mut layer.projections {
                projection.bias = projection.bias.as_ref().map(moved);
                match &mut projection.weight {
                    FrozenWeight::Dense(weight) => *weight = moved(weight),
                    FrozenWeight::Nf4(weight) => weight.move_to(to.device),
                }
            }
        }
        self.embedding = moved(&self.embedding);
        self.norm = moved(&self.norm);
        self.head = self.head.as_ref().map(moved);
        self
    }

    /// Where the weights are and what they are computed in.
    pub fn placement(&self) -> Placement {
        Placement { device: self.norm.device(), kind: self.norm.kind() }
    }
}
