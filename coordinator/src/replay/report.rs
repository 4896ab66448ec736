//! What a replay found, beside what the journal says.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result};
use coordinator_core::Digest;
use coordinator_core::record::Commit;
use polya_proto::v1;
use serde_json::{Value, json};

use super::measure::Measured;

/// What was found.
pub(super) struct Report {
    pub(super) step: u64,
    /// The checkpoint it began with; 0: the start of the run.
    pub(super) from: u64,
    pub(super) commit: Commit,
    /// Digest of each microbatch, as computed here.
    pub(super) done: BTreeMap<u32, u64>,
    /// The end of the step, as computed here.
    pub(super) ready: Option<v1::Ready>,
    pub(super) samples: Vec<Measured>,
    /// Why it was stopped.
    pub(super) ended: Option<String>,
}

impl Report {
    /// Digests of the sum and of the state, as computed here.
    fn found(&self) -> Option<(u64, Digest)> {
        let ready = self.ready.as_ref()?;
        Some((ready.sum_digest, Digest::from_bytes(&ready.state_digest)?))
    }

    /// Whether everything is as recorded, bit for bit.
    pub(super) fn equal(&self) -> bool {
        let recorded = (self.commit.sum_digest, self.commit.state);
        self.ended.is_none() && self.found() == Some(recorded) && self.unequal_microbatches().is_empty()
    }

    /// Microbatches whose digest is another one here, or missing.
    fn unequal_microbatches(&self) -> Vec<u32> {
        let differs = |(k, part): (&u32, &coordinator_core::record::CommittedMicrobatch)| {
            (self.done.get(k) != Some(&part.digest)).then_some(*k)
        };
        self.commit.microbatches.iter().filter_map(differs).collect()
    }

    /// Writes it to stdout.
    pub(super) fn say(&self, as_json: bool) -> Result<()> {
        let text = if as_json { format!("{:#}\n", self.json()) } else { self.text() };
        std::io::stdout().write_all(text.as_bytes()).context("writing to stdout")
    }

    fn json(&self) -> Value {
        let (sum, state) = self.found().unzip();
        let hex = |number: u64| format!("{number:016x}");
        json!({
            "step": self.step, "attempt": self.commit.attempt, "from_checkpoint": self.from, "equal": self.equal(),
            "sum_digest": { "recorded": hex(self.commit.sum_digest), "replayed": sum.map(hex) },
            "state": { "recorded": self.commit.state, "replayed": state },
            "unequal_microbatches": self.unequal_microbatches(), "reason": self.ended, "samples": self.samples,
        })
    }

    fn text(&self) -> String {
        let from = if self.from == 0 { "the start of the run".to_owned() } else { format!("step {}", self.from) };
        let mut text = format!("step {}, replayed from {from}\n{}\n", self.step, Measured::heading());
        self.samples.iter().for_each(|sample| text += &format!("{}\n", sample.line()));
        text += &format!("recorded  sum {:016x} state {}\n", self.commit.sum_digest, self.commit.state);
        if let Some((sum, state)) = self.found() {
            text += &format!("replayed  sum {sum:016x} state {state}\n");
        }
        for k in self.unequal_microbatches() {
            let worker = self.commit.microbatches.get(&k).map_or("", |part| &part.worker);
            text += &format!("microbatch {k}, which {worker} computed, is another one here\n");
        }
        self.ended.iter().for_each(|reason| text += &format!("{reason}\n"));
        text + if self.equal() { "equal, bit for bit\n" } else { "NOT equal\n" }
    }
}
