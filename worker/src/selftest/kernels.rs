//! Kernels against twins that are written as the formats are defined.

use std::time::Instant;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::{Comparison, Subject, doubles};
use crate::model::{Adapters, ProjectionKind, Site};
use crate::quantization::{Nf4Weight, double, floats, nf4};

/// Rows and columns of the matrix, those of a small model's feed-forward.
const SHAPE: [i64; 2] = [512, 1536];

fn random(shape: [i64; 2]) -> Tensor {
    tch::manual_seed(11);
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// Every weight, by its definition: `CODE[q] * (code8[c] * nested + offset)`.
fn twin(weight: &Nf4Weight) -> Vec<f32> {
    let (packed, codes) = (bytes(&weight.packed), bytes(&weight.scale_codes));
    let nested = floats(&weight.nested);
    let value = |index: usize| {
        let nibble = if index.is_multiple_of(2) { packed[index / 2] >> 4 } else { packed[index / 2] & 15 };
        let block = index / nf4::BLOCK;
        let scale = double::code()[usize::from(codes[block])] * nested[block / double::BLOCK] + weight.offset;
        nf4::CODE[usize::from(nibble)] * scale
    };
    (0..(weight.shape.0 * weight.shape.1) as usize).map(value).collect()
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    floats(tensor).into_iter().map(|byte| byte as u8).collect()
}

pub(super) fn nf4(_: &Subject) -> Result<Comparison> {
    let weight = Nf4Weight::quantise(&random(SHAPE));
    let found = doubles(&floats(&weight.dequantise()));
    Ok(Comparison { found, expected: doubles(&twin(&weight)), tolerance: 0.0, detail: String::new() })
}

pub(super) fn nf4_product(_: &Subject) -> Result<Comparison> {
    let weight = Nf4Weight::quantise(&random(SHAPE));
    let x = random([64, SHAPE[1]]);
    let started = Instant::now();
    let found = weight.linear(&x);
    let seconds = started.elapsed().as_secs_f64();
    let dense = Tensor::from_slice(&twin(&weight)).view(SHAPE).to_kind(Kind::Double);
    let expected = x.to_kind(Kind::Double).matmul(&dense.tr());
    let detail = format!("{:.0} GFLOP/s", 2.0 * 64.0 * (SHAPE[0] * SHAPE[1]) as f64 / seconds / 1e9);
    Ok(Comparison { found: doubles(&floats(&found)), expected: values(&expected), tolerance: 2e-6, detail })
}

pub(super) fn adapters(subject: &Subject) -> Result<Comparison> {
    let (set, site) = (subject.adapters(false), Site { layer: 1, kind: ProjectionKind::Gate });
    let (input, output) = subject.base.model.config.projection_shape(site.kind);
    let (x, y) = (random([6, input]), random([6, output]));
    let verify = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0];
    let found = tch::no_grad(|| set.on(&verify, None).apply(site, &x, y.shallow_clone()));
    let mask = [
        Tensor::ones([6, 1], (Kind::Double, Device::Cpu)),
        Tensor::from_slice(&verify).to_kind(Kind::Double).unsqueeze(1),
    ];
    let mut expected = y.to_kind(Kind::Double);
    let slots: Vec<_> = set.layout.slots.iter().zip(&set.tensors).filter(|(slot, _)| slot.site == site).collect();
    for pair in slots.chunks_exact(2) {
        let (a, b) = (pair[0].1.to_kind(Kind::Double), pair[1].1.to_kind(Kind::Double));
        let low = x.to_kind(Kind::Double).matmul(&a.tr()) * (set.layout.alpha / set.layout.rank as f64);
        expected += low.matmul(&b.tr()) * &mask[pair[0].0.adapter];
    }
    let detail = String::new();
    Ok(Comparison { found: doubles(&floats(&found)), expected: values(&expected), tolerance: 2e-6, detail })
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(&tensor.contiguous().view(-1)).expect("a flat fp64 tensor converts to a vector")
}
