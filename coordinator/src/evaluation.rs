//! Scoring a model: a fixed list of units for the workers, their results to figures, rows and a table.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow_array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, UInt64Array};
use coordinator_core::Purpose;
use coordinator_core::statistics::Statistics;
use parquet::arrow::ArrowWriter;
use polya_datasets::scores::{
    ControlVerdict, Figure, ProbeVerdict, ProblemVerdict, Summary, TokenCount, paired_accuracy, score_control,
    score_probe, score_problem, stages, summarise,
};
use polya_proto::v1;

use crate::run_data::{PromptSet, RunData};
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

struct Row {
    set: PromptSet,
    id: String,
    prompt: String,
    text: String,
    answer: Option<String>,
    verdict: serde_json::Value,
    right: bool,
}

impl Evaluation {
    /// Cuts an evaluation into units, numbered from `first_unit`. The cut depends on configuration and data only.
    pub fn plan(purpose: Purpose, step: u64, first_unit: u64, data: &RunData, batch: usize) -> Result<Self> {
        let mut units: Vec<Unit> = data.holdout.iter().cloned().map(Unit::Holdout).collect();
        if purpose != Purpose::Holdout {
            let mut prompts = vec![];
            for (set, index, text) in data.prompts() {
                let ids = data.ids(&text)?;
                prompts.push((set, index, text, ids));
            }
            // Rows of one kind and a similar length end together.
            prompts.sort_by_key(|(set, index, _, ids)| (*set, ids.len(), *index));
            for set in [PromptSet::Problem, PromptSet::Probe, PromptSet::Control] {
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

    /// Takes a unit's result; the first one counts.
    pub fn take(&mut self, unit: u64, result: v1::evaluation_done::Result) {
        if unit.checked_sub(self.first_unit).is_some_and(|index| index < self.units()) {
            self.results.entry(unit).or_insert(result);
        }
    }

    /// All results to scores.
    pub fn score(self, data: &RunData, seed: u64) -> Result<Scores> {
        let (mut problems, mut probes, mut controls) = (vec![], vec![], vec![]);
        let (mut total, mut rows) = (Statistics::default(), vec![]);
        for (unit, index) in self.units.iter().zip(self.first_unit..) {
            match (unit, self.results.get(&index)) {
                (Unit::Holdout(_), Some(v1::evaluation_done::Result::Holdout(statistics))) => {
                    total.add(&wire::statistics(statistics.clone())?);
                }
                (Unit::Generate(prompts), Some(v1::evaluation_done::Result::Generated(generated)))
                    if generated.continuations.len() == prompts.len() =>
                {
                    for ((set, index, prompt, _), continuation) in prompts.iter().zip(&generated.continuations) {
                        let row = judge(
                            data,
                            *set,
                            *index,
                            prompt,
                            &continuation.text,
                            (&mut problems, &mut probes, &mut controls),
                        );
                        rows.push(row);
                    }
                }
                _ => anyhow::bail!("a worker's answer to unit {index} of the evaluation is not what was asked for"),
            }
        }
        let counts = total.stages.map(|stage| TokenCount { correct: stage.correct, tokens: stage.tokens });
        problems.sort_by(|a: &ProblemVerdict, b| a.problem.cmp(&b.problem));
        let summary = summarise(&problems, &probes, &controls, &counts, seed);
        Ok(Scores { summary, problems, holdout_loss: total.mean_loss_over_stages(), rows })
    }
}

fn judge(
    data: &RunData,
    set: PromptSet,
    index: usize,
    prompt: &str,
    text: &str,
    (problems, probes, controls): (&mut Vec<ProblemVerdict>, &mut Vec<ProbeVerdict>, &mut Vec<ControlVerdict>),
) -> Row {
    let row = |id: &str, answer: Option<String>, right: bool, verdict: serde_json::Result<serde_json::Value>| Row {
        set,
        id: id.to_owned(),
        prompt: prompt.to_owned(),
        text: text.to_owned(),
        answer,
        verdict: verdict.unwrap_or_default(),
        right,
    };
    match set {
        PromptSet::Problem => {
            let teacher = &data.problems[index];
            let verdict = score_problem(&teacher.question, teacher, text, &teacher.language);
            problems.push(verdict.clone());
            row(&teacher.id, verdict.answer.clone(), verdict.correct, serde_json::to_value(&verdict))
        }
        PromptSet::Probe => {
            let planted = &data.probes[index].0;
            let verdict = score_probe(planted, text);
            probes.push(verdict.clone());
            row(&planted.id, verdict.answer.clone(), verdict.corrected, serde_json::to_value(&verdict))
        }
        PromptSet::Control => {
            let control = &data.probes[index].1;
            let verdict = score_control(control, text);
            controls.push(verdict.clone());
            row(&control.id, verdict.answer.clone(), !verdict.false_alarm, serde_json::to_value(&verdict))
        }
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
    let summary = serde_json::to_value(&trained.summary)?;
    let json = serde_json::json!({ "base": base["scores"], "trained": summary, "accuracy_change": change });
    write_json(&run_dir.join("evaluation/final.json"), &json)?;
    Ok(Some(FinalTable { json }))
}

fn write_json(path: &Path, json: &serde_json::Value) -> Result<()> {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, format!("{json:#}\n")).with_context(|| temporary.display().to_string())?;
    std::fs::rename(&temporary, path).with_context(|| path.display().to_string())
}

fn write_rows(path: &Path, step: u64, rows: &[Row]) -> Result<()> {
    let text = |of: &dyn Fn(&Row) -> String| -> ArrayRef {
        Arc::new(rows.iter().map(|r| Some(of(r))).collect::<StringArray>())
    };
    let stage = |row: &Row, stage: usize| {
        let whole = format!("{}{}", if row.set == PromptSet::Problem { "" } else { &row.prompt }, row.text);
        stages::parse(&whole)[stage].clone().map(|range| whole[range].to_owned()).unwrap_or_default()
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("step", Arc::new(UInt64Array::from(vec![step; rows.len()]))),
        ("set", text(&|row| row.set.name().to_owned())),
        ("id", text(&|row| row.id.clone())),
        ("prompt", text(&|row| row.prompt.clone())),
        ("text", text(&|row| row.text.clone())),
        ("understand", text(&|row| stage(row, 0))),
        ("plan", text(&|row| stage(row, 1))),
        ("execute", text(&|row| stage(row, 2))),
        ("verify", text(&|row| stage(row, 3))),
        ("answer", Arc::new(rows.iter().map(|row| row.answer.clone()).collect::<StringArray>())),
        ("right", Arc::new(rows.iter().map(|row| Some(row.right)).collect::<BooleanArray>())),
        ("rfs", Arc::new(rows.iter().map(|row| row.verdict["rfs"]["f1"].as_f64()).collect::<Float64Array>())),
        ("verdict", text(&|row| row.verdict.to_string())),
    ];
    let batch = RecordBatch::try_from_iter(columns)?;
    let temporary = path.with_extension("tmp");
    let file = std::fs::File::create(&temporary).with_context(|| temporary.display().to_string())?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    std::fs::rename(&temporary, path).with_context(|| path.display().to_string())
}

/// The printed table.
pub struct FinalTable {
    json: serde_json::Value,
}

impl std::fmt::Display for FinalTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const ROWS: [(&str, &str); 14] = [
            ("accuracy", "/accuracy"),
            ("RFS (faithfulness)", "/rfs"),
            ("RFS-format", "/rfs_format"),
            ("SVR: correction", "/svr/correction"),
            ("SVR: detection", "/svr/detection"),
            ("SVR: false alarm", "/svr/false_alarm"),
            ("J = detection - false alarm", "/svr/j"),
            ("SVR-live: repaired", "/svr/live"),
            ("SVR-live: broken", "/svr/broken"),
            ("SVR-live: net gain", "/svr/net_gain"),
            ("token accuracy UNDERSTAND", "/per_stage_accuracy/understand"),
            ("token accuracy PLAN", "/per_stage_accuracy/plan"),
            ("token accuracy EXECUTE", "/per_stage_accuracy/execute"),
            ("token accuracy VERIFY", "/per_stage_accuracy/verify"),
        ];
        let figure = |value: Option<&serde_json::Value>| -> String {
            let figure: Option<Figure> = value.and_then(|value| serde_json::from_value(value.clone()).ok());
            match figure {
                Some(Figure { value: Some(value), low: Some(low), high: Some(high), n }) => {
                    format!("{:5.1} % [{:5.1}, {:5.1}] n={n}", 100.0 * value, 100.0 * low, 100.0 * high)
                }
                _ => "-".to_owned(),
            }
        };
        let rule = |left, middle, right| {
            format!("{left}{}{middle}{}{middle}{}{right}", "─".repeat(29), "─".repeat(33), "─".repeat(33))
        };
        writeln!(formatter, "{}", rule('┌', '┬', '┐'))?;
        writeln!(formatter, "│ {:<27} │ {:<31} │ {:<31} │", "95 % intervals", "before training", "after training")?;
        writeln!(formatter, "{}", rule('├', '┼', '┤'))?;
        for (name, pointer) in ROWS {
            let before = figure(self.json["base"].pointer(pointer));
            let after = figure(self.json["trained"].pointer(pointer));
            writeln!(formatter, "│ {name:<27} │ {before:<31} │ {after:<31} │")?;
        }
        writeln!(formatter, "{}", rule('└', '┴', '┘'))?;
        write!(formatter, "paired change of accuracy: {}", figure(self.json.get("accuracy_change")))
    }
}
