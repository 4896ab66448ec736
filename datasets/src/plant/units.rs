//! Slips of scale: a wrong factor between units, a percent sign or the hundred cents of a dollar overlooked, a zero or
//! the decimal point lost.

use super::carry::Fault;
use super::read::Reading;
use super::slip::{renumbered, rewritten, whole};
use crate::arithmetic::{Exact, Expression, Operator, number};
use crate::graph::steps::Step;

/// Factors between units, with those that are taken for them: minutes of an hour, hours of a day, days of a week,
/// weeks and days of a year, months, ounces, feet, thousands.
const FACTORS: [(i64, &[i64]); 13] = [
    (60, &[10, 100]),
    (3_600, &[60]),
    (24, &[12]),
    (7, &[5]),
    (52, &[12, 50]),
    (365, &[360, 52]),
    (30, &[7]),
    (12, &[10]),
    (16, &[10, 12]),
    (100, &[10, 1_000]),
    (1_000, &[100]),
    (5_280, &[1_000]),
    (36, &[12]),
];

/// All of them that could happen in a calculation.
pub(super) fn faults(reading: &Reading, step: &Step) -> Vec<Fault> {
    let mut expressions = wrong_factors(reading, step);
    expressions.extend(overlooked_percent(reading, step));
    expressions.extend(forgotten_factor(reading, step));
    let mut faults: Vec<Fault> = expressions.into_iter().map(Fault::Expression).collect();
    faults.extend(lost_place(step).into_iter().map(Fault::Value));
    faults
}

/// What is taken for a factor that only knowledge of units can have brought in: neither the question nor an earlier step
/// has it.
fn taken_for(reading: &Reading, step: &Step, part: &Expression) -> &'static [i64] {
    let Expression::Number(number) = part else { return &[] };
    let made =
        step.expression.numbers().into_iter().zip(&step.origins).any(|(n, origin)| n == number && origin.is_some());
    let found = FACTORS.iter().find(|(factor, _)| whole(*factor) == *number);
    found.filter(|_| !made && !reading.givens.holds(number)).map_or(&[], |(_, others)| others)
}

fn wrong_factors(reading: &Reading, step: &Step) -> Vec<Expression> {
    rewritten(&step.expression, &|operator, left, right| {
        if !matches!(operator, Operator::Multiply | Operator::Divide) {
            return vec![];
        }
        let number = |other: &i64| Expression::Number(whole(*other));
        let lefts =
            taken_for(reading, step, left).iter().map(|o| Expression::binary(operator, number(o), right.clone()));
        let rights =
            taken_for(reading, step, right).iter().map(|o| Expression::binary(operator, left.clone(), number(o)));
        lefts.chain(rights).collect()
    })
}

/// 20 % used as 20, as one part in 20, or as 2 %; 25 cents as 25 dollars.
fn overlooked_percent(reading: &Reading, step: &Step) -> Vec<Expression> {
    renumbered(step, &|number, origin| {
        let stated = number * number::hundred();
        if origin.is_some() || !reading.givens.in_digits(&stated) || number.is_integer() {
            vec![]
        } else if reading.givens.in_percent(&stated) {
            let part = stated.recip();
            let is_short = (&part * number::hundred()).is_integer();
            let parts = if is_short { vec![part] } else { vec![] };
            [vec![stated], parts, vec![number / whole(10)]].concat()
        } else {
            vec![stated]
        }
    })
}

/// `50 * 20 / 100` without its `/ 100`.
fn forgotten_factor(reading: &Reading, step: &Step) -> Vec<Expression> {
    let without = rewritten(&step.expression, &|operator, left, right| match operator {
        Operator::Multiply | Operator::Divide if !taken_for(reading, step, right).is_empty() => vec![left.clone()],
        _ => vec![],
    });
    without.into_iter().filter(|expression| expression.operators() > 0).collect()
}

/// A product or quotient with a zero too few or too many, or the decimal point one place off. Only where there are zeros
/// or decimals to get wrong.
fn lost_place(step: &Step) -> Vec<Exact> {
    let Expression::Binary(Operator::Multiply | Operator::Divide, ..) = &step.expression else { return vec![] };
    let slippery = |number: &Exact| !number.is_integer() || (number / whole(10)).is_integer();
    let in_operands = step.expression.numbers().into_iter().any(slippery);
    let (more, fewer) = (&step.value * whole(10), &step.value / whole(10));
    let mut found = Vec::new();
    if in_operands {
        found.push(more);
    }
    if slippery(&step.value) {
        found.push(fewer);
    }
    found
}
