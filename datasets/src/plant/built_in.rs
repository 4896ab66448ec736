//! The first four kinds in built-in problems, draw for draw as the recorded runs have them: another draw here is other
//! training data for the same seed. Everything else is drawn in `slip`, which is stricter about what gives an error
//! away (one built-in slip in eighty carries a fraction into a count).

use super::carry::{Fault, Slip, carry};
use super::kinds::{Kind, Mix};
use super::read::Reading;
use crate::arithmetic::{Exact, Expression, Operator};
use crate::synthesize::Random;

/// So many places and kinds are tried.
const TRIES: u32 = 64;
/// No slip makes more.
const LARGEST: i64 = 1_000_000;

/// A slip that changes the final result, with all values after it.
pub(super) fn draw(reading: &Reading, mix: &Mix, random: &mut Random) -> Option<(Slip, Vec<Exact>)> {
    let steps = &reading.steps;
    for _ in 0..TRIES {
        let place = random.range(0, steps.len() as i64 - 1) as usize;
        let kind = mix.draw(random)?;
        let Some(fault) = fault(reading, place, kind, random) else { continue };
        let slip = Slip { kind, place, fault };
        let Some(values) = carry(steps, &slip) else { continue };
        let changed = values.last() != steps.last().map(|last| &last.value);
        if changed && !values.iter().any(Exact::is_negative) {
            return Some((slip, values));
        }
    }
    None
}

fn fault(reading: &Reading, place: usize, kind: Kind, random: &mut Random) -> Option<Fault> {
    let step = &reading.steps[place];
    let Expression::Binary(operator, left, right) = &step.expression else { return None };
    let sign = |random: &mut Random| if random.chance(0.5) { 1 } else { -1 };
    let (value, fault) = match kind {
        Kind::Arithmetic | Kind::OffByOne => {
            let distance = if kind == Kind::OffByOne { 1 } else { *random.choose(&[2, 3, 4, 5, 6, 7, 8, 9, 10, 20]) };
            let value = &step.value + whole(sign(random) * distance);
            (value.clone(), Fault::Value(value))
        }
        Kind::Operation => {
            let operator = *random.choose(&Operator::ARITHMETIC);
            let slipped = Expression::binary(operator, (**left).clone(), (**right).clone());
            (slipped.value().ok()?, Fault::Expression(slipped))
        }
        _ => {
            let (Expression::Number(number), Some(None)) = (&**right, step.origins.get(1)) else { return None };
            let other = number + whole(*random.choose(&[-10, -3, -2, 2, 3, 10]));
            let slipped = Expression::binary(*operator, (**left).clone(), Expression::Number(other.clone()));
            (slipped.value().ok().filter(|_| other.is_positive())?, Fault::Expression(slipped))
        }
    };
    let plausible = value.is_positive() && value.is_integer() == step.value.is_integer() && value < whole(LARGEST);
    (value != step.value && plausible).then_some(fault)
}

fn whole(number: i64) -> Exact {
    Exact::from_integer(number.into())
}
