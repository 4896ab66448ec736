//! `coordinator compare A B`: the first step at which two runs differ, and why. Both journals are read side by side, a
//! segment of each in memory.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use coordinator_core::Record;
use coordinator_core::record::Commit;
use serde_json::{Value, json};

use crate::config;
use crate::exit::ExitError;
use crate::journal::{self, JournalError, Records};

/// One side, as far as it was read.
struct Side {
    records: Records,
    open: Option<Record>,
    /// Classes of arithmetic that took part so far, in words.
    classes: Vec<String>,
}

impl Side {
    fn open(dir: &Path) -> Result<Self, ExitError> {
        let path = journal::of_run(dir)?;
        Ok(Side { records: Records::open(&path)?, open: None, classes: vec![] })
    }

    /// The next committed step.
    fn next(&mut self) -> Result<Option<Box<Commit>>, JournalError> {
        for record in self.records.by_ref() {
            match record? {
                Record::Commit(commit) => return Ok(Some(commit)),
                open @ Record::Open { .. } => self.open = Some(open),
                Record::Class { digest, words } => self.classes.push(format!("{words} ({digest})")),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// What was found.
#[derive(Debug)]
struct Comparison {
    /// Steps that both have committed and that are equal.
    equal_steps: u64,
    /// The first step that differs.
    first_difference: Option<u64>,
    /// How it differs, and what about the runs does.
    reasons: Vec<String>,
    /// Further steps of the longer run.
    beyond: u64,
}

/// Runs the command; gives the exit code: 0 equal as far as both go, 1 different.
pub fn run(a: &Path, b: &Path, as_json: bool) -> Result<u8, ExitError> {
    let comparison = compare(a, b)?;
    let text = if as_json { format!("{:#}\n", comparison.json()) } else { comparison.text() };
    std::io::stdout().write_all(text.as_bytes()).context("writing to stdout")?;
    Ok(u8::from(!comparison.is_equal()))
}

fn compare(a: &Path, b: &Path) -> Result<Comparison, ExitError> {
    let (mut left, mut right) = (Side::open(a)?, Side::open(b)?);
    let mut comparison = Comparison { equal_steps: 0, first_difference: None, reasons: vec![], beyond: 0 };
    loop {
        match (left.next()?, right.next()?) {
            (Some(one), Some(other)) if one.state == other.state && one.step == other.step => {
                comparison.equal_steps = one.step;
            }
            (Some(one), Some(other)) => {
                comparison.first_difference = Some(one.step.min(other.step));
                comparison.reasons = step_reasons(&one, &other);
                break;
            }
            (None, None) => break,
            (longer, _) => {
                let rest = if longer.is_some() { &mut left } else { &mut right };
                comparison.beyond = 1;
                while rest.next()?.is_some() {
                    comparison.beyond += 1;
                }
                break;
            }
        }
    }
    if comparison.first_difference.is_some() || comparison.equal_steps == 0 {
        if left.classes != right.classes {
            let (one, other) = (left.classes.join(" and "), right.classes.join(" and "));
            comparison.reasons.push(format!("classes of arithmetic differ: [{one}] and [{other}]"));
        }
        comparison.reasons.extend(run_reasons(left.open.as_ref(), right.open.as_ref()));
        comparison.reasons.extend(config_reasons(a, b));
    }
    Ok(comparison)
}

/// How two commits of one step differ, from the first cause on.
fn step_reasons(one: &Commit, other: &Commit) -> Vec<String> {
    let mut reasons = vec![];
    if one.step != other.step {
        return vec![format!("one run commits step {} where the other commits step {}", one.step, other.step)];
    }
    if one.plan != other.plan {
        let attempts = format!("attempts {} and {}", one.attempt, other.attempt);
        reasons.push(format!("the plans differ: samples, rate, weights or exponents ({attempts})"));
    }
    for (k, part) in &one.microbatches {
        match other.microbatches.get(k) {
            None => reasons.push(format!("microbatch {k} is in one run only")),
            Some(twin) if twin.digest != part.digest => reasons.push(format!(
                "the gradients of microbatch {k} differ (computed by {} and by {})",
                part.worker, twin.worker
            )),
            Some(_) => {}
        }
    }
    if reasons.is_empty() {
        reasons.push("the sums are equal, the states are not: the states before the step, or the optimiser".to_owned());
    }
    reasons
}

/// What the Open records say differently.
fn run_reasons(one: Option<&Record>, other: Option<&Record>) -> Vec<String> {
    let (Some(Record::Open { version, config, data, base, samples, steps, software }), Some(other)) = (one, other)
    else {
        return vec!["a journal does not begin with Open".to_owned()];
    };
    let Record::Open {
        version: version_b,
        config: config_b,
        data: data_b,
        base: base_b,
        samples: samples_b,
        steps: steps_b,
        software: software_b,
    } = other
    else {
        return vec![];
    };
    let checks = [
        (version != version_b, format!("record versions differ: {version} and {version_b}")),
        (software != software_b, format!("versions of the program differ: {software} and {software_b}")),
        (config != config_b, "configurations differ".to_owned()),
        (data != data_b, format!("data differ: {data} with {samples} samples and {data_b} with {samples_b}")),
        (base != base_b, format!("bases differ: {base} and {base_b}")),
        (steps != steps_b, format!("lengths differ: {steps} and {steps_b} steps")),
    ];
    let mut reasons: Vec<String> = checks.into_iter().filter_map(|(differs, words)| differs.then_some(words)).collect();
    if reasons.is_empty() {
        reasons.push(
            "configuration, data, base and program are the same: what differs is arithmetic or its class".to_owned(),
        );
    }
    reasons
}

/// Keys that decide the outcome and differ, with both values.
fn config_reasons(a: &Path, b: &Path) -> Vec<String> {
    let read = |dir: &Path| config::of_run_toml(&dir.join("run.toml"), &[]).map(|(config, _)| config);
    let (one, other) = match (read(a), read(b)) {
        (Ok(one), Ok(other)) => (one, other),
        (Err(error), _) | (_, Err(error)) => return vec![format!("the configurations cannot be compared: {error}")],
    };
    let (left, right) = (config::flat(&one), config::flat(&other));
    let value = |flat: &std::collections::BTreeMap<String, String>, key: &str| flat.get(key).cloned();
    let words = |key: String| {
        let (one, other) = (value(&left, &key).unwrap_or_default(), value(&right, &key).unwrap_or_default());
        format!("{key}: {one} and {other}")
    };
    config::changed_outcome(&one, &other).into_iter().map(words).collect()
}

impl Comparison {
    fn is_equal(&self) -> bool {
        self.first_difference.is_none() && self.equal_steps > 0
    }

    fn json(&self) -> Value {
        json!({
            "equal": self.is_equal(), "equal_steps": self.equal_steps, "first_difference": self.first_difference,
            "steps_of_one_only": self.beyond, "reasons": self.reasons,
        })
    }

    fn text(&self) -> String {
        let mut text = match self.first_difference {
            Some(step) => format!("the first step that differs is {step}\n"),
            None if self.equal_steps == 0 => "there is no step that both have committed\n".to_owned(),
            None => format!("equal over all {} steps that both have committed\n", self.equal_steps),
        };
        if self.beyond > 0 {
            text += &format!("{} more steps are in one run only\n", self.beyond);
        }
        self.reasons.iter().for_each(|reason| text += &format!("  {reason}\n"));
        text
    }
}
