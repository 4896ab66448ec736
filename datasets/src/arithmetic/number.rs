//! Exact numbers as people write them.

use std::fmt::Write;

use num_bigint::BigInt;
use num_traits::Signed;

use super::exact::Exact;

/// No number in a text has more characters; longer ones are not read.
pub const LENGTH_MAX: usize = 200;
/// So many digits fit into 64 bits with their sign, whatever they are.
const SMALL_MAX: usize = 18;
/// Decimals are written with no more places.
const PLACES_MAX: u32 = 6;

/// Reads an unsigned number at the start of `text`: `12`, `1,200`, `.5`, `144.00`. Returns it with its length in bytes.
///
/// A comma belongs to the number only as a thousands separator: one to three digits, then groups of exactly three.
#[inline]
pub fn scan(text: &str) -> Option<(Exact, usize)> {
    scan_bytes(text.as_bytes())
}

/// The same of bytes: what stands behind the number need not be text.
#[inline]
pub(super) fn scan_bytes(bytes: &[u8]) -> Option<(Exact, usize)> {
    if let Some((whole, length)) = digits(bytes, 0) {
        return Some((whole.into(), length));
    }
    if matches!(bytes.first(), Some(b'0'..=b'9' | b'.')) { scan_any(bytes) } else { None }
}

/// A whole number of digits alone from byte `from` on, and the byte after it. None where more of a number follows, or the
/// number is too long.
#[inline]
pub(super) fn digits(bytes: &[u8], from: usize) -> Option<(i64, usize)> {
    let (mut whole, mut at) = (0, from);
    while let Some(digit @ b'0'..=b'9') = bytes.get(at)
        && at - from < SMALL_MAX
    {
        (whole, at) = (whole * 10 + i64::from(digit - b'0'), at + 1);
    }
    let goes_on = matches!(bytes.get(at), Some(b'0'..=b'9' | b',' | b'.'));
    (at > from && !goes_on).then_some((whole, at))
}

/// The same of a number of any form.
fn scan_any(bytes: &[u8]) -> Option<(Exact, usize)> {
    let run = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        let rest = &rest[..rest.len().min(LENGTH_MAX + 1)];
        rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len())
    };
    let (mut length, mut commas) = (run(0), 0);
    if (1..=3).contains(&length) {
        while bytes.get(length) == Some(&b',') && run(length + 1) == 3 && length < LENGTH_MAX {
            (length, commas) = (length + 4, commas + 1);
        }
    }
    let mut count = length - commas;
    let places = if bytes.get(length) == Some(&b'.') { run(length + 1) } else { 0 };
    if places > 0 {
        (length, count) = (length + 1 + places, count + places);
    }
    let digits = || bytes[..length].iter().filter(|byte| byte.is_ascii_digit());
    if !(1..=LENGTH_MAX).contains(&count) {
        return None;
    }
    let value = if count <= SMALL_MAX {
        let numerator = digits().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
        if places == 0 { numerator.into() } else { Exact::ratio(numerator, 10i64.pow(places as u32)) }
    } else {
        let digits: Vec<u8> = digits().copied().collect();
        Exact::new(BigInt::parse_bytes(&digits, 10)?, power_of_ten(places))
    };
    Some((value, length))
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
    number.to_string()
}

/// Writes a number for people: a decimal where one is exact within six places, else a fraction.
pub fn decimal(number: &Exact) -> String {
    let mut text = String::with_capacity(8);
    push_decimal(&mut text, number);
    text
}

/// The same, appended to a text.
pub fn push_decimal(text: &mut String, number: &Exact) {
    match number.small() {
        Some((digit @ 0..=9, 1)) => text.push(char::from(b'0' + digit as u8)),
        Some((whole, 1)) => text.push_str(itoa::Buffer::new().format(whole)),
        _ => push_quotient(text, number),
    }
}

fn push_quotient(text: &mut String, number: &Exact) {
    let (places, factor) = match places(number) {
        Some(decimal) if decimal.0 > 0 => decimal,
        _ => return write!(text, "{number}").expect("a String takes all"),
    };
    if number.is_negative() {
        text.push('-');
    }
    match number.small() {
        Some((numerator, _)) => {
            let digits = u128::from(numerator.unsigned_abs()) * u128::from(factor);
            push_with_point(text, itoa::Buffer::new().format(digits), places);
        }
        None => push_with_point(text, &(number.numer().abs() * factor).to_string(), places),
    }
}

/// Digits, the last `places` of them behind a point.
fn push_with_point(text: &mut String, digits: &str, places: usize) {
    match digits.len().checked_sub(places).filter(|whole| *whole > 0) {
        Some(whole) => text.extend([&digits[..whole], ".", &digits[whole..]]),
        None => {
            text.push_str("0.");
            text.extend(std::iter::repeat_n('0', places - digits.len()));
            text.push_str(digits);
        }
    }
}

/// Whether [`decimal`] has to write it as `n/d`.
pub fn is_fraction(number: &Exact) -> bool {
    !number.is_integer() && places(number).is_none()
}

/// The decimal places that write a number exactly, if six are enough, and what its numerator is multiplied by then.
fn places(number: &Exact) -> Option<(usize, u64)> {
    let denominator = match number.small() {
        Some((_, denominator)) => denominator.unsigned_abs(),
        None => u64::try_from(number.denom()).ok()?,
    };
    let power = |places: u32| 10u64.pow(places);
    let places = (0..=PLACES_MAX).find(|places| power(*places) % denominator == 0)?;
    Some((places as usize, power(places) / denominator))
}

/// The number one hundred.
pub fn hundred() -> Exact {
    Exact::from(100)
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
