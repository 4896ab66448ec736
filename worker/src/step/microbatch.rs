//! Forward and backward of one microbatch: the gradient of its share of the step's loss, one fp32 tensor a slot.

use polya_proto::v1::MicrobatchStatistics;
use tch::{Kind, Tensor};

use super::batch::{Prepared, Weighing};
use super::loss::Loss;
use crate::adapters::LoraSet;
use crate::adapters::dropout::Dropout;
use crate::model::{Pass, Transformer};

/// A microbatch's gradient.
pub struct Gradient {
    /// In the order of the layout's slots.
    pub tensors: Vec<Tensor>,
    /// The loss and fixed-point sums.
    pub loss: f64,
    /// Fixed-point sums.
    pub statistics: MicrobatchStatistics,
}

/// Computes it. `recompute`: only layer inputs are kept, each layer runs again in the backward pass.
pub fn gradient(
    model: &Transformer,
    adapters: &LoraSet,
    prepared: &Prepared,
    (loss, weighing): (&Loss, Weighing),
    dropout: f64,
    recompute: bool,
) -> Gradient {
    let dropout = Dropout { probability: dropout, keys: prepared.keys.clone() };
    let on = adapters.on(&prepared.verify, Some(&dropout));
    let pass = Pass::new(&model.config, &prepared.batch, Some(&on));
    let leaves: Vec<&Tensor> = adapters.tensors.iter().collect();
    if recompute {
        return gradient_recomputed(model, &leaves, prepared, (loss, weighing), &pass);
    }
    let mut x = model.embed(&prepared.batch.ids);
    for layer in 0..model.layers.len() {
        x = model.layer(layer, &x, &pass);
    }
    let hidden = model.last_norm(&x);
    let outcome = loss.evaluate(model, &hidden, prepared, weighing, true);
    let upstream = outcome.gradient.expect("gradients were asked for");
    let tensors = Tensor::run_backward(&[(hidden * upstream).sum(Kind::Float)], &leaves, false, false);
    Gradient { tensors, loss: outcome.loss, statistics: outcome.statistics }
}

fn gradient_recomputed(
    model: &Transformer,
    leaves: &[&Tensor],
    prepared: &Prepared,
    (loss, weighing): (&Loss, Weighing),
    pass: &Pass,
) -> Gradient {
    let layers = model.layers.len();
    let mut inputs = Vec::with_capacity(layers + 1);
    tch::no_grad(|| {
        inputs.push(model.embed(&prepared.batch.ids));
        for layer in 0..layers {
            inputs.push(model.layer(layer, &inputs[layer], pass));
        }
    });
    let last = inputs[layers].detach().set_requires_grad(true);
    let hidden = model.last_norm(&last);
    let outcome = loss.evaluate(model, &hidden, prepared, weighing, true);
    let upstream = outcome.gradient.expect("gradients were asked for");
    let mut upstream = Tensor::run_backward(&[(hidden * upstream).sum(Kind::Float)], &[&last], false, false).remove(0);
    let slots_per_layer = 2 * crate::model::ProjectionKind::ALL.len();
    let mut tensors: Vec<Option<Tensor>> = leaves.iter().map(|_| None).collect();
    for layer in (0..layers).rev() {
        let input = inputs[layer].detach().set_requires_grad(true);
        let output = model.layer(layer, &input, pass);
        let of_layer: Vec<usize> = (0..leaves.len()).filter(|slot| slot / slots_per_layer % layers == layer).collect();
        let mut wanted: Vec<&Tensor> = of_layer.iter().map(|slot| leaves[*slot]).collect();
        wanted.push(&input);
        let mut found = Tensor::run_backward(&[(output * &upstream).sum(Kind::Float)], &wanted, false, false);
        upstream = found.pop().expect("the input's gradient was asked for last");
        for (slot, tensor) in of_layer.into_iter().zip(found) {
            tensors[slot] = Some(tensor);
        }
    }
    let tensors = tensors.into_iter().map(|tensor| tensor.expect("every slot belongs to a layer")).collect();
    Gradient { tensors, loss: outcome.loss, statistics: outcome.statistics }
}
