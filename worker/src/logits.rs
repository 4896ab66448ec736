//! Logits of given token ids, and the adapters' gradients of the mean next-token cross-entropy: what is compared with
//! other stacks. No smoothing, stage weights, loss scale or dropout.

use tch::{Kind, Tensor};

use crate::adapters::LoraSet;
use crate::model::{Adapters, PackedBatch, Transformer};

/// Logits that exist at once, at most.
const LOGITS_MAX: i64 = 1 << 22;

/// Hidden states `[T, C]` of a sequence after the last norm. The verification adapter is on from position
/// `verify_from`; without it, nowhere.
pub fn hidden(model: &Transformer, ids: &[u32], adapters: Option<&LoraSet>, verify_from: Option<usize>) -> Tensor {
    let batch = PackedBatch::of_sequences(&[ids], model.embedding.device());
    let from = verify_from.unwrap_or(ids.len());
    let mask: Vec<f32> = (0..ids.len()).map(|position| f32::from(u8::from(position >= from))).collect();
    let on = adapters.map(|set| set.on(&mask, None));
    model.hidden(&batch, on.as_ref().map(|on| on as &dyn Adapters))
}

/// Logits `[n, V]` of rows of the hidden states, chunk by chunk: the whole `[T, V]` need not exist.
pub fn chunks<'a>(model: &'a Transformer, hidden: &'a Tensor) -> impl Iterator<Item = Tensor> + 'a {
    let rows = hidden.size()[0];
    let step = rows_max(model);
    (0..rows).step_by(step as usize).map(move |start| model.logits(&hidden.narrow(0, start, step.min(rows - start))))
}

/// Logits `[T, V]` of a sequence, without gradients.
pub fn logits(model: &Transformer, ids: &[u32], adapters: Option<&LoraSet>, verify_from: Option<usize>) -> Tensor {
    let _guard = tch::no_grad_guard();
    let hidden = hidden(model, ids, adapters, verify_from);
    Tensor::cat(&chunks(model, &hidden).collect::<Vec<_>>(), 0)
}

/// The mean of CE(logits\[t\], ids\[t+1\]) over T - 1 terms, and its gradient in each of the adapters' tensors, in the
/// layout's order. The loss is taken in fp64: torch's fp32 log_softmax is biased where V is large.
pub fn gradients(
    model: &Transformer,
    ids: &[u32],
    adapters: &LoraSet,
    verify_from: Option<usize>,
) -> (f64, Vec<Tensor>) {
    let hidden = hidden(model, ids, Some(adapters), verify_from);
    let terms = ids.len() as i64 - 1;
    let targets: Vec<i64> = ids[1..].iter().map(|id| i64::from(*id)).collect();
    let targets = Tensor::from_slice(&targets).to_device(hidden.device()).unsqueeze(1);
    let upstream = hidden.zeros_like();
    let step = rows_max(model);
    let mut mean = 0.0;
    for start in (0..terms).step_by(step as usize) {
        let count = step.min(terms - start);
        let rows = hidden.detach().narrow(0, start, count).set_requires_grad(true);
        let log_p = model.logits(&rows).log_softmax(-1, Kind::Double);
        let loss = -log_p.gather(1, &targets.narrow(0, start, count), false).sum(Kind::Double) / terms as f64;
        mean += loss.double_value(&[]);
        let part = Tensor::run_backward(&[loss], &[&rows], false, false).remove(0);
        upstream.narrow(0, start, count).copy_(&part);
    }
    let leaves: Vec<&Tensor> = adapters.tensors.iter().collect();
    let found = Tensor::run_backward(&[(hidden * upstream.detach()).sum(Kind::Float)], &leaves, false, false);
    // A verification adapter that is on nowhere is not part of the graph.
    let or_zero = |(found, leaf): (Tensor, &&Tensor)| if found.defined() { found } else { leaf.zeros_like() };
    (mean, found.into_iter().zip(&leaves).map(or_zero).collect())
}

fn rows_max(model: &Transformer) -> i64 {
    (LOGITS_MAX / model.config.vocabulary).clamp(16, 4096)
}
