//! Which slips somebody could make in a calculation, kind by kind, and the choice of one that is plausible.
//!
//! The kind is drawn first, by weight; then places and slips are tried in a random order until one is plausible. So a
//! kind is only passed over where the whole trace has no place for it.

use std::collections::BTreeSet;

use super::carry::{Fault, Slip, carry};
use super::kinds::{Kind, Mix};
use super::read::Reading;
use super::{digits, plausible, units};
use crate::arithmetic::{Exact, Expression, Operator, number};
use crate::graph::steps::Step;
use crate::synthesize::Random;

/// A slip that changes the final result, with all values after it.
pub(super) fn draw(reading: &Reading, mix: &Mix, random: &mut Random) -> Option<(Slip, Vec<Exact>)> {
    let mut mix = mix.clone();
    while let Some(kind) = mix.draw(random) {
        if let Some(found) = of_kind(reading, kind, random) {
            return Some(found);
        }
        mix = mix.without(kind);
    }
    None
}

fn of_kind(reading: &Reading, kind: Kind, random: &mut Random) -> Option<(Slip, Vec<Exact>)> {
    // A sign error may end below zero, but rather does not.
    let signs: &[bool] = if kind == Kind::Sign { &[false, true] } else { &[false] };
    for negative_end in signs {
        for place in places(reading.steps.len(), random) {
            for fault in shuffled(faults(reading, kind, place), random) {
                let slip = Slip { kind, place, fault };
                let Some(values) = carry(&reading.steps, &slip) else { continue };
                if plausible::is_plausible(reading, &slip, &values, *negative_end) {
                    return Some((slip, values));
                }
            }
        }
    }
    None
}

/// All places in a random order. The last calculation takes nearly any slip, so it only has its share: unless it is drawn
/// first it comes last.
fn places(count: usize, random: &mut Random) -> Vec<usize> {
    let mut order = shuffled((0..count).collect(), random);
    let last = order.iter().position(|place| place + 1 == count);
    if let Some(at) = last.filter(|at| *at > 0) {
        order[at..].rotate_left(1);
    }
    order
}

fn shuffled<T>(mut list: Vec<T>, random: &mut Random) -> Vec<T> {
    for last in (1..list.len()).rev() {
        list.swap(last, random.range(0, last as i64) as usize);
    }
    list
}

fn faults(reading: &Reading, kind: Kind, place: usize) -> Vec<Fault> {
    let step = &reading.steps[place];
    let written = |expressions: Vec<Expression>| expressions.into_iter().map(Fault::Expression).collect();
    match kind {
        Kind::Arithmetic => miscalculated(&step.value).into_iter().map(Fault::Value).collect(),
        Kind::OffByOne => off_by_one(&step.value).into_iter().map(Fault::Value).collect(),
        Kind::Operation => written(with_other_operation(&step.expression)),
        Kind::Operand => written(with_other_operand(reading, place)),
        Kind::DroppedStep => left_out(reading, place).into_iter().map(Fault::Missing).collect(),
        Kind::CopiedNumber => written(digits::miscopied(reading, step)),
        Kind::Unit => units::faults(reading, step),
        Kind::Sign => with_other_sign(step),
    }
}

/// A few units of the last place that counts: 51 becomes 54, 12.25 becomes 12.31, 37500 becomes 38400.
fn miscalculated(right: &Exact) -> Vec<Exact> {
    let Some(unit) = last_place(right) else { return vec![] };
    let farthest = (right.abs() / whole(2)).max(&unit * whole(3));
    let distances = [2, 3, 4, 5, 6, 7, 8, 9, 10, 20].map(|units| &unit * whole(units));
    let near = distances.into_iter().filter(|distance| *distance <= farthest);
    near.flat_map(|distance| [right + &distance, right - &distance]).collect()
}

/// The value of the last digit that is no trailing zero; the first two digits always count. None for a fraction.
fn last_place(value: &Exact) -> Option<Exact> {
    if number::is_fraction(value) {
        return None;
    }
    let text = number::decimal(&value.abs());
    if let Some((_, places)) = text.split_once('.') {
        return Some(Exact::new(1.into(), number::power_of_ten(places.len())));
    }
    let zeros = text.len() - text.trim_end_matches('0').len();
    Some(Exact::from_integer(number::power_of_ten(zeros.min(text.len().saturating_sub(2)))))
}

/// Only for counts; 5000 that becomes 5001 would give itself away.
fn off_by_one(right: &Exact) -> Vec<Exact> {
    let round = *right >= whole(1_000) && (right / number::hundred()).is_integer();
    if !right.is_integer() || round { vec![] } else { vec![right + whole(1), right - whole(1)] }
}

/// A minus that is read as a plus is a sign error, not this.
fn with_other_operation(expression: &Expression) -> Vec<Expression> {
    rewritten(expression, &|operator, left, right| {
        let is_other =
            |other: &Operator| *other != operator && (operator, *other) != (Operator::Subtract, Operator::Add);
        let others = Operator::ARITHMETIC.into_iter().filter(is_other);
        others.map(|other| Expression::binary(other, left.clone(), right.clone())).collect()
    })
}

/// Another number that the question gives or an earlier step made, and that this calculation does not use yet. A
/// constant (100 for percent) is not mistaken for another number.
fn with_other_operand(reading: &Reading, place: usize) -> Vec<Expression> {
    let step = &reading.steps[place];
    let used = step.expression.numbers();
    let earlier = reading.steps[..place].iter().map(|earlier| &earlier.value);
    let others: BTreeSet<&Exact> =
        reading.givens.values().chain(earlier).filter(|other| !used.contains(other)).collect();
    renumbered(step, &|number, origin| {
        let replaceable = origin.is_some() || reading.givens.holds(number);
        others.iter().filter(|_| replaceable).map(|other| (*other).clone()).collect()
    })
}

/// What stands in for the result of a step that is left out: one of its operands, an earlier result if there is one. The
/// last step can only be left out if EXECUTE then ends in that result.
fn left_out(reading: &Reading, place: usize) -> Vec<Exact> {
    let step = &reading.steps[place];
    let numbers = || step.expression.numbers().into_iter().zip(&step.origins);
    let is_last = place + 1 == reading.steps.len();
    if is_last {
        let before = numbers().find(|(_, origin)| origin.is_some_and(|earlier| earlier + 1 == place));
        return before.map(|(number, _)| number.clone()).into_iter().collect();
    }
    let results: Vec<Exact> = numbers().filter(|(_, origin)| origin.is_some()).map(|(n, _)| n.clone()).collect();
    let given = numbers().map(|(number, _)| number).filter(|number| reading.givens.holds(number)).cloned();
    if results.is_empty() { given.collect() } else { results }
}

/// A subtraction the other way round, a minus read as a plus, or applied only to the first term of a bracket, the minus
/// of a number lost.
fn with_other_sign(step: &Step) -> Vec<Fault> {
    let mut found = rewritten(&step.expression, &|operator, left, right| match (operator, right) {
        (Operator::Subtract, Expression::Binary(Operator::Add, first, second)) => {
            let first = Expression::binary(Operator::Subtract, left.clone(), (**first).clone());
            vec![Expression::binary(Operator::Add, first, (**second).clone())]
        }
        (Operator::Subtract, _) => vec![
            Expression::binary(Operator::Subtract, right.clone(), left.clone()),
            Expression::binary(Operator::Add, left.clone(), right.clone()),
        ],
        _ => vec![],
    });
    found.extend(renumbered(step, &|number, _| if number.is_negative() { vec![-number] } else { vec![] }));
    let mut faults: Vec<Fault> = found.into_iter().map(Fault::Expression).collect();
    if step.value.is_negative() {
        faults.push(Fault::Value(-&step.value));
    }
    faults
}

/// The expression with one of its operations changed, in every way that `change` knows.
pub(super) fn rewritten(
    expression: &Expression,
    change: &dyn Fn(Operator, &Expression, &Expression) -> Vec<Expression>,
) -> Vec<Expression> {
    let Expression::Binary(operator, left, right) = expression else { return vec![] };
    let mut found = change(*operator, left, right);
    let join = |left: Expression, right: Expression| Expression::binary(*operator, left, right);
    found.extend(rewritten(left, change).into_iter().map(|left| join(left, (**right).clone())));
    found.extend(rewritten(right, change).into_iter().map(|right| join((**left).clone(), right)));
    found
}

/// The step's expression with one of its numbers changed, in every way that `change` knows.
pub(super) fn renumbered(step: &Step, change: &dyn Fn(&Exact, Option<usize>) -> Vec<Exact>) -> Vec<Expression> {
    let mut found = Vec::new();
    for (place, (number, origin)) in step.expression.numbers().into_iter().zip(&step.origins).enumerate() {
        for other in change(number, *origin).into_iter().filter(|other| other != number && !other.is_zero()) {
            let mut at = 0..;
            found.push(step.expression.map_numbers(&mut |number| {
                if at.next() == Some(place) { other.clone() } else { number.clone() }
            }));
        }
    }
    found
}

pub(super) fn whole(number: i64) -> Exact {
    Exact::from_integer(number.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_as_large_as_the_last_place_that_counts() {
        let cases = [("7", "1"), ("51", "1"), ("100", "10"), ("37500", "100"), ("12.25", "0.01"), ("0.5", "0.1")];
        for (value, unit) in cases {
            assert_eq!(last_place(&number::parse(value).unwrap()), number::parse(unit), "{value}");
        }
        assert_eq!(last_place(&number::parse("1/3").unwrap()), None);
        assert!(miscalculated(&whole(3)).iter().all(|wrong| (wrong - whole(3)).abs() <= whole(3)));
    }

    #[test]
    fn each_operation_of_a_long_expression_is_rewritten_alone() {
        let found = with_other_operation(&Expression::parse("(2 + 3) * 4").unwrap());
        let texts: Vec<String> = found.iter().map(|expression| expression.text(&mut number::decimal)).collect();
        let expected = ["2 + 3 + 4", "2 + 3 - 4", "(2 + 3) / 4", "(2 - 3) * 4", "2 * 3 * 4", "2 / 3 * 4"];
        assert_eq!(texts, expected);
    }
}
