//! A trajectory as errors are planted in it: its graph, and the road that its VERIFY takes.

use super::PlantError;
use crate::arithmetic::{Expression, Stated, calculation, number};
use crate::graph::steps::{self, Step};
use crate::scores::derivation::Givens;
use crate::trajectory::Trajectory;

/// What is known of a right trace.
pub(super) struct Reading {
    /// The calculations of EXECUTE.
    pub steps: Vec<Step>,
    /// The source says itself which number comes from where; else [`steps::of_stated`] has decided.
    pub origins_known: bool,
    /// VERIFY calculates each line again, as built-in problems do; else it undoes each line from its result.
    pub recomputes: bool,
    /// What the question gives.
    pub givens: Givens,
    /// The question is about money: a value may have cents where the right one has none.
    pub money: bool,
}

impl Reading {
    /// Reads a trace that is right, and exact: its calculations are the whole derivation of the answer.
    pub(super) fn of(trajectory: &Trajectory) -> Result<Self, PlantError> {
        let stated = lines(&trajectory.execute)?;
        let answer = number::parse(trajectory.answer.trim());
        let meta: serde_json::Value = serde_json::from_str(&trajectory.meta).unwrap_or_default();
        let says_inexact = meta.get("exact") == Some(&serde_json::Value::Bool(false));
        if says_inexact || stated.is_empty() || stated.last().map(|last| &last.value) != answer.as_ref() {
            return Err(PlantError::NotExact);
        }
        let mut steps = steps::of_stated(&stated);
        let names =
            meta.get("operands").and_then(|names| serde_json::from_value::<Vec<Vec<String>>>(names.clone()).ok());
        let origins_known = names.is_some_and(|names| steps::with_names(&mut steps, &names));
        let question = &trajectory.question;
        let same = |(a, b): (&Stated, &Stated)| a.expression == b.expression && a.value == b.value;
        let checks = calculation::find(&trajectory.verify);
        Ok(Reading {
            recomputes: checks.len() == stated.len() && checks.iter().zip(&stated).all(same),
            steps,
            origins_known,
            givens: Givens::of_question(question),
            money: ["$", "dollar", "cent"].iter().any(|word| question.contains(word)),
        })
    }
}

/// One calculation a line, and nothing else.
fn lines(execute: &str) -> Result<Vec<Stated>, PlantError> {
    let filled = execute.lines().filter(|line| !line.trim().is_empty());
    let read = |(index, line): (usize, &str)| {
        let refused = PlantError::NotACalculation(index + 1);
        let Ok([stated]) = <[Stated; 1]>::try_from(calculation::find(line)) else { return Err(refused) };
        let (before, after) = (&line[..stated.range.start], &line[stated.range.end..]);
        let is_bare =
            !before.contains(char::is_alphabetic) && after.trim().trim_end_matches(['.', ',', ';']).is_empty();
        if !is_bare || !matches!(stated.expression, Expression::Binary(..)) {
            return Err(refused);
        }
        if stated.holds() { Ok(stated) } else { Err(PlantError::AlreadyWrong(index + 1)) }
    };
    filled.enumerate().map(read).collect()
}
