//! The keys and what they may hold.

use serde::{Deserialize, Serialize};

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `nf4` or `none`.
    pub quantisation: String,
    /// A worker that is silent for longer is lost, for example `2s`.
    pub failure_detection: String,
    /// The run itself.
    pub run: Run,
    /// The model that is adapted.
    pub base: Base,
    /// What is learned.
    pub data: Data,
    /// How long and how fast.
    pub train: Train,
    /// How steps are cut.
    pub batch: Batch,
    /// The adapters.
    pub adapter: Adapter,
    /// The loss.
    pub loss: Loss,
    /// AdamW.
    pub optimizer: Optimizer,
    /// Checkpoints.
    pub checkpoint: Checkpoint,
    /// Scores.
    pub evaluation: Evaluation,
    /// The workers.
    pub worker: Worker,
}

/// `[run]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Keys everything random.
    pub seed: u64,
    /// Fewer current workers: wait.
    pub min_workers: usize,
    /// One microbatch in so many is computed by a second worker too, and compared; 0: none.
    pub second_computation: u32,
    /// Workers of another class of arithmetic are admitted and written down, not refused.
    pub allow_mixed: bool,
    /// The run whose adapters this one begins with, by step, state and head of its chain; `--from` writes it.
    pub parent: String,
}

/// `[base]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// A Hugging Face directory; empty: the built-in base.
    pub path: String,
}

/// `[data]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Parquet of trajectories; empty: the built-in problems.
    pub train: String,
    /// Parquet of the holdout; empty: split off by problem.
    pub holdout: String,
    /// Share of problems that is split off.
    pub holdout_fraction: f64,
    /// How many built-in problems.
    pub synthetic_count: u64,
    /// Share of the built-in problems in which an error is planted and corrected.
    pub corrective_fraction: f64,
    /// `plain`, or `chat`: questions are asked through the base's own chat template.
    pub prompt: String,
}

/// `[train]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Optimiser steps; 0: by epochs.
    pub steps: u64,
    /// Passes over the data.
    pub epochs: u32,
    /// Highest rate.
    pub learning_rate: f64,
    /// Rate at the end.
    pub minimum_learning_rate: f64,
    /// Steps of warm-up; 0: a tenth of the run, 300 at most.
    pub warmup_steps: u64,
    /// Longer samples are rejected with a count.
    pub max_length: u32,
}

/// `[batch]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Token budget of a microbatch.
    pub tokens_per_microbatch: u32,
    /// Microbatches in a step.
    pub microbatches_per_step: u32,
}

/// `[adapter]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapter {
    /// Rank.
    pub rank: u32,
    /// Scale is alpha / rank.
    pub alpha: f64,
    /// Dropout before A.
    pub dropout: f64,
    /// Whether the second adapter exists.
    pub verification: bool,
    /// Adapters to begin with: a folder with reasoning/ and/or verification/, or one PEFT folder; empty: fresh ones.
    pub path: String,
}

/// `[loss]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// `static`: the weights below; `dynamic`: they follow the stages' progress; `uniform`: each token weighs the same.
    pub mode: String,
    /// Weight of the transition term.
    pub transition: f64,
    /// Label smoothing.
    pub label_smoothing: f64,
    /// Weight of each stage.
    pub weights: Weights,
}

/// `[loss.weights]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Of UNDERSTAND.
    pub understand: f32,
    /// Of PLAN.
    pub plan: f32,
    /// Of EXECUTE.
    pub execute: f32,
    /// Of VERIFY.
    pub verify: f32,
}

/// `[optimizer]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// l2 norm to which the gradient is clipped; 0: never.
    pub clip_norm: f64,
}

/// `[checkpoint]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Steps between two; 0: at the end only.
    pub every: u64,
    /// How many of the newest are kept, the best one beside them.
    pub keep: u64,
    /// Where checkpoints and journal are copied to: `s3://`, `gs://`, `az://` or `file:///`; empty: nowhere.
    pub store: String,
}

/// `[evaluation]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Steps between two; 0: before and after only.
    pub every: u64,
    /// Problems, probes and controls, each; 0: none.
    pub samples: u64,
    /// Longest generated answer.
    pub max_tokens: u32,
    /// Rows decoded together.
    pub batch: u32,
}

/// `[worker]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// Threads of libtorch, a constant of the run.
    pub threads: u32,
    /// `auto`, `cpu` or `cuda`.
    pub device: String,
    /// How long a local worker waits for a lost coordinator.
    pub park_limit: String,
    /// Of so many layers, the first ones, activations are made again in the backward pass instead of kept.
    pub recompute_layers: u32,
}

/// Milliseconds of `300ms`, `2s`, `5m`.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    match &text[digits..] {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" | "min" => number.checked_mul(60_000),
        _ => None,
    }
}

impl Config {
    /// `failure_detection` in milliseconds.
    pub fn failure_detection_ms(&self) -> u64 {
        milliseconds(&self.failure_detection).expect("checked when the configuration was loaded")
    }

    /// `worker.park_limit` in milliseconds.
    pub fn park_limit_ms(&self) -> u64 {
        milliseconds(&self.worker.park_limit).expect("checked when the configuration was loaded")
    }

    /// The first value that cannot be: its key and what is expected.
    pub(super) fn first_fault(&self) -> Option<(&'static str, &'static str)> {
        let share = |value: f64| (0.0..1.0).contains(&value);
        let above = |value: f64| value.is_finite() && value > 0.0;
        let not_below = |value: f64| value.is_finite() && value >= 0.0;
        let weights = &self.loss.weights;
        let all_weights = [weights.understand, weights.plan, weights.execute, weights.verify];
        let detection = milliseconds(&self.failure_detection);
        let checks = [
            ("quantisation", ["nf4", "none"].contains(&self.quantisation.as_str()), "`nf4` or `none`"),
            (
                "failure_detection",
                detection.is_some_and(|ms| (100..=600_000).contains(&ms)),
                "between `100ms` and `10m`",
            ),
            (
                "worker.park_limit",
                milliseconds(&self.worker.park_limit).is_some_and(|ms| ms > 0),
                "a time such as `60s`",
            ),
            ("run.min_workers", self.run.min_workers >= 1, "at least 1"),
            ("data.holdout_fraction", share(self.data.holdout_fraction), "from 0 to less than 1"),
            ("data.corrective_fraction", (0.0..=1.0).contains(&self.data.corrective_fraction), "from 0 to 1"),
            (
                "data.prompt",
                match self.data.prompt.as_str() {
                    "chat" => !self.base.path.is_empty(),
                    form => form == "plain",
                },
                "`plain`, or `chat` with a base.path of an instruct base",
            ),
            ("data.synthetic_count", self.data.synthetic_count >= 1, "at least 1"),
            ("train.steps", self.train.steps > 0 || self.train.epochs > 0, "above 0 where train.epochs is 0"),
            ("train.learning_rate", above(self.train.learning_rate), "above 0"),
            ("train.minimum_learning_rate", not_below(self.train.minimum_learning_rate), "0 or above"),
            ("train.max_length", self.train.max_length >= 8, "at least 8"),
            ("batch.tokens_per_microbatch", self.batch.tokens_per_microbatch >= 8, "at least 8"),
            ("batch.microbatches_per_step", (1..=4096).contains(&self.batch.microbatches_per_step), "from 1 to 4096"),
            ("adapter.rank", (1..=1024).contains(&self.adapter.rank), "from 1 to 1024"),
            ("adapter.alpha", above(self.adapter.alpha), "above 0"),
            ("adapter.dropout", share(self.adapter.dropout), "from 0 to less than 1"),
            (
                "loss.mode",
                ["static", "dynamic", "uniform"].contains(&self.loss.mode.as_str()),
                "`static`, `dynamic` or `uniform`",
            ),
            ("loss.weights", all_weights.iter().all(|w| w.is_finite() && *w >= 0.0), "four numbers, none below 0"),
            ("loss.transition", not_below(self.loss.transition), "0 or above"),
            ("loss.label_smoothing", share(self.loss.label_smoothing), "from 0 to less than 1"),
            ("optimizer.beta1", share(self.optimizer.beta1), "from 0 to less than 1"),
            ("optimizer.beta2", share(self.optimizer.beta2), "from 0 to less than 1"),
            ("optimizer.epsilon", above(self.optimizer.epsilon), "above 0"),
            ("optimizer.weight_decay", not_below(self.optimizer.weight_decay), "0 or above"),
            ("optimizer.clip_norm", not_below(self.optimizer.clip_norm), "0 or above"),
            ("checkpoint.keep", self.checkpoint.keep >= 1, "at least 1"),
            ("evaluation.max_tokens", self.evaluation.max_tokens >= 1, "at least 1"),
            ("evaluation.batch", self.evaluation.batch >= 1, "at least 1"),
            ("worker.threads", (1..=1024).contains(&self.worker.threads), "from 1 to 1024"),
            (
                "worker.device",
                ["auto", "cpu", "cuda"].contains(&self.worker.device.as_str()),
                "`auto`, `cpu` or `cuda`",
            ),
        ];
        checks.into_iter().find(|(_, holds, _)| !holds).map(|(key, _, expected)| (key, expected))
    }
}
