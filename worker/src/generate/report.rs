//! Says now and then how far a long generation is.

use std::time::{Duration, Instant};

use super::{Event, Generated};

/// Time between two reports.
const EVERY: Duration = Duration::from_secs(10);

/// Counts what is generated.
pub struct Report {
    prompts: usize,
    finished: usize,
    tokens: usize,
    started: Instant,
    told: Instant,
}

impl Report {
    /// For so many prompts.
    pub fn new(prompts: usize) -> Self {
        let now = Instant::now();
        Report { prompts, finished: 0, tokens: 0, started: now, told: now }
    }

    /// Takes an event in; logs every ten seconds.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Token { .. } => self.tokens += 1,
            Event::Finished { .. } => self.finished += 1,
        }
        if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            tracing::info!(finished = self.finished, of = self.prompts, tokens_per_s = self.rate(), "generating");
        }
    }

    /// The end of a generation that took long enough to be reported on.
    pub fn end(&self, generated: &Generated) {
        if self.started.elapsed() >= EVERY {
            tracing::info!(
                prompts = self.prompts,
                tokens_per_s = self.rate(),
                prompt_tokens = generated.prompt_tokens,
                computed = generated.prompt_tokens_read,
                cache_mib = generated.cache_bytes >> 20,
                "generated"
            );
        }
    }

    fn rate(&self) -> u64 {
        (self.tokens as f64 / self.started.elapsed().as_secs_f64().max(1e-3)) as u64
    }
}
