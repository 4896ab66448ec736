//! VERIFY of a trace with a planted error: every calculation of the plan is checked, the first one that does not hold is
//! done again, and so is all that rests on it.
//!
//! Up to the error the text is the one that the right trace has, word for word: whether something is wrong is said only
//! after it was calculated.

use super::carry::{self, Slip};
use super::read::Reading;
use super::wording::{LEFT_OUT, ONE_MISSING, SO, what_was_wrong};
use crate::arithmetic::{Exact, Expression, Operator, calculation, number};
use crate::compose;
use crate::graph::steps::Step;
use crate::synthesize::Random;
use crate::synthesize::wording::{AGREES, DIFFERS, ONE_WRONG};

/// The words of one VERIFY, drawn together.
struct Words {
    agrees: &'static str,
    differs: &'static str,
    so: &'static str,
    left_out: &'static str,
}

/// Writes it; `values` are what EXECUTE made, none if a line cannot be written.
pub(super) fn verify(reading: &Reading, slip: &Slip, values: &[Exact], random: &mut Random) -> Option<String> {
    let (agrees, differs) = (*random.choose(&AGREES), *random.choose(&DIFFERS));
    let mut words = Words { agrees, differs, so: "", left_out: "" };
    if !reading.recomputes {
        words.so = *random.choose(&SO);
    }
    if slip.is_missing() {
        words.left_out = *random.choose(&LEFT_OUT);
    }
    let mut lines = Vec::with_capacity(values.len() + 1);
    for (index, (step, value)) in reading.steps.iter().zip(values).enumerate() {
        lines.push(format!("{}. {}", index + 1, line(reading, slip, (index, step, value), &words)?));
    }
    lines.push(verdict(reading, slip, random));
    Some(lines.join("\n"))
}

fn line(reading: &Reading, slip: &Slip, (index, step, value): (usize, &Step, &Exact), words: &Words) -> Option<String> {
    let again = carry::equation(reading, &step.expression, &step.value);
    if slip.is_missing() && index == slip.place {
        return Some(again + words.left_out);
    }
    if *value == step.value {
        return if reading.recomputes { Some(again + words.agrees) } else { undone(step, value) };
    }
    let failed = if reading.recomputes || index != slip.place { None } else { failed_undo(step, value, words.so) };
    Some(failed.unwrap_or_default() + &again + &words.differs.replace("{w}", &number::decimal(value)))
}

/// The planned operation undone from what EXECUTE made.
fn undone(step: &Step, made: &Exact) -> Option<String> {
    let mut line = String::new();
    compose::push_undo(&mut line, &step.expression, made).ok().map(|()| line)
}

/// The same where it does not give back what the step began with, if that can be said in one line.
fn failed_undo(step: &Step, made: &Exact, so: &str) -> Option<String> {
    let Expression::Binary(operator, left, right) = &step.expression else { return None };
    let (Expression::Number(left), Expression::Number(right)) = (&**left, &**right) else { return None };
    if *operator == Operator::FloorDivide || *operator == Operator::Multiply && right.is_zero() {
        return None;
    }
    let undone = undone(step, made)?;
    let back = calculation::find(&undone).pop()?.value;
    let is_short = !number::is_fraction(&back) && !number::is_fraction(left);
    (is_short && back != *left).then(|| undone + &so.replace("{u}", &number::decimal(left)))
}

fn verdict(reading: &Reading, slip: &Slip, random: &mut Random) -> String {
    let mut all: Vec<&str> = if slip.is_missing() { ONE_MISSING.to_vec() } else { ONE_WRONG.to_vec() };
    if !(reading.origins_known && slip.kind.is_built_in()) {
        all.extend(what_was_wrong(slip.kind));
    }
    random.choose(&all).replace("{k}", &(slip.place + 1).to_string())
}
