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
#[derive(Debug, Clone, Default)]
pub struct Givens {
    values: BTreeSet<Exact>,
    percents: BTreeSet<Exact>,
    digits: BTreeSet<Exact>,
}

impl Givens {
    /// The numbers of a question: digits with their thousands separators and decimals, `a/b`, percent, and the words
    /// from two to twenty, tens, half, third, quarter, twice, dozen. (`a/b` gives a, b and the quotient.)
    pub fn of_question(question: &str) -> Self {
        let mut givens = Givens::default();
        let bytes = question.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let starts =
                bytes[at].is_ascii_digit() || bytes[at] == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
            let scanned = if starts { question.get(at..).and_then(number::scan) } else { None };
            let Some((value, length)) = scanned.filter(|(_, length)| *length > 0) else {
                at += 1;
                continue;
            };
            at += length;
            givens.add_number(value, question.get(at..).unwrap_or_default());
        }
        givens.values.extend(question.split(|c: char| !c.is_alphabetic()).filter_map(word));
        givens
    }

    fn add_number(&mut self, value: Exact, after: &str) {
        let follows = after.trim_start();
        if follows.starts_with('%') || follows.starts_with("percent") {
            self.percents.insert(value.clone());
        }
        if let Some((denominator, _)) = after.strip_prefix('/').and_then(number::scan)
            && !denominator.is_zero()
        {
            self.values.insert(&value / denominator);
        }
        self.digits.insert(value.clone());
        self.values.insert(value);
    }

    /// Whether the question gives this value.
    pub fn holds(&self, value: &Exact) -> bool {
        self.values.contains(value)
    }

    /// Whether the question gives it in digits, not in a word.
    pub fn in_digits(&self, value: &Exact) -> bool {
        self.digits.contains(value)
    }

    /// Whether the question gives that many percent.
    pub fn in_percent(&self, value: &Exact) -> bool {
        self.percents.contains(value)
    }

    /// The given values, ascending.
    pub fn values(&self) -> impl Iterator<Item = &Exact> {
        self.values.iter()
    }

    /// A number of the trace as a function of the given quantities: itself if it is given; a hundredth of a given
    /// percentage if it is that; the negative of a given one; else a constant.
    fn leaf(&self, value: &Exact) -> Option<Fingerprint> {
        if self.values.contains(value) {
            return Some(symbol(value));
        }
        if self.values.contains(&-value) {
            return Some(symbol(&-value).negative());
        }
        let percent = value * number::hundred();
        if self.percents.contains(&percent) {
            return symbol(&percent).apply(Operator::Divide, constant(&number::hundred())?);
        }
        constant(value)
    }
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

/// The number that an English word says.
pub(crate) fn word(word: &str) -> Option<Exact> {
    let mut buffer = [0; "seventeen".len()];
    let lower = buffer.get_mut(..word.len()).filter(|word| word.len() >= "one".len())?;
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    let (numerator, denominator) = match &*lower {
        b"one" => (1, 1),
        b"two" | b"twice" | b"double" => (2, 1),
        b"three" | b"triple" | b"thrice" => (3, 1),
        b"four" => (4, 1),
        b"five" => (5, 1),
        b"six" => (6, 1),
        b"seven" => (7, 1),
        b"eight" => (8, 1),
        b"nine" => (9, 1),
        b"ten" => (10, 1),
        b"eleven" => (11, 1),
        b"twelve" | b"dozen" => (12, 1),
        b"thirteen" => (13, 1),
        b"fourteen" => (14, 1),
        b"fifteen" => (15, 1),
        b"sixteen" => (16, 1),
        b"seventeen" => (17, 1),
        b"eighteen" => (18, 1),
        b"nineteen" => (19, 1),
        b"twenty" => (20, 1),
        b"thirty" => (30, 1),
        b"forty" => (40, 1),
        b"fifty" => (50, 1),
        b"sixty" => (60, 1),
        b"seventy" => (70, 1),
        b"eighty" => (80, 1),
        b"ninety" => (90, 1),
        b"hundred" => (100, 1),
        b"half" => (1, 2),
        b"third" | b"thirds" => (1, 3),
        b"quarter" | b"quarters" => (1, 4),
        _ => return None,
    };
    Some(Exact::ratio(numerator, denominator))
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
