//! Exact numbers as people write them.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

/// An exact rational of any size.
pub type Exact = BigRational;

/// No number in a text has more characters; longer ones are not read.
pub const LENGTH_MAX: usize = 200;

/// Reads an unsigned number at the start of `text`: `12`, `1,200`, `.5`, `144.00`. Returns it with its length in bytes.
///
/// A comma belongs to the number only as a thousands separator: one to three digits, then groups of exactly three.
pub fn scan(text: &str) -> Option<(Exact, usize)> {
    let bytes = text.as_bytes();
    let run = |from: usize| bytes.iter().skip(from).take(LENGTH_MAX + 1).take_while(|b| b.is_ascii_digit()).count();
    let mut length = run(0);
    let mut digits = text.get(..length)?.to_owned();
    if (1..=3).contains(&length) {
        let mut end = length;
        let mut grouped = digits.clone();
        while bytes.get(end) == Some(&b',') && run(end + 1) == 3 && end < LENGTH_MAX {
            grouped.push_str(text.get(end + 1..end + 4)?);
            end += 4;
        }
        (digits, length) = (grouped, end);
    }
    let mut places = 0;
    if bytes.get(length) == Some(&b'.') {
        places = run(length + 1);
        digits.push_str(text.get(length + 1..length + 1 + places)?);
        length += if places > 0 { places + 1 } else { 0 };
    }
    if digits.is_empty() || digits.len() > LENGTH_MAX {
        return None;
    }
    let numerator: BigInt = digits.parse().ok()?;
    Some((Exact::new(numerator, power_of_ten(places)), length))
}

/// Reads a whole text as a number: `-3`, `+4`, `1,200`, `.5`, `3/4`, `-3/4`.
pub fn parse(text: &str) -> Option<Exact> {
    let text = text.trim();
    let (negative, rest) = match text.strip_prefix(['-', '−']) {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (numerator, length) = scan(rest)?;
    let value = match rest.get(length..)?.trim() {
        "" => numerator,
        quotient => {
            let denominator = quotient.strip_prefix('/')?.trim_start();
            let (denominator, length) = scan(denominator).filter(|(_, l)| *l == denominator.len())?;
            (length > 0 && !denominator.is_zero()).then(|| numerator / denominator)?
        }
    };
    Some(if negative { -value } else { value })
}

/// `10^exponent`.
pub fn power_of_ten(exponent: usize) -> BigInt {
    num_traits::pow(BigInt::from(10), exponent)
}

/// Writes a number exactly: `n` or `n/d`.
pub fn exact(number: &Exact) -> String {
    if number.is_integer() { number.numer().to_string() } else { format!("{}/{}", number.numer(), number.denom()) }
}

/// Writes a number for people: a decimal where one is exact within six places, else a fraction.
pub fn decimal(number: &Exact) -> String {
    for places in 0..=6 {
        let scaled = number * Exact::from_integer(power_of_ten(places));
        if !scaled.is_integer() {
            continue;
        }
        let digits = format!("{:0>width$}", scaled.numer().abs(), width = places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        let sign = if number.is_negative() { "-" } else { "" };
        return if places == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
    }
    exact(number)
}

/// Whether [`decimal`] has to write it as `n/d`.
pub fn is_fraction(number: &Exact) -> bool {
    !(number * Exact::from_integer(power_of_ten(6))).is_integer()
}

/// The number one hundred.
pub fn hundred() -> Exact {
    Exact::from_integer(BigInt::one() * 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        let cases = [
            ("12", "12"),
            ("1,200", "1200"),
            ("1,234,567.5", "2469135/2"),
            (".5", "1/2"),
            ("144.00", "144"),
            ("-3", "-3"),
            ("− 3", "-3"),
            ("+7", "7"),
            ("6/8", "3/4"),
            ("9007199254740993", "9007199254740993"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).map(|n| exact(&n)).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "-", ".", "1/0", "1,20", "12,34,567", "1.2.3", "a", "1 2", "१"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"9".repeat(LENGTH_MAX + 1)), None);
    }

    #[test]
    fn a_comma_that_separates_nothing_ends_the_number() {
        assert_eq!(scan("1,2").map(|(n, l)| (exact(&n), l)), Some(("1".to_owned(), 1)));
        assert_eq!(scan("5. Then").map(|(n, l)| (exact(&n), l)), Some(("5".to_owned(), 1)));
    }

    #[test]
    fn decimals_are_exact_or_fractions() {
        for text in ["0", "-3", "0.5", "12.25", "-0.001", "1/3", "-2/7"] {
            assert_eq!(decimal(&parse(text).unwrap()), text);
        }
    }
}
