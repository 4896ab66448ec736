//! What an audit found, as text and as JSON.

use std::fmt;
use std::path::Path;

use coordinator_core::Digest;
use coordinator_core::audit::Audit;
use serde_json::{Value, json};

use crate::checkpoints;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    report: Audit,
    /// Head of the hash chain, if the chain is whole.
    pub(super) head: Option<Digest>,
    pub(super) chain_ok: bool,
    checkpoints_ok: bool,
    /// Checkpoints that are on disk and were checked.
    checkpoints: u64,
    pub(super) faults: Vec<String>,
}

impl Proof {
    /// Takes what the records prove, and checks the checkpoints on disk against them.
    pub(super) fn judge(&mut self, run_dir: &Path, report: Audit) {
        self.faults.extend(report.faults.iter().cloned());
        if report.more_faults > 0 {
            self.faults.push(format!("and {} more", report.more_faults));
        }
        self.report = report;
        self.checkpoints_ok = self.chain_ok;
        for (&step, &(manifest, state)) in &self.report.checkpoints {
            let folder = checkpoints::folder(run_dir, step);
            if !folder.exists() {
                continue; // pruned: checkpoint.keep
            }
            let fault = match checkpoints::verify(&folder) {
                Ok((_, found)) if found != manifest => {
                    format!("{}: its manifest is not the journal's", folder.display())
                }
                Ok((found, _)) if Some(found.state) != state => {
                    format!("{}: its state is not the committed one", folder.display())
                }
                Err(_) if !folder.exists() => continue, // pruned meanwhile by a live run
                Err(error) => error.to_string(),
                Ok(_) => {
                    self.checkpoints += 1;
                    continue;
                }
            };
            self.checkpoints_ok = false;
            self.faults.push(fault);
        }
    }

    /// Whether everything holds.
    pub(crate) fn holds(&self) -> bool {
        let Audit { duplicates, missing, holdout_leaks, .. } = self.report;
        self.chain_ok && self.checkpoints_ok && duplicates + missing + holdout_leaks == 0 && self.faults.is_empty()
    }

    /// All but the digests of the steps.
    pub(super) fn json(&self) -> Value {
        let report = &self.report;
        let class = |(digest, words): &(Digest, String)| json!({ "digest": digest, "words": words });
        let classes: Vec<Value> = report.classes.iter().map(class).collect();
        json!({
            "steps": report.steps, "samples": report.samples, "epochs": report.epochs,
            "duplicates": report.duplicates, "missing": report.missing, "holdout_leaks": report.holdout_leaks,
            "recomputed": report.recomputed, "classes": classes, "mixed": classes.len() > 1, "chain_ok": self.chain_ok, "checkpoints_ok": self.checkpoints_ok,
            "checkpoints": self.checkpoints, "digest": report.last.map(|(_, digest)| digest), "head": self.head,
            "ended": report.ended, "faults": self.faults,
        })
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.report;
        let word = |ok: bool| if ok { "whole" } else { "DAMAGED" };
        writeln!(f, "steps {}, samples {}, finished epochs {}", report.steps, report.samples, report.epochs)?;
        writeln!(
            f,
            "duplicates {}, missing {}, holdout leaks {}, recomputed {}",
            report.duplicates, report.missing, report.holdout_leaks, report.recomputed
        )?;
        let mixed = if report.classes.len() > 1 { "; MIXED: the outcome depends on who computed what" } else { "" };
        for (digest, words) in &report.classes {
            writeln!(f, "class of arithmetic {digest}: {words}{mixed}")?;
        }
        let (chain, checkpoints) = (word(self.chain_ok), word(self.checkpoints_ok));
        writeln!(f, "hash chain {chain}, checkpoints {checkpoints} ({} on disk)", self.checkpoints)?;
        if let Some((step, digest)) = report.last {
            writeln!(f, "state after step {step}: {digest}")?;
        }
        if let Some(head) = self.head {
            writeln!(f, "head of the hash chain, to be published: {head}")?;
        }
        self.faults.iter().try_for_each(|fault| writeln!(f, "FAULT: {fault}"))?;
        writeln!(f, "{}", if self.holds() { "proven" } else { "NOT proven" })
    }
}
