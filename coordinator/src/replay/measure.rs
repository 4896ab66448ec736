//! Measuring each sample of a step alone: between the core's plan of the step and everything that follows, the samples are
//! leased one by one, and their results dropped. The sum of the step is not touched.

use polya_proto::STATISTICS_UNIT;
use polya_proto::v1::{self, coordinator_message::Body};
use serde::Serialize;

/// Samples that are leased at once: one in work, one waiting.
const LEASED: usize = 2;

/// Samples of one step, measured one by one.
pub(super) struct Measure {
    step: u64,
    attempt: u32,
    samples_in_step: u32,
    samples: Vec<v1::Sample>,
    leased: usize,
    results: Vec<Option<v1::Done>>,
    /// The core's orders of the step, while samples are measured.
    held: Vec<Body>,
    /// None: not begun.
    open: Option<bool>,
}

/// What one sample did in the step.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    id: String,
    microbatch: usize,
    /// Learned tokens.
    tokens: u64,
    /// Mean unsmoothed cross-entropy of the learned tokens, nats.
    loss: Option<f64>,
    /// The same by stage.
    stages: [Option<f64>; 4],
    /// l2 norm of the gradient of the sample's own loss.
    gradient_norm: f64,
}

impl Measured {
    pub(super) fn line(&self) -> String {
        let loss = |loss: Option<f64>| loss.map_or("-".to_owned(), |loss| format!("{loss:.4}"));
        let [u, p, e, v] = self.stages.map(loss);
        format!(
            "{:>4}  {:>10.3e}  {:>8}  {u:>8} {p:>8} {e:>8} {v:>8}  {}",
            self.microbatch,
            self.gradient_norm,
            loss(self.loss),
            self.id
        )
    }

    pub(super) fn heading() -> &'static str {
        "   k   grad norm      loss      U        P        E        V     sample"
    }
}

impl Measure {
    pub(super) fn new(step: u64, samples: Vec<v1::Sample>) -> Self {
        let results = samples.iter().map(|_| None).collect();
        Measure { step, attempt: 0, samples_in_step: 1, samples, leased: 0, results, held: vec![], open: None }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open == Some(true)
    }

    /// What of an order of the core's goes out now. The plan of the step opens the measuring.
    pub(super) fn before(&mut self, body: Body) -> Vec<Body> {
        match &body {
            Body::Plan(plan) if plan.step == self.step && self.open.is_none() => {
                self.open = Some(true);
                (self.attempt, self.samples_in_step) = (plan.attempt, plan.samples);
                self.held.push(body.clone());
                let leases: Vec<Body> = std::iter::from_fn(|| self.lease()).take(LEASED).collect();
                [body].into_iter().chain(leases).collect()
            }
            _ if self.is_open() => {
                self.held.push(body);
                vec![]
            }
            _ => vec![body],
        }
    }

    fn lease(&mut self) -> Option<Body> {
        let sample = self.samples.get(self.leased)?.clone();
        let microbatch = self.leased as u32;
        self.leased += 1;
        let (step, attempt) = (self.step, self.attempt);
        Some(Body::Lease(v1::Lease { step, attempt, microbatch, samples: vec![sample], measure: true }))
    }

    /// A sample is measured: its result is dropped and the next one leased.
    pub(super) fn take(&mut self, done: &v1::Done) -> Vec<Body> {
        let v1::Done { step, attempt, microbatch, .. } = *done;
        if let Some(result) = self.results.get_mut(microbatch as usize) {
            *result = Some(done.clone());
        }
        if self.results.iter().all(Option::is_some) {
            self.open = Some(false);
        }
        [Body::Drop(v1::Drop { step, attempt, microbatch })].into_iter().chain(self.lease()).collect()
    }

    /// The core's orders that waited, the plan first: it clears what was measured.
    pub(super) fn held_back(&mut self) -> Vec<Body> {
        std::mem::take(&mut self.held)
    }

    /// What was measured; `ids` are those of the step's microbatches, in the order of the samples.
    pub(super) fn results(&self, ids: &[Vec<String>]) -> Vec<Measured> {
        let places = ids.iter().enumerate().flat_map(|(k, ids)| ids.iter().map(move |id| (k, id)));
        let measured = |((microbatch, id), done): ((usize, &String), &Option<v1::Done>)| {
            let done = done.as_ref()?;
            let stages = &done.statistics.as_ref()?.stages;
            let mean = |loss: i64, tokens: u64| (tokens > 0).then(|| loss as f64 * STATISTICS_UNIT / tokens as f64);
            let tokens = stages.iter().map(|stage| stage.tokens).sum();
            Some(Measured {
                id: id.clone(),
                microbatch,
                tokens,
                loss: mean(stages.iter().map(|stage| stage.loss).sum(), tokens),
                stages: [0, 1, 2, 3].map(|at| stages.get(at).and_then(|stage| mean(stage.loss, stage.tokens))),
                // The worker's gradient is of the sample's share of the step's mean.
                gradient_norm: f64::from_bits(done.gradient_norm_bits) * f64::from(self.samples_in_step),
            })
        };
        places.zip(&self.results).filter_map(measured).collect()
    }
}
