//! What somebody who slipped goes on to write: later calculations are done rightly with what came before.

use super::kinds::Kind;
use super::read::Reading;
use crate::arithmetic::{Exact, Expression};
use crate::compose;
use crate::graph::steps::Step;
use crate::synthesize::trace;

/// One slip in one calculation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slip {
    /// What kind.
    pub kind: Kind,
    /// Which calculation, counted from 0.
    pub place: usize,
    /// What goes wrong.
    pub fault: Fault,
}

/// What goes wrong in a calculation.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// It is written rightly, and makes this.
    Value(Exact),
    /// Another one is calculated in its place.
    Expression(Expression),
    /// It is not done, and this number is used as its result.
    Missing(Exact),
}

impl Slip {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self.fault, Fault::Missing(_))
    }
}

/// One line of EXECUTE.
pub(super) struct Line {
    pub expression: Expression,
    pub value: Exact,
}

/// The values of all calculations once `slip` has happened; none if one of them has no value.
pub(super) fn carry(steps: &[Step], slip: &Slip) -> Option<Vec<Exact>> {
    let mut values: Vec<Exact> = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let value = match &slip.fault {
            Fault::Value(value) | Fault::Missing(value) if index == slip.place => value.clone(),
            Fault::Expression(expression) if index == slip.place => expression.value().ok()?,
            _ => step.with(&values).value().ok()?,
        };
        values.push(value);
    }
    Some(values)
}

/// The lines that are written: all calculations but a missing one.
pub(super) fn lines(steps: &[Step], slip: &Slip, values: &[Exact]) -> Vec<Line> {
    let line = |(index, (step, value)): (usize, (&Step, &Exact))| {
        let expression = match &slip.fault {
            Fault::Missing(_) if index == slip.place => return None,
            Fault::Expression(expression) if index == slip.place => expression.clone(),
            _ => step.with(values),
        };
        Some(Line { expression, value: value.clone() })
    };
    steps.iter().zip(values).enumerate().filter_map(line).collect()
}

/// EXECUTE, numbered as it is written: who leaves out a step does not leave out its number.
pub(super) fn execute(reading: &Reading, lines: &[Line]) -> String {
    let line =
        |(index, line): (usize, &Line)| format!("{}. {}", index + 1, equation(reading, &line.expression, &line.value));
    lines.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// `expression = value`, as the source of the trace writes it.
pub(super) fn equation(reading: &Reading, expression: &Expression, value: &Exact) -> String {
    if reading.origins_known {
        return trace::equation(expression, value);
    }
    let mut line = String::new();
    compose::push_equation(&mut line, expression, value);
    line
}
