//! Forward and backward of one microbatch: the gradient of its share of the step's loss.
//!
//! In fp16 the loss is multiplied before the backward pass, so that small gradients do not vanish; the factor is a power of
//! two and is taken off exactly, when the gradient is quantised. Source: Micikevicius et al. 2018, section 3.2.

use polya_proto::v1::MicrobatchStatistics;
use tch::{Device, Kind, Tensor};

use super::batch::{Prepared, Weighing};
use super::loss::Loss;
use crate::adapters::LoraSet;
use crate::adapters::dropout::Dropout;
use crate::cpu;
use crate::model::{Adapters, Pass, Transformer};

/// A microbatch's gradient.
pub struct Gradient {
    /// fp32, in the layout's order, times the loss scale.
    pub values: Vec<f32>,
    /// The microbatch's share of the step's loss.
    pub loss: f64,
    /// Fixed-point sums.
    pub statistics: MicrobatchStatistics,
}

/// Computes it. Of the first `recomputed` layers only the inputs are kept, they run again in the backward pass.
pub fn gradient(
    model: &Transformer,
    adapters: &LoraSet,
    prepared: &Prepared,
    loss: (&Loss, Weighing),
    dropout: f64,
    (loss_scale, recomputed): (f64, usize),
) -> Gradient {
    let dropout = Dropout { probability: dropout, keys: prepared.keys.clone() };
    if model.norm.device() == Device::Cpu && loss_scale == 1.0 {
        return cpu::step::gradient(model, adapters, prepared, loss, &dropout, recomputed);
    }
    gradient_on_graph(model, adapters, prepared, loss, &dropout, (loss_scale, recomputed))
}

/// Statistics of a pack, with adapters or without; nothing is dropped and nothing is learned.
pub fn evaluate(
    model: &Transformer,
    adapters: &LoraSet,
    prepared: &Prepared,
    (loss, weighing): (&Loss, Weighing),
    on: bool,
) -> MicrobatchStatistics {
    if model.norm.device() == Device::Cpu {
        return cpu::step::evaluate(model, adapters, prepared, (loss, weighing), on);
    }
    let _guard = tch::no_grad_guard();
    let pass = adapters.on(&prepared.verify, None);
    let batch = prepared.batch.to_device(model.norm.device());
    let hidden = model.hidden(&batch, if on { Some(&pass as &dyn Adapters) } else { None });
    loss.evaluate(model, &hidden, prepared, weighing, None).statistics
}

/// The same on libtorch's graph, a layer at a time: on any device, and the reference for [`cpu`].
pub(crate) fn gradient_on_graph(
    model: &Transformer,
    adapters: &LoraSet,
    prepared: &Prepared,
    (loss, weighing): (&Loss, Weighing),
    dropout: &Dropout,
    (loss_scale, recomputed): (f64, usize),
) -> Gradient {
    let on = adapters.on(&prepared.verify, Some(dropout));
    let batch = prepared.batch.to_device(model.norm.device());
    let pass = Pass::new(&model.config, &batch, Some(&on));
    let layers = model.layers.len();
    let leaf = |x: &Tensor| x.detach().set_requires_grad(true);
    let mut passed: Vec<(Tensor, Option<Tensor>)> = Vec::with_capacity(layers);
    let mut x = tch::no_grad(|| model.embed(&batch.ids));
    for layer in 0..layers {
        let input = leaf(&x);
        let output = if layer < recomputed {
            tch::no_grad(|| model.layer(layer, &input, &pass))
        } else {
            model.layer(layer, &input, &pass)
        };
        x = output.detach();
        passed.push((input, (layer >= recomputed).then_some(output)));
    }
    let last = leaf(&x);
    let hidden = model.last_norm(&last);
    let outcome = loss.evaluate(model, &hidden, prepared, weighing, Some(loss_scale));
    let upstream = outcome.gradient.expect("gradients were asked for");
    let mut upstream = Tensor::run_backward(&[(hidden * upstream).sum(Kind::Float)], &[&last], false, false).remove(0);
    let slots = &adapters.layout.slots;
    let mut values = vec![0f32; adapters.layout.parameters()];
    while let Some((input, output)) = passed.pop() {
        let layer = passed.len();
        let output = output.unwrap_or_else(|| model.layer(layer, &input, &pass));
        let of_layer: Vec<usize> = (0..slots.len()).filter(|slot| slots[*slot].site.layer == layer).collect();
        let mut wanted: Vec<&Tensor> = of_layer.iter().map(|slot| &adapters.tensors[*slot]).collect();
        wanted.push(&input);
        let mut found = Tensor::run_backward(&[(output * &upstream).sum(Kind::Float)], &wanted, false, false);
        upstream = found.pop().expect("the input's gradient was asked for last");
        for (slot, tensor) in of_layer.into_iter().zip(found) {
            values[slots[slot].range.clone()].copy_from_slice(&crate::quantization::floats(&tensor));
        }
    }
    Gradient { values, loss: outcome.loss, statistics: outcome.statistics }
}
