//! The head and the loss in one pass over each row of logits, which become their own gradient in place. Same loss as
//! `step::loss`, whose documentation has the formula.

use polya_proto::v1::MicrobatchStatistics;

use super::operand::{Frozen, Right, View};
use super::product::{Onto, product};
use super::scratch::Scratch;
use super::vector;
use crate::ffi::parallel::for_each_chunk;
use crate::model::Transformer;
use crate::step::batch::{Prediction, Prepared, Transition, Weighing};
use crate::step::loss::{Counts, Loss, Told};

/// Logits that exist at once, at most.
pub(crate) const LOGITS_MAX: usize = 1 << 25;

/// One row; its logits become their own gradient.
struct Row<'a> {
    logits: &'a mut [f32],
    prediction: &'a Prediction,
    /// Weight of the transition term.
    share: f32,
    told: Told,
    loss: f64,
}

/// Loss and statistics of the rows of `hidden` (behind the last norm, `[T, C]`); its gradient is added to `gradient`.
pub(crate) fn evaluate(
    loss: &Loss,
    model: &Transformer,
    hidden: &[f32],
    prepared: &Prepared,
    weighing: Weighing,
    mut gradient: Option<&mut [f32]>,
    scratch: &mut Scratch,
) -> (f64, MicrobatchStatistics) {
    let (width, vocabulary) = (model.config.hidden as usize, model.config.vocabulary as usize);
    let head = Frozen::of_tensor(model.head.as_ref().unwrap_or(&model.embedding));
    let chunks = (prepared.predictions.len() * vocabulary).div_ceil(LOGITS_MAX).max(1);
    let rows_max = prepared.predictions.len().div_ceil(chunks).max(1);
    let mut counts = Counts::new(prepared);
    let mut total = 0.0;
    for chunk in prepared.predictions.chunks(rows_max) {
        let mut picked = scratch.take(chunk.len() * width);
        for (prediction, to) in chunk.iter().zip(picked.chunks_exact_mut(width)) {
            to.copy_from_slice(&hidden[prediction.row as usize * width..][..width]);
        }
        let mut logits = vec![0f32; chunk.len() * vocabulary];
        product(View::new(&picked, width), &Right::Frozen(head), &mut logits, Onto::Nothing);
        let row = |(prediction, logits)| {
            let share = loss.share(&counts, prediction, weighing);
            Row { logits, prediction, share, told: Told::default(), loss: 0.0 }
        };
        let mut rows: Vec<Row> = chunk.iter().zip(logits.chunks_exact_mut(vocabulary)).map(row).collect();
        for_each_chunk(&mut rows, 1, |_, rows| rows.iter_mut().for_each(|row| row.differentiate(loss)));
        for row in &rows {
            total += row.loss;
            counts.add(row.prediction, prepared, row.told);
        }
        if let Some(gradient) = gradient.as_deref_mut() {
            product(View::new(&logits, vocabulary), &Right::Frozen(head.backward()), &mut picked, Onto::Nothing);
            for (prediction, from) in chunk.iter().zip(picked.chunks_exact(width)) {
                vector::add(&mut gradient[prediction.row as usize * width..][..width], from);
            }
        }
        scratch.give(picked);
    }
    (total, counts.statistics())
}

impl Row<'_> {
    /// With p the softmax, p' that of the allowed tokens (all but wrong stage names), t the target, e the smoothing:
    /// `d = w (p - (1 - e) [t] - e / V) + share (p - p')`.
    fn differentiate(&mut self, loss: &Loss) {
        let Row { logits, prediction, share, .. } = self;
        let size = logits.len();
        let target = prediction.target as usize;
        let (of_target, mean) = (logits[target], f64::from(vector::sum(logits)) / size as f64);
        let (_, best) = vector::largest(logits);
        // The names are taken out, so that what is allowed is summed without them and exact where they have it all.
        let names = loss.names.map(|name| name as usize);
        let of_names = names.map(|name| std::mem::replace(&mut logits[name], f32::MIN));
        let (shift, _) = vector::largest(logits);
        let rest = vector::exp_sum(logits, 1.0, shift);
        let wrong: [bool; 4] = std::array::from_fn(|stage| match prediction.transition {
            Transition::Opens(opened) => stage != opened,
            Transition::Ends => true,
            // A stage's own name inside it breaks nothing.
            Transition::Inside => stage != prediction.stage,
        });
        let sum = |with: &dyn Fn(usize) -> bool| {
            let top = of_names.iter().enumerate().filter(|(n, _)| with(*n)).fold(shift, |top, (_, l)| top.max(*l));
            let names = (0..4).filter(|n| with(*n)).map(|n| f64::from(of_names[n] - top).exp());
            f64::from(top) + (f64::from(rest) * f64::from(shift - top).exp() + names.sum::<f64>()).ln()
        };
        let (all, allowed) = (sum(&|_| true), sum(&|stage| !wrong[stage]));
        let nll = all - f64::from(of_target);
        let wrong_loss = (all - allowed).max(0.0);
        let smoothing = loss.label_smoothing;
        let mixed = (1.0 - smoothing) * nll + smoothing * (all - mean);
        self.told = Told { nll, wrong: wrong_loss, correct: best == target };
        self.loss = prediction.weight * mixed + f64::from(*share) * wrong_loss;

        let (weight, share) = (prediction.weight, f64::from(*share));
        // Rows hold e^(l - shift): p = that times e^(shift - all).
        let factor = (weight + share) * (f64::from(shift) - all).exp() - share * (f64::from(shift) - allowed).exp();
        vector::affine(logits, factor as f32, (-weight * smoothing / size as f64) as f32);
        for (stage, name) in names.into_iter().enumerate() {
            let l = f64::from(of_names[stage]);
            let p_allowed = if wrong[stage] { 0.0 } else { (l - allowed).exp() };
            let d = (weight + share) * (l - all).exp() - share * p_allowed - weight * smoothing / size as f64;
            logits[name] = d as f32;
        }
        logits[target] -= (weight * (1.0 - smoothing)) as f32;
    }
}
