//! Two low-rank adapters on the seven projections: `y = W x + r_R(x) + m · r_V(x)`, `r(x) = (alpha / rank) · B(A(dropout
//! x))` (Hu et al. 2021), m = 1 from the first token of the VERIFY tag on, else 0.
//!
//! All trainable numbers live in one flat fp32 vector in canonical order: adapter, layer, projection, A before B. Products
//! are computed in the type of x: with fp16 the fp32 numbers stay the leaves, and their gradients are fp32.

pub mod dropout;

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::model::{Adapters, ModelConfig, ProjectionKind, Site};
use dropout::{Dropout, mix};

/// Names of the adapters, in canonical order.
pub const NAMES: [&str; 2] = ["reasoning", "verification"];

/// One trainable tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// 0 reasoning, 1 verification.
    pub adapter: usize,
    /// Where.
    pub site: Site,
    /// B, or A.
    pub is_b: bool,
    /// Rows and columns: A `[rank, in]`, B `[out, rank]`.
    pub shape: [i64; 2],
    /// Its numbers in the flat vector.
    pub range: Range<usize>,
}

/// Which tensors there are.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// Rank of every adapter.
    pub rank: i64,
    /// Scale is alpha / rank.
    pub alpha: f64,
    /// One adapter, or two.
    pub adapters: usize,
    /// In canonical order.
    pub slots: Vec<Slot>,
}

impl Layout {
    /// The tensors of a model's adapters.
    pub fn new(config: &ModelConfig, rank: i64, alpha: f64, verification: bool) -> Self {
        let adapters = if verification { 2 } else { 1 };
        let (mut slots, mut start) = (vec![], 0);
        for adapter in 0..adapters {
            for layer in 0..config.layers {
                for kind in ProjectionKind::ALL {
                    let (input, output) = config.projection_shape(kind);
                    for (is_b, shape) in [(false, [rank, input]), (true, [output, rank])] {
                        let range = start..start + (shape[0] * shape[1]) as usize;
                        start = range.end;
                        slots.push(Slot { adapter, site: Site { layer, kind }, is_b, shape, range });
                    }
                }
            }
        }
        Layout { rank, alpha, adapters, slots }
    }

    /// Trainable numbers.
    pub fn parameters(&self) -> usize {
        self.slots.last().map_or(0, |slot| slot.range.end)
    }

    /// A uniform in ±1/sqrt(in) from seed and place alone, B zero.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut values = vec![0f32; self.parameters()];
        for (index, slot) in self.slots.iter().enumerate().filter(|(_, slot)| !slot.is_b) {
            let bound = 1.0 / (slot.shape[1] as f64).sqrt();
            let key = mix(mix(seed ^ 0x696e_6974) ^ index as u64);
            for (offset, value) in (0u64..).zip(&mut values[slot.range.clone()]) {
                let unit = (mix(key ^ mix(offset)) >> 11) as f64 / (1u64 << 53) as f64;
                *value = ((2.0 * unit - 1.0) * bound) as f32;
            }
        }
        values
    }

    /// The tensors of a flat vector, as leaves of a graph where gradients are wanted.
    pub fn tensors(&self, values: &[f32], gradients: bool) -> Vec<Tensor> {
        let tensor =
            |slot: &Slot| Tensor::from_slice(&values[slot.range.clone()]).view(slot.shape).set_requires_grad(gradients);
        self.slots.iter().map(tensor).collect()
    }

    fn index(&self, adapter: usize, site: Site, layers: usize) -> usize {
        ((adapter * layers + site.layer) * ProjectionKind::ALL.len() + site.kind as usize) * 2
    }
}

/// Adapters with their values as tensors.
#[derive(Debug)]
pub struct LoraSet {
    /// Which tensors there are.
    pub layout: Layout,
    /// In the layout's order.
    pub tensors: Vec<Tensor>,
    layers: usize,
}

impl LoraSet {
    /// From a flat vector.
    pub fn new(layout: Layout, values: &[f32], gradients: bool) -> Self {
        let tensors = layout.tensors(values, gradients);
        let layers = layout.slots.iter().map(|slot| slot.site.layer + 1).max().unwrap_or(0);
        LoraSet { layout, tensors, layers }
    }

    /// The same numbers on another device, again as leaves.
    pub fn to_device(mut self, device: Device) -> Self {
        self.move_to(device);
        self
    }

    /// Moves the numbers to another device, again as leaves.
    pub(crate) fn move_to(&mut self, device: Device) {
        for tensor in &mut self.tensors {
            let gradients = tensor.requires_grad();
            *tensor = tensor.detach().to_device(device).set_requires_grad(gradients);
        }
    }

    /// Where its tensors are.
    pub fn device(&self) -> Device {
        self.tensors.first().map_or(Device::Cpu, Tensor::device)
    }

    /// The adapters on a pack of tokens. `verify` is m, one a token.
    pub fn on<'a>(&'a self, verify: &[f32], dropout: Option<&'a Dropout>) -> LoraPass<'a> {
        let scale = self.layout.alpha / self.layout.rank as f64;
        let any = verify.iter().any(|m| *m > 0.0);
        let verify = Tensor::from_slice(verify).to_kind(Kind::Float).unsqueeze(1) * scale;
        let verify = verify.to_device(self.device());
        let on_gpu = dropout.filter(|_| matches!(self.device(), Device::Cuda(_)));
        let keys = on_gpu.map(|dropout| dropout.keys_on(self.device()));
        LoraPass { set: self, scale, verify: any.then_some(verify), dropout, keys }
    }
}

impl LoraSet {
    /// Place of A in the tensors; B is the next one.
    pub(crate) fn index(&self, adapter: usize, site: Site) -> usize {
        self.layout.index(adapter, site, self.layers)
    }
}

/// The adapters on one pack.
pub struct LoraPass<'a> {
    set: &'a LoraSet,
    scale: f64,
    /// m times the scale, `[T, 1]`; none where no token verifies.
    verify: Option<Tensor>,
    dropout: Option<&'a Dropout>,
    /// The dropout's keys on the GPU, where masks are made there.
    keys: Option<Tensor>,
}

impl LoraPass<'_> {
    fn branch(&self, adapter: usize, site: Site, x: &Tensor) -> (Tensor, &Tensor) {
        let index = self.set.index(adapter, site);
        let (a, b) = (&self.set.tensors[index], &self.set.tensors[index + 1]);
        let low = match self.dropout {
            Some(dropout) if dropout.probability > 0.0 => {
                let mask = dropout.mask_on(self.keys.as_ref(), site, adapter, a.size()[1]);
                (x * mask.to_kind(x.kind())).matmul(&a.tr().to_kind(x.kind()))
            }
            _ => x.matmul(&a.tr().to_kind(x.kind())),
        };
        (low, b)
    }
}

impl Adapters for LoraPass<'_> {
    fn apply(&self, site: Site, x: &Tensor, y: Tensor) -> Tensor {
        let (low, b) = self.branch(0, site, x);
        let y = y + (low * self.scale).matmul(&b.tr().to_kind(x.kind()));
        match &self.verify {
            Some(verify) if self.set.layout.adapters == 2 => {
                let (low, b) = self.branch(1, site, x);
                y + (low * verify.to_kind(x.kind())).matmul(&b.tr().to_kind(x.kind()))
            }
            _ => y,
        }
    }
}
