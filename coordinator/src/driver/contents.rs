//! What only the shell knows: contents of orders, and the answer to `status`.

use coordinator_core::limits::Limits;
use coordinator_core::reason;
use polya_proto::v1;

use super::Driver;
use crate::config::Config;
use crate::wire::Contents;

/// How long workers that nobody spawned here wait for a lost coordinator.
const PARK_LIMIT_ELSEWHERE_MS: u64 = 600_000;

impl Contents for Driver {
    fn epoch(&self) -> u64 {
        self.core.journal().epoch()
    }

    fn welcome(&self) -> v1::Welcome {
        let park_limit_ms = if self.launcher.is_some() { self.config.park_limit_ms() } else { PARK_LIMIT_ELSEWHERE_MS };
        welcome(&self.config, self.epoch(), park_limit_ms)
    }

    fn samples(&self, step: u64, microbatch: u32) -> Vec<v1::Sample> {
        let microbatches = self.core.setup().schedule.microbatches(step);
        let indices = microbatches.get(microbatch as usize).map(Vec::as_slice).unwrap_or_default();
        indices.iter().map(|index| self.data.samples[*index as usize].clone()).collect()
    }

    fn evaluate(&self, unit: u64) -> Option<v1::Evaluate> {
        let config = &self.config.evaluation;
        self.evaluation.as_ref()?.work(unit, config.max_tokens, config.batch)
    }
}

impl Driver {
    /// What the run is doing and why it waits.
    pub(super) fn status(&self) -> v1::StatusReply {
        let why = reason::why(&self.core);
        let hello = |worker: &str| self.workers.values().find(|hello| hello.worker == worker);
        let workers = reason::workers(&self.core).into_iter().map(|of| v1::WorkerStatus {
            process: hello(&of.worker).map_or(0, |hello| hello.process),
            host: hello(&of.worker).map(|hello| hello.host.clone()).unwrap_or_default(),
            worker: of.worker,
            incarnation: of.incarnation,
            state: of.state,
            microbatches: of.owned,
            microbatches_ever: of.microbatches,
            milliseconds_per_microbatch: of.pace_ms,
            silent_ms: self.clock.now_ms().saturating_sub(of.heard_ms),
        });
        v1::StatusReply {
            step: self.core.journal().committed(),
            steps: self.core.setup().schedule.steps(),
            phase: why.phase,
            waiting_for: why.waiting_for,
            workers: workers.collect(),
            run_dir: self.run_dir.display().to_string(),
            waiting_ms: self.clock.now_ms().saturating_sub(why.since_ms),
            warnings: reason::warnings(&self.core),
            class: self.core.journal().classes().first().map(|class| class.words.clone()).unwrap_or_default(),
        }
    }
}

/// Welcome, with what of the configuration a worker needs.
pub(crate) fn welcome(config: &Config, coordinator_epoch: u64, park_limit_ms: u64) -> v1::Welcome {
    let limits = Limits::derived_from(config.failure_detection_ms());
    let absolute = |path: &str| match path {
        "" => String::new(),
        path => std::fs::canonicalize(path).map_or(path.to_owned(), |path| path.display().to_string()),
    };
    let settings = v1::Settings {
        seed: config.run.seed,
        base_path: absolute(&config.base.path),
        quantisation: config.quantisation.clone(),
        prompt_form: config.data.prompt.clone(),
        adapter_rank: config.adapter.rank,
        adapter_alpha: config.adapter.alpha,
        adapter_dropout: config.adapter.dropout,
        adapter_verification: config.adapter.verification,
        adapter_path: absolute(&config.adapter.path),
        loss_mode: config.loss.mode.clone(),
        loss_transition: config.loss.transition,
        label_smoothing: config.loss.label_smoothing,
        threads: config.worker.threads,
        // A run of before devices were resolved says auto, which was the processor.
        device: if config.worker.device == "cuda" { "cuda" } else { "cpu" }.to_owned(),
        beta1: config.optimizer.beta1,
        beta2: config.optimizer.beta2,
        epsilon: config.optimizer.epsilon,
        weight_decay: config.optimizer.weight_decay,
        clip_norm: config.optimizer.clip_norm,
        recompute_layers: config.worker.recompute_layers,
        failure_detection_ms: limits.failure_detection_ms,
        tokens_per_microbatch: config.batch.tokens_per_microbatch,
        collective_limit_ms: limits.collective_ms,
    };
    v1::Welcome { coordinator_epoch, settings: Some(settings), heartbeat_ms: limits.heartbeat_ms, park_limit_ms }
}
