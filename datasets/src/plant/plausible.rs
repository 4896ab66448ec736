//! What gives a planted error away: a model must find it by calculating, not because a count has become a fraction.

use super::carry::{self, Fault, Slip};
use super::kinds::Kind;
use super::read::Reading;
use super::slip::whole;
use crate::arithmetic::{Exact, Expression, Operator, calculation, number};
use crate::scores::svr::canonical;

/// Numbers that mean something by themselves: an operand of that value need not be an earlier result of the same value.
const COMMON: [i64; 8] = [7, 12, 24, 60, 100, 365, 1_000, 3_600];
/// A wrong value is at most this many times the right one, or this part of it (units apart).
const FACTOR_MAX: i64 = 200;
/// No written value is larger than this times the largest right one.
const GROWTH_MAX: i64 = 10_000;

/// Whether the final result changes, nothing in the trace gives the slip away, and VERIFY can show where it is.
pub(super) fn is_plausible(reading: &Reading, slip: &Slip, values: &[Exact], negative_end: bool) -> bool {
    let lines = carry::lines(&reading.steps, slip, values);
    let (Some(last), Some(answer)) = (lines.last(), reading.steps.last()) else { return false };
    last.value != answer.value
        && (negative_end || !last.value.is_negative() || answer.value.is_negative())
        && scale(reading, slip, values)
        && on_its_side(reading, slip)
        && shapes(reading, slip, values)
        && certain(reading, values)
        && told(reading, slip, &lines)
}

/// The slip itself is of the right order of magnitude, and does not explode later.
fn scale(reading: &Reading, slip: &Slip, values: &[Exact]) -> bool {
    let largest = reading.steps.iter().map(|step| step.value.abs()).max().unwrap_or(whole(1)).max(whole(1));
    if values.iter().any(|value| value.abs() > &largest * whole(GROWTH_MAX)) {
        return false;
    }
    let (right, wrong) = (reading.steps[slip.place].value.abs(), values[slip.place].abs());
    let near = wrong <= &right * whole(FACTOR_MAX) && right <= &wrong * whole(FACTOR_MAX);
    near || slip.kind == Kind::Unit || right.is_zero()
}

/// A sum is at least as large as its parts, a difference and a quotient at most as large as what they began with.
fn on_its_side(reading: &Reading, slip: &Slip) -> bool {
    let (Fault::Value(wrong), Expression::Binary(operator, left, right)) =
        (&slip.fault, &reading.steps[slip.place].expression)
    else {
        return true;
    };
    let (Ok(left), Ok(right)) = (left.value(), right.value()) else { return true };
    match operator {
        _ if left.is_negative() || right.is_negative() => true,
        Operator::Add => *wrong >= left && *wrong >= right,
        Operator::Subtract => *wrong <= left,
        Operator::Multiply if left >= whole(1) && right >= whole(1) => *wrong >= left && *wrong >= right,
        Operator::Divide | Operator::FloorDivide if right >= whole(1) => *wrong <= left,
        _ => true,
    }
}

/// Counts stay whole, money has two decimals, what was above zero stays there (but for a sign error).
fn shapes(reading: &Reading, slip: &Slip, values: &[Exact]) -> bool {
    let places = |value: &Exact| number::decimal(value).split_once('.').map_or(0, |(_, places)| places.len());
    let places_max = reading.steps.iter().map(|step| places(&step.value)).max().unwrap_or_default().max(2);
    let any_decimal = reading.steps.iter().any(|step| !step.value.is_integer());
    let any_negative = reading.steps.iter().any(|step| step.value.is_negative());
    reading.steps.iter().zip(values).enumerate().all(|(index, (step, value))| {
        if *value == step.value || slip.is_missing() && index == slip.place {
            return true;
        }
        let whole_or_like = value.is_integer()
            || number::is_fraction(value) && number::is_fraction(&step.value)
            || !number::is_fraction(value)
                && places(value) <= places_max
                && (!step.value.is_integer() || reading.money && any_decimal);
        let signed = !value.is_negative() || any_negative || slip.kind == Kind::Sign;
        whole_or_like && signed && !value.is_zero()
    })
}

/// Nowhere does it depend on a guess whether a number is the changed result or another one of the same value.
fn certain(reading: &Reading, values: &[Exact]) -> bool {
    if reading.origins_known {
        return true;
    }
    let changed = |index: usize| values[index] != reading.steps[index].value;
    reading.steps.iter().enumerate().all(|(index, step)| {
        step.expression.numbers().into_iter().all(|operand| {
            let makers: Vec<usize> = (0..index).filter(|earlier| reading.steps[*earlier].value == *operand).collect();
            let elsewhere = reading.givens.holds(operand) || COMMON.iter().any(|common| whole(*common) == *operand);
            !(makers.iter().any(|maker| changed(*maker)) && (makers.len() > 1 || elsewhere))
        })
    })
}

/// The lines are read back as they are meant, and none of them says rightly what the slip got wrong: then nothing would
/// have to be found out.
fn told(reading: &Reading, slip: &Slip, lines: &[carry::Line]) -> bool {
    let step = &reading.steps[slip.place];
    let right = canonical(&step.expression);
    let slipped = if slip.is_missing() { None } else { Some(slip.place) };
    lines.iter().enumerate().all(|(index, line)| {
        let text = carry::equation(reading, &line.expression, &line.value);
        let read = calculation::find(&text);
        let holds = slipped != Some(index) || !matches!(slip.fault, Fault::Value(_));
        let readable = read.len() == 1 && read[0].value == line.value && read[0].holds() == holds;
        readable && !(line.value == step.value && canonical(&line.expression) == right)
    })
}
