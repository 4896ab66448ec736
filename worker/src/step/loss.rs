//! The step-aware loss of a microbatch: stage-weighted cross-entropy with label smoothing, plus the transition term.
//!
//! `L = sum of weight * ((1 - e) nll + e mean over V of -log p)` (smoothing: Szegedy et al. 2016, section 7) `+ epsilon *
//! (mean over openings + mean over insides of -log(1 - p_wrong))` a sample, over the step's samples. p_wrong is the
//! probability of stage names that would break the order. Source: docs/architecture.md, "The loss".

use polya_proto::v1::{MicrobatchStatistics, StageStatistics};
use tch::{Kind, Tensor};

use super::batch::{Prediction, Prepared, Transition, Weighing};
use crate::model::Transformer;

/// Logits that exist at once, at most.
const LOGITS_MAX: i64 = 1 << 22;

/// Constants of the loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// e
    pub label_smoothing: f64,
    /// epsilon
    pub transition: f64,
    /// First token of each stage's name.
    pub names: [i64; 4],
}

/// What came out of the rows.
pub struct Outcome {
    /// The microbatch's share of the step's loss.
    pub loss: f64,
    /// Its gradient in the hidden states, `[T, C]`; none without gradients.
    pub gradient: Option<Tensor>,
    /// Fixed-point sums.
    pub statistics: MicrobatchStatistics,
}

impl Loss {
    /// Loss, statistics and, where wanted, the gradient in the hidden states (after the last norm). The logits exist
    /// only for learned rows, and only a chunk of them at a time.
    pub fn evaluate(
        &self,
        model: &Transformer,
        hidden: &Tensor,
        prepared: &Prepared,
        weighing: Weighing,
        loss_scale: Option<f64>,
    ) -> Outcome {
        let rows_max = (LOGITS_MAX / model.config.vocabulary).clamp(16, 4096) as usize;
        let mut counts = Counts::new(prepared);
        let mut gradient = loss_scale.map(|_| hidden.zeros_like());
        let on = |tensor: Tensor| tensor.to_device(hidden.device());
        let mut total = 0.0;
        for chunk in prepared.predictions.chunks(rows_max) {
            let rows = on(Tensor::from_slice(&chunk.iter().map(|p| p.row).collect::<Vec<_>>()));
            let picked = hidden.detach().index_select(0, &rows).set_requires_grad(loss_scale.is_some());
            let targets = on(Tensor::from_slice(&chunk.iter().map(|p| p.target).collect::<Vec<_>>()));
            let weights = on(Tensor::from_slice(&chunk.iter().map(|p| p.weight as f32).collect::<Vec<_>>()));
            let log_p = model.logits(&picked).log_softmax(-1, Kind::Float);
            let nll = -log_p.gather(1, &targets.unsqueeze(1), false).squeeze_dim(1);
            let smooth = -log_p.mean_dim([-1i64].as_slice(), false, Kind::Float);
            let mixed = &nll * (1.0 - self.label_smoothing) + smooth * self.label_smoothing;
            let mut loss = (mixed * weights).sum(Kind::Float);
            let wrong = self.wrong(&log_p, chunk);
            if self.transition > 0.0 {
                let share = |prediction| self.share(&counts, prediction, weighing);
                let shares = on(Tensor::from_slice(&chunk.iter().map(share).collect::<Vec<_>>()));
                loss += (&wrong * shares).sum(Kind::Float);
            }
            total += f64::try_from(&loss).unwrap_or(f64::NAN);
            let correct = Vec::<bool>::try_from(log_p.argmax(-1, false).eq_tensor(&targets)).unwrap_or_default();
            let floats = |tensor: &Tensor| crate::quantization::floats(tensor);
            for (((prediction, nll), wrong), correct) in chunk.iter().zip(floats(&nll)).zip(floats(&wrong)).zip(correct)
            {
                let told = Told { nll: f64::from(nll), wrong: f64::from(wrong), correct };
                counts.add(prediction, prepared, told);
            }
            if let (Some(gradient), Some(scale)) = (&mut gradient, loss_scale) {
                let part = Tensor::run_backward(&[loss * scale], &[&picked], false, false).remove(0);
                let _ = gradient.index_add_(0, &rows, &part);
            }
        }
        Outcome { loss: total, gradient, statistics: counts.statistics() }
    }

    /// Weight of a prediction's transition term in the step's loss.
    pub(crate) fn share(&self, counts: &Counts, prediction: &Prediction, weighing: Weighing) -> f32 {
        let (openings, insides) = counts.of_samples[prediction.sample];
        let count = if prediction.transition == Transition::Inside { insides } else { openings };
        (self.transition / f64::from(count.max(1)) / weighing.samples) as f32
    }

    /// -log(1 - p_wrong) of each row, through the complement's logsumexp: exact where p_wrong is near 1.
    fn wrong(&self, log_p: &Tensor, chunk: &[Prediction]) -> Tensor {
        let on = |tensor: Tensor| tensor.to_device(log_p.device());
        let names = on(Tensor::from_slice(&self.names));
        let allowed: Vec<f32> = chunk
            .iter()
            .flat_map(|prediction| {
                (0..4).map(|stage| {
                    let right = match prediction.transition {
                        Transition::Opens(opened) => stage == opened,
                        Transition::Ends => false,
                        // A stage's own name inside it breaks nothing.
                        Transition::Inside => stage == prediction.stage,
                    };
                    f32::from(u8::from(right))
                })
            })
            .collect();
        let wrong = on(Tensor::from_slice(&allowed)).view([-1, 4]).eq(0.0);
        let masked = log_p.index_select(1, &names).masked_fill(&wrong, f64::NEG_INFINITY);
        let complement = log_p.index_fill(1, &names, f64::NEG_INFINITY);
        let complement = Tensor::cat(&[complement, masked], 1).logsumexp([-1i64].as_slice(), false);
        -complement.clamp_max(0.0)
    }
}

/// What one row's logits say of its prediction.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    /// Cross-entropy without smoothing.
    pub(crate) nll: f64,
    /// -log(1 - p_wrong)
    pub(crate) wrong: f64,
    /// The most probable token is the target.
    pub(crate) correct: bool,
}

/// The statistics of a microbatch while its rows come in.
pub(crate) struct Counts {
    /// How many openings and insides each sample has.
    of_samples: Vec<(u32, u32)>,
    /// Their sums of -log(1 - p_wrong).
    sums: Vec<(f64, f64)>,
    statistics: MicrobatchStatistics,
}

impl Counts {
    pub(crate) fn new(prepared: &Prepared) -> Self {
        let mut of_samples = vec![(0, 0); prepared.clean.len()];
        for prediction in &prepared.predictions {
            let (openings, insides) = &mut of_samples[prediction.sample];
            *(if prediction.transition == Transition::Inside { insides } else { openings }) += 1;
        }
        let statistics = MicrobatchStatistics {
            stages: vec![StageStatistics::default(); 4],
            samples: prepared.clean.len() as u32,
            tokens: prepared.batch.tokens() as u64,
            ..MicrobatchStatistics::default()
        };
        Counts { sums: vec![(0.0, 0.0); of_samples.len()], of_samples, statistics }
    }

    pub(crate) fn add(&mut self, prediction: &Prediction, prepared: &Prepared, told: Told) {
        let stage = &mut self.statistics.stages[prediction.stage];
        let loss = fixed(told.nll);
        stage.tokens += 1;
        stage.loss += loss;
        stage.correct += u64::from(told.correct);
        if prepared.clean[prediction.sample] {
            stage.clean_tokens += 1;
            stage.clean_loss += loss;
        }
        let (opening, inside) = &mut self.sums[prediction.sample];
        *(if prediction.transition == Transition::Inside { inside } else { opening }) += told.wrong;
    }

    pub(crate) fn statistics(mut self) -> MicrobatchStatistics {
        for ((opening, inside), (openings, insides)) in self.sums.iter().zip(&self.of_samples) {
            let mean = opening / f64::from((*openings).max(1)) + inside / f64::from((*insides).max(1));
            self.statistics.transition += fixed(mean);
        }
        self.statistics
    }
}

fn fixed(value: f64) -> i64 {
    (value / polya_proto::STATISTICS_UNIT).round() as i64
}
