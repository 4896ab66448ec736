//! From calculations to the four stages. Also used for planted errors: the trace says what was calculated, VERIFY
//! recomputes each line from the plan's operands before it gives a verdict.

use super::random::Random;
use super::wording::{AGREES, ALL_RIGHT, DIFFERS, ONE_WRONG};
use crate::calculation::{Calculation, Number, Operand, Operation, format_number};

/// EXECUTE: one numbered calculation a line, with the given values (right or wrong) as results.
pub fn execute(calculations: &[Calculation], values: &[Number]) -> String {
    let line = |(index, calculation): (usize, &Calculation)| equation(index, calculation, values);
    calculations.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

fn equation(index: usize, calculation: &Calculation, values: &[Number]) -> String {
    let number = |operand| match operand {
        Operand::Given(number) => format_number(number),
        Operand::Result(result) => format_number(values[result]),
    };
    let (left, right) = (number(calculation.left), number(calculation.right));
    let sign = calculation.operation.sign();
    format!("{}. {left} {sign} {right} = {}", index + 1, format_number(values[index]))
}

/// PLAN: the operations without results.
pub fn plan(calculations: &[Calculation]) -> String {
    let name = |operand| match operand {
        Operand::Given(number) => format_number(number),
        Operand::Result(result) => format!("step {}", result + 1),
    };
    let line = |(index, calculation): (usize, &Calculation)| {
        let (left, right) = (name(calculation.left), name(calculation.right));
        let words = match calculation.operation {
            Operation::Add => format!("Add {right} to {left}."),
            Operation::Subtract => format!("Subtract {right} from {left}."),
            Operation::Multiply => format!("Multiply {left} by {right}."),
            Operation::Divide => format!("Divide {left} by {right}."),
        };
        format!("{}. {words}", index + 1)
    };
    calculations.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// VERIFY: every calculation again from its operands, compared with what EXECUTE wrote, then the verdict.
///
/// `right` and `written` are the values of all calculations; `first_error` the first that differs through its own
/// fault. Where EXECUTE is right both are equal.
pub fn verify(
    calculations: &[Calculation],
    right: &[Number],
    written: &[Number],
    first_error: Option<usize>,
    random: &mut Random,
) -> String {
    let (agrees, differs) = (random.choose(&AGREES), random.choose(&DIFFERS));
    let mut lines: Vec<String> = Vec::with_capacity(calculations.len() + 1);
    for (index, calculation) in calculations.iter().enumerate() {
        let verdict = if right[index] == written[index] {
            (*agrees).to_owned()
        } else {
            differs.replace("{w}", &format_number(written[index]))
        };
        lines.push(equation(index, calculation, right) + &verdict);
    }
    lines.push(match first_error {
        None => (*random.choose(&ALL_RIGHT)).to_owned(),
        Some(index) => random.choose(&ONE_WRONG).replace("{k}", &(index + 1).to_string()),
    });
    lines.join("\n")
}
