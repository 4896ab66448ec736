//! Scoring a model: a fixed list of units for the workers, their results to figures, rows and a table.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use coordinator_core::Purpose;
use coordinator_core::statistics::Statistics;
use polya_datasets::evaluation::{PromptSet, Row, Verdicts, write_rows};
use polya_datasets::scores::{Figure, ProblemVerdict, Summary, TokenCount, paired_accuracy};
use polya_proto::v1;

use crate::run_data::RunData;
use crate::wire;

/// A running evaluation.
pub struct Evaluation {
    /// What for.
    pub purpose: Purpose,
    /// On the state of which step.
    pub step: u64,
    first_unit: u64,
    units: Vec<Unit>,
    results: BTreeMap<u64, v1::evaluation_done::Result>,
}

enum Unit {
    Generate(Vec<(PromptSet, usize, String, Vec<u32>)>),
    Holdout(Vec<v1::Sample>),
}

/// Scores and the verdicts behind them.
pub struct Scores {
    /// The figures of the contract.
    pub summary: Summary,
    /// One a problem.
    pub problems: Vec<ProblemVerdict>,
    /// Mean holdout loss a learned token, nats.
    pub holdout_loss: Option<f64>,
    rows: Vec<Row>,
}

impl Evaluation {
    /// Cuts an evaluation into units, numbered from `first_unit`. The cut depends on configuration and data only.
    pub fn plan(purpose: Purpose, step: u64, first_unit: u64, data: &RunData, batch: usize) -> Result<Self> {
        let mut units: Vec<Unit> = data.holdout.iter().cloned().map(Unit::Holdout).collect();
        if purpose != Purpose::Holdout {
            let mut prompts = vec![];
            for (set, index, text) in data.bench.prompts(&data.form)? {
                let ids = data.ids(&text)?;
                prompts.push((set, index, text, ids));
            }
            // Rows of one kind and a similar length end together.
            prompts.sort_by_key(|(set, index, _, ids)| (*set, ids.len(), *index));
            for set in PromptSet::ALL {
                let of_set: Vec<_> = prompts.iter().filter(|prompt| prompt.0 == set).cloned().collect();
                units.extend(of_set.chunks(batch).map(|chunk| Unit::Generate(chunk.to_vec())));
            }
        }
        Ok(Evaluation { purpose, step, first_unit, units, results: BTreeMap::new() })
    }

    /// How many units.
    pub fn units(&self) -> u64 {
        self.units.len() as u64
    }

    /// Units that have come back.
    pub fn done(&self) -> u64 {
        self.results.len() as u64
    }

    /// The work of a unit.
    pub fn work(&self, unit: u64, max_tokens: u32, batch: u32) -> Option<v1::Evaluate> {
        let index = unit.checked_sub(self.first_unit)?;
        let work = match self.units.get(index as usize)? {
            Unit::Holdout(samples) => v1::evaluate::Work::Holdout(v1::HoldoutWork { samples: samples.clone() }),
            Unit::Generate(prompts) => {
                let prompts = prompts.iter().map(|(_, _, _, ids)| v1::Prompt { ids: ids.clone() }).collect();
                v1::evaluate::Work::Generate(v1::GenerateWork { prompts, max_tokens, batch })
            }
        };
        let adapters = self.purpose != Purpose::Base;
        Some(v1::Evaluate { unit, step: self.step, adapters, work: Some(work) })
    }

    /// Takes a unit's result; the first one counts. True if it is this one.
    pub fn take(&mut self, unit: u64, result: v1::evaluation_done::Result) -> bool {
        let is_wanted = unit.checked_sub(self.first_unit).is_some_and(|index| index < self.units());
        let counts = is_wanted && !self.results.contains_key(&unit);
        if counts {
            self.results.insert(unit, result);
        }
        counts
    }

    /// All results to scores.
    pub fn score(self, data: &RunData, seed: u64) -> Result<Scores> {
        let (mut total, mut verdicts) = (Statistics::default(), Verdicts::default());
        for (unit, index) in self.units.iter().zip(self.first_unit..) {
            match (unit, self.results.get(&index)) {
                (Unit::Holdout(_), Some(v1::evaluation_done::Result::Holdout(statistics))) => {
                    total.add(&wire::statistics(statistics.clone())?);
                }
                (Unit::Generate(prompts), Some(v1::evaluation_done::Result::Generated(generated)))
                    if generated.continuations.len() == prompts.len() =>
                {
                    for ((set, index, prompt, _), continuation) in prompts.iter().zip(&generated.continuations) {
                        verdicts.judge(&data.bench, (*set, *index), prompt, &continuation.text);
                    }
                }
                _ => anyhow::bail!("a worker's answer to unit {index} of the evaluation is not what was asked for"),
            }
        }
        let counts = total.stages.map(|stage| TokenCount { correct: stage.correct, tokens: stage.tokens });
        let summary = verdicts.summary(&counts, seed);
        let Verdicts { problems, rows, .. } = verdicts;
        Ok(Scores { summary, problems, holdout_loss: total.mean_loss_over_stages(), rows })
    }
}

/// Writes `evaluation/step-*.json` and `.parquet`; the base's carry step 0.
pub fn write(run_dir: &Path, name: &str, step: u64, scores: &Scores) -> Result<()> {
    let folder = run_dir.join("evaluation");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    write_rows(&folder.join(format!("{name}.parquet")), step, &scores.rows)?;
    let json = serde_json::json!({
        "step": step,
        "holdout_loss": scores.holdout_loss,
        "scores": scores.summary,
        "problems": scores.problems,
    });
    write_json(&folder.join(format!("{name}.json")), &json)
}

/// Writes `evaluation/final.json`: before and after, and the paired change of accuracy.
pub fn write_final(run_dir: &Path, trained: &Scores) -> Result<Option<FinalTable>> {
    let path = run_dir.join("evaluation/step-000000.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut base: serde_json::Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let problems: Vec<ProblemVerdict> = serde_json::from_value(base["problems"].take())?;
    let change = paired_accuracy(&problems, &trained.problems, 0);
    let before: Summary = serde_json::from_value(base["scores"].take())?;
    let json = serde_json::json!({ "base": before, "trained": trained.summary, "accuracy_change": change });
    write_json(&run_dir.join("evaluation/final.json"), &json)?;
    Ok(Some(FinalTable { before, after: trained.summary.clone(), change }))
}

fn write_json(path: &Path, json: &serde_json::Value) -> Result<()> {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, format!("{json:#}\n")).with_context(|| temporary.display().to_string())?;
    std::fs::rename(&temporary, path).with_context(|| path.display().to_string())
}

/// The printed table.
pub struct FinalTable {
    before: Summary,
    after: Summary,
    change: Figure,
}

impl std::fmt::Display for FinalTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rule = |left, middle, right| {
            format!("{left}{}{middle}{}{middle}{}{right}", "─".repeat(29), "─".repeat(33), "─".repeat(33))
        };
        writeln!(formatter, "{}", rule('┌', '┬', '┐'))?;
        writeln!(formatter, "│ {:<27} │ {:<31} │ {:<31} │", "95 % intervals", "before training", "after training")?;
        writeln!(formatter, "{}", rule('├', '┼', '┤'))?;
        for ((name, before), (_, after)) in self.before.figures().into_iter().zip(self.after.figures()) {
            writeln!(formatter, "│ {name:<27} │ {before:<31} │ {after:<31} │")?;
        }
        writeln!(formatter, "{}", rule('└', '┴', '┘'))?;
        write!(formatter, "paired change of accuracy: {}", self.change)
    }
}
