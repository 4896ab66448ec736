//! From calculations to the stages of a built-in problem. VERIFY recomputes each line from its operands before it says
//! whether EXECUTE has it right.

use super::random::Random;
use super::wording::{AGREES, ALL_RIGHT, DIFFERS};
use crate::arithmetic::number::decimal;
use crate::arithmetic::{Exact, Expression, Operator};
use crate::graph::steps::Step;

/// EXECUTE: one numbered calculation a line.
pub(super) fn execute(steps: &[Step]) -> String {
    let line = |(index, step): (usize, &Step)| format!("{}. {}", index + 1, equation(&step.expression, &step.value));
    steps.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// `expression = value`.
pub(crate) fn equation(expression: &Expression, value: &Exact) -> String {
    format!("{} = {}", expression.text(&mut decimal), decimal(value))
}

/// PLAN: the operations without results. Built-in problems join two numbers a step.
pub(super) fn plan(steps: &[Step]) -> String {
    let name = |(number, origin): (&Exact, &Option<usize>)| match origin {
        None => decimal(number),
        Some(earlier) => format!("step {}", earlier + 1),
    };
    let line = |(index, step): (usize, &Step)| {
        let names: Vec<String> = step.expression.numbers().into_iter().zip(&step.origins).map(name).collect();
        let (Expression::Binary(operator, ..), [left, right]) = (&step.expression, names.as_slice()) else {
            return None;
        };
        let words = match operator {
            Operator::Add => format!("Add {right} to {left}."),
            Operator::Subtract => format!("Subtract {right} from {left}."),
            Operator::Multiply => format!("Multiply {left} by {right}."),
            Operator::Divide | Operator::FloorDivide => format!("Divide {left} by {right}."),
        };
        Some(format!("{}. {words}", index + 1))
    };
    steps.iter().enumerate().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// VERIFY of a right trace: every calculation again, with a word of agreement, then the verdict.
pub(super) fn verify(steps: &[Step], random: &mut Random) -> String {
    let (agrees, _differs) = (random.choose(&AGREES), random.choose(&DIFFERS));
    let line =
        |(index, step): (usize, &Step)| format!("{}. {}{agrees}", index + 1, equation(&step.expression, &step.value));
    let mut lines: Vec<String> = steps.iter().enumerate().map(line).collect();
    lines.push((*random.choose(&ALL_RIGHT)).to_owned());
    lines.join("\n")
}
