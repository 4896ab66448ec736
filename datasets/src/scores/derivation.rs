//! Derivations: the values of a trace as rational functions of what the problem gives.
//!
//! Two expressions are equal as rational functions if they agree at points nobody chose: each given quantity is
//! replaced by a residue that is a hash of it, modulo the prime 2^61 - 1, twice (Schwartz 1980, Zippel 1979; a chance
//! of about 2^-100 to call two different ones equal). Constants, numbers that the question does not hold, stand for
//! themselves. So order, brackets, cancelling and the cut into steps do not matter, the operands do.

use std::collections::BTreeSet;

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::ToPrimitive;

use crate::arithmetic::marks::{Mark, marks, read_at};
use crate::arithmetic::{Exact, Expression, Operator, Stated, number};

/// The field's size, a Mersenne prime.
const PRIME: u64 = (1 << 61) - 1;
/// An operand with two possible origins doubles the readings of what it enters; more than this are not followed.
pub const READINGS_MAX: usize = 16;

/// The value of a rational function at two points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u64; 2]);

/// All ways to read one derivation: more than one where an operand is both a given number and an earlier result.
pub type Readings = BTreeSet<Fingerprint>;

/// The quantities that a problem gives.
///
/// Each list is sorted and holds a value once.
#[derive(Debug, Clone, Default)]
pub struct Givens {
    values: Vec<Exact>,
    percents: Vec<Exact>,
    digits: Vec<Exact>,
}

impl Givens {
    /// The numbers of a question: digits with their thousands separators and decimals, `a/b`, percent, and the words
    /// from two to twenty, tens, half, third, quarter, twice, dozen. (`a/b` gives a, b and the quotient.)
    pub fn of_question(question: &str) -> Self {
        Self::of_marks(question, &marks(question))
    }

    /// The same, with the question's marks.
    pub(crate) fn of_marks(question: &str, marks: &[Mark]) -> Self {
        let mut givens = Givens::default();
        each_given(question, marks, |value, after| {
            if let Some(after) = after {
                let follows = after.trim_start();
                if follows.starts_with('%') || follows.starts_with("percent") {
                    givens.percents.push(value.clone());
                }
                givens.digits.push(value.clone());
            }
            givens.values.push(value);
        });
        for list in [&mut givens.values, &mut givens.percents, &mut givens.digits] {
            list.sort_unstable();
            list.dedup();
        }
        givens
    }

    /// Only the values, for who asks no more than [`Self::holds`].
    pub(crate) fn values_of_marks(question: &str, marks: &[Mark]) -> Self {
        let mut values = Vec::with_capacity(marks.len());
        each_given(question, marks, |value, _| values.push(value));
        values.sort_unstable();
        values.dedup();
        Givens { values, ..Givens::default() }
    }

    /// Whether the question gives this value.
    pub fn holds(&self, value: &Exact) -> bool {
        is_in(&self.values, value)
    }

    /// Whether the question gives it in digits, not in a word.
    pub fn in_digits(&self, value: &Exact) -> bool {
        is_in(&self.digits, value)
    }

    /// Whether the question gives that many percent.
    pub fn in_percent(&self, value: &Exact) -> bool {
        is_in(&self.percents, value)
    }

    /// The given values, ascending.
    pub fn values(&self) -> impl Iterator<Item = &Exact> {
        self.values.iter()
    }

    /// A number of the trace as a function of the given quantities: itself if it is given; a hundredth of a given
    /// percentage if it is that; the negative of a given one; else a constant.
    fn leaf(&self, value: &Exact) -> Option<Fingerprint> {
        if self.holds(value) {
            return Some(symbol(value));
        }
        if self.holds(&-value) {
            return Some(symbol(&-value).negative());
        }
        let percent = value * number::hundred();
        if self.in_percent(&percent) {
            return symbol(&percent).apply(Operator::Divide, constant(&number::hundred())?);
        }
        constant(value)
    }
}

/// Hands on each value with what follows it, if it is written in digits.
fn each_given<'q>(question: &'q str, marks: &[Mark], mut take: impl FnMut(Exact, Option<&'q str>)) {
    read_at(question, marks, |at, word| {
        if let Some((letters, said)) = word {
            if let Some(value) = said.quantity() {
                take(value, None);
            }
            return letters;
        }
        let starts = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        let scanned = if starts(&question.as_bytes()[at]) { number::scan(&question[at..]) } else { None };
        let Some((value, length)) = scanned else { return 0 };
        let after = &question[at + length..];
        if let Some((denominator, _)) = after.strip_prefix('/').and_then(number::scan)
            && !denominator.is_zero()
        {
            take(&value / denominator, None);
        }
        take(value, Some(after));
        length
    });
}

fn is_in(sorted: &[Exact], value: &Exact) -> bool {
    sorted.binary_search(value).is_ok()
}

/// The derivations of a trace: one set of readings for each operator of each calculation, in order. What has no value
/// (a division by zero) is no derivation.
///
/// Origin of an operand: the latest earlier result of that value; if the question gives the value too, either. A
/// number that is neither is a constant.
pub fn derivations(calculations: &[Stated], givens: &Givens) -> Vec<Readings> {
    let mut found: Vec<Readings> = Vec::new();
    let mut results: Vec<(&Exact, Readings)> = Vec::new();
    for stated in calculations {
        let readings = walk(&stated.expression, givens, &results, &mut found);
        results.push((&stated.value, readings));
    }
    found
}

fn walk(
    expression: &Expression,
    givens: &Givens,
    results: &[(&Exact, Readings)],
    found: &mut Vec<Readings>,
) -> Readings {
    match expression {
        Expression::Number(value) => {
            let earlier = results.iter().rev().find(|(result, readings)| *result == value && !readings.is_empty());
            let mut readings = earlier.map(|(_, readings)| readings.clone()).unwrap_or_default();
            if readings.is_empty() || givens.holds(value) {
                readings.extend(givens.leaf(value));
            }
            readings
        }
        Expression::Negate(inner) => {
            walk(inner, givens, results, found).into_iter().map(Fingerprint::negative).collect()
        }
        Expression::Binary(operator, left, right) => {
            let (left, right) = (walk(left, givens, results, found), walk(right, givens, results, found));
            let pairs = left.iter().flat_map(|l| right.iter().map(move |r| (*l, *r)));
            let readings: Readings = pairs.filter_map(|(l, r)| l.apply(*operator, r)).take(READINGS_MAX).collect();
            if !readings.is_empty() {
                found.push(readings.clone());
            }
            readings
        }
    }
}

impl Fingerprint {
    fn apply(self, operator: Operator, other: Self) -> Option<Self> {
        let mut values = [0; 2];
        for (slot, (a, b)) in values.iter_mut().zip(self.0.into_iter().zip(other.0)) {
            *slot = match operator {
                Operator::Add => add(a, b),
                Operator::Subtract => add(a, PRIME - b),
                Operator::Multiply => multiply(a, b),
                Operator::Divide if b == 0 => return None,
                Operator::Divide => multiply(a, inverse(b)),
                // Not a rational function: its own symbol, a function of its operands.
                Operator::FloorDivide => hash(&[b"//", &a.to_le_bytes(), &b.to_le_bytes()], 0),
            };
        }
        Some(Fingerprint(values))
    }

    fn negative(self) -> Self {
        Fingerprint(self.0.map(|value| (PRIME - value) % PRIME))
    }
}

fn symbol(value: &Exact) -> Fingerprint {
    let name = number::exact(value);
    Fingerprint([0, 1].map(|point| hash(&[b"given", name.as_bytes()], point)))
}

fn constant(value: &Exact) -> Option<Fingerprint> {
    let residue = |integer: &BigInt| integer.mod_floor(&BigInt::from(PRIME)).to_u64();
    let (numerator, denominator) = match value.small() {
        Some((numerator, denominator)) => {
            (numerator.rem_euclid(PRIME as i64) as u64, denominator.rem_euclid(PRIME as i64) as u64)
        }
        None => (residue(&value.numer())?, residue(&value.denom())?),
    };
    (denominator != 0).then(|| Fingerprint([multiply(numerator, inverse(denominator)); 2]))
}

fn hash(parts: &[&[u8]], point: u8) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[point]);
    for part in parts {
        hasher.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first) % PRIME
}

fn add(a: u64, b: u64) -> u64 {
    (a + b) % PRIME // both below 2^61
}

fn multiply(a: u64, b: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(PRIME)) as u64
}

/// Fermat: `a^(p-2)`.
fn inverse(a: u64) -> u64 {
    let (mut result, mut base, mut exponent) = (1, a, PRIME - 2);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = multiply(result, base);
        }
        base = multiply(base, base);
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arithmetic::calculation::find;

    fn last(question: &str, trace: &str) -> Readings {
        derivations(&find(trace), &Givens::of_question(question)).pop().unwrap()
    }

    fn same(question: &str, a: &str, b: &str) -> bool {
        !last(question, a).is_disjoint(&last(question, b))
    }

    #[test]
    fn the_same_rational_function_is_the_same_derivation() {
        let question = "48 in April, half as many in May, 7 each, 20% off";
        for (a, b) in [
            ("48 / 2 = 24\n48 + 24 = 72", "48 + 48/2 = 72"),
            ("48 + 7 = 55", "7 + 48 = 55"),
            ("(48 + 7) * 20 = 1100", "48*20 + 7*20 = 1100"),
            ("48 - 7 = 41", "-7 + 48 = 41"),
            ("48 * .2 = 9.6", "48 * 20/100 = 9.6"),
            ("48 / 7 * 7 = 48", "48 * 7 / 7 = 48"),
        ] {
            assert!(same(question, a, b), "{a} | {b}");
        }
    }

    #[test]
    fn other_operands_are_another_derivation_though_the_value_is_equal() {
        let question = "2 boxes of 6, 3 boxes of 4, 12 boys";
        for (a, b) in [("2 * 6 = 12", "3 * 4 = 12"), ("6 + 2 = 8", "4 + 4 = 8"), ("6 - 2 = 4", "2 - 6 = -4")] {
            assert!(!same(question, a, b), "{a} | {b}");
        }
    }

    #[test]
    fn an_operand_that_is_given_and_a_result_may_be_either() {
        let question = "5 red, 3 blue, 2 green";
        assert!(same(question, "3 + 2 = 5\n5 * 3 = 15", "5 * 3 = 15"));
        assert!(same(question, "3 + 2 = 5\n5 * 3 = 15", "(3 + 2) * 3 = 15"));
        assert!(!same("3 blue, 2 green", "3 + 2 = 5\n5 * 3 = 15", "5 * 3 = 15"));
    }

    #[test]
    fn a_division_by_zero_is_no_derivation() {
        assert!(derivations(&find("3 / (2 - 2) = 1"), &Givens::of_question("3 and 2")).len() == 1);
    }

    #[test]
    fn floor_division_is_its_own_function() {
        assert!(same("17 and 5", "17 // 5 = 3", "17 // 5 = 3"));
        assert!(!same("17 and 5", "17 // 5 = 3", "17 / 5 = 3"));
    }
}
