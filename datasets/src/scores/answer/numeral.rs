//! Numerals as English, Vietnamese and LaTeX writing has them, read exactly.

use num_bigint::BigInt;
use num_traits::Zero;

use crate::arithmetic::{Exact, number};

/// Longer numerals are not read.
const DIGITS_MAX: usize = 1_000;
/// No power of ten in `1e5` is larger.
const EXPONENT_MAX: u32 = 4_000;

/// How a comma or a dot between digits is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    /// Vietnamese: the comma is the decimal sign, a dot before three digits separates thousands.
    pub(super) vietnamese: bool,
    /// Read a dot as the decimal sign even so.
    pub(super) dot_is_decimal: bool,
    /// Whether a bare comma may belong to the numeral here (in `(1,5)` it separates).
    pub(super) comma: bool,
}

/// A numeral with its length in characters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numeral {
    pub(super) value: Exact,
    /// Digits of a numeral with a decimal sign, without leading zeros; else 0.
    pub(super) significant: u32,
    pub(super) length: usize,
}

/// Reads the numeral at the start of `text`. None if there is none or it is too long.
pub(super) fn scan(text: &[char], style: Style) -> Option<Numeral> {
    let mut digits = String::new();
    let mut at = run(text, 0, &mut digits);
    if at > DIGITS_MAX {
        return None;
    }
    let separator = if (1..=3).contains(&at) { separator(text, at, style) } else { None };
    if let Some(mark) = separator {
        while let Some(next) = group(text, at, mark).filter(|_| digits.len() < DIGITS_MAX) {
            digits.extend(&text[next - 3..next]);
            at = next;
        }
    }
    let (mut places, mut repeating) = (0, String::new());
    if let Some(after) = decimal_sign(text, at, style, separator.is_some()) {
        let before = digits.len();
        at = run(text, after, &mut digits);
        places = digits.len() - before;
        if let Some((period, end)) = period(text, at, &digits[before..]) {
            (repeating, at) = (period, end);
        }
    }
    if digits.is_empty() && repeating.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    let whole: BigInt = if digits.is_empty() { BigInt::zero() } else { digits.parse().ok()? };
    let mut value = Exact::new(whole, number::power_of_ten(places));
    if !repeating.is_empty() {
        let nines = (number::power_of_ten(repeating.len()) - 1) * number::power_of_ten(places);
        value += Exact::new(repeating.parse().ok()?, nines);
    }
    let significant = digits.trim_start_matches('0').len() as u32;
    let significant = if places > 0 && repeating.is_empty() { significant } else { 0 };
    if let Some((exponent, end)) = exponent(text, at) {
        let scale = Exact::from_integer(number::power_of_ten(exponent.unsigned_abs() as usize));
        return Some(Numeral {
            value: if exponent < 0 { value / scale } else { value * scale },
            significant,
            length: end,
        });
    }
    Some(Numeral { value, significant, length: at })
}

/// Takes the digits from `at` on, and says where they end.
fn run(text: &[char], at: usize, digits: &mut String) -> usize {
    let end = text.iter().skip(at).position(|c| !c.is_ascii_digit()).map_or(text.len(), |length| at + length);
    digits.extend(text.get(at..end).unwrap_or_default());
    end
}

/// The writings of a thousands separator.
const GROUPS: [&str; 9] = ["{,}", ",\\!", "\\,", "{\\,}", "\\ ", ",", ".", " ", "'"];

fn starts(text: &[char], at: usize, mark: &str) -> Option<usize> {
    let length = mark.chars().count();
    (text.get(at..at + length)?.iter().copied().eq(mark.chars())).then_some(at + length)
}

/// The end of one group of three digits after `mark`.
fn group(text: &[char], at: usize, mark: &str) -> Option<usize> {
    let mut from = starts(text, at, mark)?;
    if mark == ",\\!" {
        from += text.get(from..)?.iter().take_while(|c| **c == ' ').count();
    }
    let is_group = text.get(from..from + 3)?.iter().all(char::is_ascii_digit);
    (is_group && !text.get(from + 3).is_some_and(char::is_ascii_digit)).then_some(from + 3)
}

/// Which thousands separator stands after the first digits, if one does.
fn separator(text: &[char], at: usize, style: Style) -> Option<&'static str> {
    let mark = GROUPS.into_iter().find(|mark| group(text, at, mark).is_some())?;
    let first = group(text, at, mark)?;
    let again = group(text, first, mark).is_some();
    let leading_zero = text[0] == '0';
    let allowed = match mark {
        // `1,234,567` has thousands in any language; `(1,234)` is a pair, `(1,000)` is not.
        "," if style.vietnamese => again && style.comma,
        "," => style.comma || text.get(at + 1) == Some(&'0'),
        "." => again || style.vietnamese && !style.dot_is_decimal,
        " " | "'" => !leading_zero,
        _ => true,
    };
    (allowed && !leading_zero).then_some(mark)
}

/// Where the decimals begin, if a decimal sign stands at `at`.
fn decimal_sign(text: &[char], at: usize, style: Style, grouped: bool) -> Option<usize> {
    let digit = |at: usize| text.get(at).is_some_and(char::is_ascii_digit);
    let repeats = |at: usize| PERIODS.into_iter().any(|open| starts(text, at, open).is_some());
    match text.get(at)? {
        '.' => (digit(at + 1) || at > 0 && repeats(at + 1)).then_some(at + 1),
        ',' if at > 0 && digit(at + 1) && (style.vietnamese || text[0] == '0' && at == 1) => {
            // `1,2,3` is a list. Without a language only `0,25` is surely no list.
            let digits = text[at + 1..].iter().take_while(|c| c.is_ascii_digit()).count();
            let end = at + 1 + digits;
            let chain = text.get(end) == Some(&',') && digit(end + 1);
            let sure = if style.vietnamese { style.comma || grouped } else { digits >= 2 && style.comma };
            (sure && !chain).then_some(at + 1)
        }
        _ => None,
    }
}

const PERIODS: [&str; 4] = ["(", "\\overline{", "\\bar{", "\\dot{"];

/// The repeating digits of `0.(3)`, `0.\overline{3}` and `0.333...`.
fn period(text: &[char], at: usize, places: &str) -> Option<(String, usize)> {
    for open in PERIODS {
        let Some(from) = starts(text, at, open) else { continue };
        let mut digits = String::new();
        let end = run(text, from, &mut digits);
        let close = if open == "(" { ')' } else { '}' };
        return (!digits.is_empty() && digits.len() < 100 && text.get(end) == Some(&close))
            .then_some((digits, end + 1));
    }
    let last = places.chars().next_back()?;
    let repeats = places.len() >= 3 && places.ends_with(&last.to_string().repeat(3));
    let end = ["...", "…", "\\ldots", "\\dots", "\\cdots"].into_iter().find_map(|dots| starts(text, at, dots))?;
    repeats.then(|| (last.to_string(), end))
}

/// The exponent of `1e5`, right after the digits.
fn exponent(text: &[char], at: usize) -> Option<(i32, usize)> {
    if !matches!(text.get(at)?, 'e' | 'E') {
        return None;
    }
    let sign = usize::from(matches!(text.get(at + 1), Some('+' | '-')));
    let mut digits = String::new();
    let end = run(text, at + 1 + sign, &mut digits);
    let value: u32 = digits.parse().ok().filter(|value| *value <= EXPONENT_MAX)?;
    if text.get(end).is_some_and(|c| c.is_alphabetic()) {
        return None;
    }
    let value = value as i32;
    Some((if text.get(at + 1) == Some(&'-') { -value } else { value }, end))
}

/// The value of digits and letters in a base from 2 to 36.
pub(super) fn in_base(digits: &str, base: u32) -> Option<Exact> {
    if !(2..=36).contains(&base) || digits.len() > DIGITS_MAX {
        return None;
    }
    BigInt::parse_bytes(digits.as_bytes(), base).map(Exact::from_integer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, vietnamese: bool) -> Option<(String, usize)> {
        let style = Style { vietnamese, dot_is_decimal: false, comma: true };
        scan(&text.chars().collect::<Vec<_>>(), style).map(|n| (number::exact(&n.value), n.length))
    }

    #[test]
    fn numerals_are_read_by_language() {
        let cases = [
            ("1,234.50", false, "2469/2", 8),
            ("12,34", false, "12", 2),
            ("0,25", false, "1/4", 4),
            ("0,1", false, "0", 1),
            ("4{,}000", false, "4000", 7),
            ("4,\\!000", false, "4000", 7),
            ("12\\,500", false, "12500", 7),
            ("12 500", false, "12500", 6),
            ("2 1/2", false, "2", 1),
            ("1.234", false, "617/500", 5),
            ("1.234", true, "1234", 5),
            ("1.234,5", true, "2469/2", 7),
            ("1,234", true, "617/500", 5),
            ("1,234,567", true, "1234567", 9),
            ("1.23", true, "123/100", 4),
            ("1,2,3", true, "1", 1),
            ("0.(3)", false, "1/3", 5),
            ("0.1\\overline{6}", false, "1/6", 15),
            ("0.1666...", false, "1/6", 9),
            ("2.5e-3", false, "1/400", 6),
            ("2e", false, "2", 1),
            (".5", false, "1/2", 2),
            ("7.", false, "7", 1),
        ];
        for (text, vietnamese, value, length) in cases {
            assert_eq!(read(text, vietnamese), Some((value.to_owned(), length)), "{text}");
        }
        assert_eq!(read("", false), None);
        assert_eq!(read(&"9".repeat(DIGITS_MAX + 1), false), None);
    }
}
