//! The quantities that a question gives, in the order of its text, as UNDERSTAND lists them.

use std::borrow::Cow;
use std::ops::Range;

use crate::arithmetic::marks::{Mark, marks, read_at};
use crate::arithmetic::plain::Plain;
use crate::arithmetic::{Exact, number};

/// A number that the question states, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quantity {
    /// Of `20%` it is 20.
    pub(super) value: Exact,
    /// A percent sign follows.
    pub(super) percent: bool,
    /// It is written as `a/b`, or in a word that says as much: these two.
    pub(super) parts: Option<(Exact, Exact)>,
    saying: Saying,
    range: Range<usize>,
}

/// How a number is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saying {
    Signs,
    Words,
    /// In a word that mostly says something else.
    Ambiguously,
}

impl Quantity {
    /// Whether a calculation with `value` uses it: 0.2 is 20 percent, and who divides by 2 may take half.
    pub(super) fn is_used_as(&self, value: &Exact) -> bool {
        let is_part = self.parts.as_ref().is_some_and(|(over, under)| over == value || under == value);
        self.value == *value || is_part || self.percent && self.value == value * number::hundred()
    }

    /// Writes it as UNDERSTAND lists it.
    pub(super) fn push_text(&self, text: &mut String) {
        match &self.parts {
            Some((over, under)) => {
                number::push_decimal(text, over);
                text.push('/');
                number::push_decimal(text, under);
            }
            None => number::push_decimal(text, &self.value),
        }
        if self.percent {
            text.push('%');
        }
    }
}

/// All of them; equal ones more than once.
///
/// `2 1/2`, `twenty-five`, `two thirds`, `three hundred` are one quantity each. Words that mostly say something else do
/// not count alone: `one`, and what may name an order or a coin (`third`, `quarter`) but after `a`. Exponents and
/// subscripts hold none.
pub(super) fn quantities(asked: &str, asked_marks: &[Mark], language: &str) -> Vec<Quantity> {
    let plain = Plain::of(asked, language);
    let text = plain.text.as_ref();
    let marks = if matches!(plain.text, Cow::Borrowed(_)) { asked_marks } else { &marks(text) };
    let mut found: Vec<Quantity> = Vec::with_capacity(marks.len());
    read_at(text, marks, |at, word| {
        let (value, parts, saying, length) = match word {
            Some((letters, said)) => {
                let (over, under) = said.quotient();
                let is_ambiguous = 2 * over < under || over == under;
                let saying = if is_ambiguous { Saying::Ambiguously } else { Saying::Words };
                (said.value(), (under > 1).then(|| (over.into(), under.into())), saying, letters)
            }
            None => match written_number(&text[at..], text[..at].ends_with('/')) {
                Some((value, _, length)) if is_below_zero(&text[..at]) => (-value, None, Saying::Signs, length),
                Some((value, parts, length)) => (value, parts, Saying::Signs, length),
                None => return 0,
            },
        };
        let one = Quantity { value, percent: false, parts, saying, range: at..at + length };
        match found.last_mut() {
            Some(before) => match joined(before, &text[before.range.end..at], &one) {
                Some(both) => *before = both,
                None => found.push(one),
            },
            None => found.push(one),
        }
        length
    });
    found.retain_mut(|quantity| {
        if quantity.saying == Saying::Ambiguously {
            let before = text[..quantity.range.start].trim_end();
            let article = before.strip_suffix(['a', 'A']).filter(|_| before.len() < quantity.range.start);
            let is_after_article = article.is_some_and(|rest| rest.is_empty() || rest.ends_with(char::is_whitespace));
            if !is_after_article {
                return false;
            }
        }
        let after = text[quantity.range.end..].trim_start();
        quantity.percent = after.starts_with('%') || after.starts_with("percent");
        true
    });
    found
}

/// Whether a minus stands before a number that belongs to it: `-3`, `a sum of -3`, not `5 - 3`, `x -3`, `30-60-90` nor
/// `tiles--38`.
fn is_below_zero(before: &str) -> bool {
    let Some(before) = before.strip_suffix(['-', '−']) else { return false };
    let apart = before.trim_end_matches(' ');
    let Some(last) = apart.chars().next_back() else { return true };
    let ends_with_word = || apart.chars().rev().take_while(|letter| letter.is_alphabetic()).nth(1).is_some();
    match last {
        '-' | '−' => false,
        _ if last.is_alphanumeric() => apart.len() < before.len() && ends_with_word(),
        _ => !")]}%".contains(last),
    }
}

/// Numerator and denominator of what lies between two whole numbers.
fn parts(value: &Exact) -> Option<(Exact, Exact)> {
    let (over, under) = value.small().filter(|(_, under)| *under != 1)?;
    Some((over.into(), under.into()))
}

type Written = (Exact, Option<(Exact, Exact)>, usize);

/// Digits, `a/b`, `½`, and what [`Plain`] makes of `\frac{a}{b}` and `2\frac{a}{b}`, at the start of a text, with its
/// length. With two strokes it is a date.
fn written_number(text: &str, after_stroke: bool) -> Option<Written> {
    let scan = |text: &str| number::scan(text).filter(|(_, length)| *length > 0);
    let of_latex = |text: &str| {
        let (over, first) = scan(text.strip_prefix("((")?)?;
        let rest = text[2 + first..].strip_prefix(")/(")?;
        let (under, second) = scan(rest).filter(|(under, _)| !under.is_zero())?;
        rest[second..].starts_with("))").then(|| (&over / &under, Some((over, under)), first + second + 7))
    };
    let sign = |over: i64, under: i64, length: usize| {
        let value = Exact::ratio(over, under);
        Some((value.clone(), parts(&value), length))
    };
    match text.chars().next()? {
        sign_of @ ('½' | '¼' | '¾') => {
            let (over, under) = if sign_of == '½' {
                (1, 2)
            } else if sign_of == '¼' {
                (1, 4)
            } else {
                (3, 4)
            };
            sign(over, under, sign_of.len_utf8())
        }
        '(' => {
            let mixed = || {
                let (whole, first) = scan(&text[1..])?;
                let (part, _, second) = of_latex(text[1 + first..].strip_prefix('+')?)?;
                Some((whole + part, None, first + second + 3))
            };
            of_latex(text).or_else(mixed)
        }
        '0'..='9' | '.' => {
            let (value, length) = scan(text)?;
            let fraction = || {
                let (under, second) = scan(text[length..].strip_prefix('/')?).filter(|(under, _)| !under.is_zero())?;
                let length = length + 1 + second;
                let is_date = after_stroke || text[length..].starts_with('/');
                (!is_date).then(|| (&value / &under, Some((value.clone(), under)), length))
            };
            fraction().or(Some((value, None, length)))
        }
        _ => None,
    }
}

/// The one quantity that two neighbours are.
fn joined(before: &Quantity, between: &str, next: &Quantity) -> Option<Quantity> {
    if !matches!(between, "" | " " | "-" | " and a ") {
        return None;
    }
    let whole = |value: &Exact| value.small().filter(|(_, under)| *under == 1).map(|(whole, _)| whole);
    let (first, second) = (&before.value, &next.value);
    let is_half = *second == Exact::ratio(1, 2);
    let [before_is_word, is_word] = [before, next].map(|quantity| quantity.saying != Saying::Signs);
    let value = match (before_is_word, is_word, between) {
        (_, true, " and a ") if is_half && first.is_integer() => first + second,
        (false, false, " " | "") if first.is_integer() && next.parts.is_some() && *second < Exact::one() => {
            first + second
        }
        (true, true, " " | "-") => match (whole(first)?, whole(second)) {
            (20..=90, Some(1..=9)) if (first / Exact::from(10)).is_integer() => first + second,
            (1..=19, Some(100)) => first * second,
            (1, None) => second.clone(),
            (2.., None) if !is_half => first * second,
            _ => return None,
        },
        _ => return None,
    };
    let parts = parts(&value).filter(|_| value < Exact::one());
    let saying = if before_is_word { Saying::Words } else { Saying::Signs };
    Some(Quantity { value, percent: false, parts, saying, range: before.range.start..next.range.end })
}

/// A question without `[asy]…[/asy]` and without the lines `A. …` of a multiple choice.
pub(super) fn without_drawings_and_options(question: &str) -> Cow<'_, str> {
    let is_option = |line: &str| matches!(line.as_bytes(), [b'A'..=b'F', b'.' | b')', ..]);
    let draws = memchr::memchr(b'[', question.as_bytes()).is_some() && question.contains("[asy]");
    if !draws && !question.lines().any(is_option) {
        return question.into();
    }
    let mut asked = String::with_capacity(question.len());
    let mut rest = question;
    while let Some((before, drawing)) = rest.split_once("[asy]") {
        asked.push_str(before);
        rest = drawing.split_once("[/asy]").map_or("", |(_, after)| after);
    }
    asked.push_str(rest);
    asked.lines().filter(|line| !is_option(line)).collect::<Vec<_>>().join("\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(question: &str, language: &str) -> String {
        let asked = without_drawings_and_options(question);
        let text = |quantity: &Quantity| {
            let mut text = String::new();
            quantity.push_text(&mut text);
            text
        };
        quantities(&asked, &marks(&asked), language).iter().map(text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn quantities_stand_in_the_order_of_the_text() {
        let cases = [
            ("He had 48, ate half, and 3 more; 20% of $1,200.50 went.", "48 1/2 3 20% 1200.5"),
            (
                "Twenty-five of three hundred, two thirds of 2 1/2 and 3/4 on 12/25/2020",
                "25 300 2/3 2.5 3/4 12 25 2020",
            ),
            (
                "One of them came third, twice, with 2½ pies, one half, one-fifth and three-fourths.",
                "2 2.5 1/2 1/5 3/4",
            ),
            ("A quarter of 8 in one and a half hours, the third day, a third of it", "1/4 8 1.5 1/3"),
            (
                r"If $x^2 + 3x_1 = \frac{3}{4}$ and $2y = 10{,}000$, or $1\frac12$? [asy]draw((7,8));[/asy]",
                "3 3/4 2 10000 1.5",
            ),
            (r"A 30-60-90 triangle at $-3.$ with 5 - 2 = 3, -1/2", "30 60 90 -3 5 2 3 -0.5"),
            ("It was -14 and −8, a sum of -22; x -7, 5 -6, tiles--38, 2 a.m. -9", "-14 -8 -22 7 5 6 38 2 -9"),
            ("He has 8 eggs. A quarter broke. A third of it", "8 1/4 1/3"),
            ("none", ""),
        ];
        for (question, expected) in cases {
            assert_eq!(listed(question, "en"), expected, "{question}");
        }
        assert_eq!(listed("Giá 2,5 đồng và 1.500 đồng.\nA. 7\nB. 8", "vi"), "2.5 1500");
    }

    #[test]
    fn percent_and_parts_are_used_by_their_number() {
        let found = quantities("20% of 3/5", &marks("20% of 3/5"), "en");
        for (value, uses) in [("20", true), ("0.2", true), ("0.8", false), ("3", true), ("5", true), ("0.6", true)] {
            let value = number::parse(value).unwrap();
            assert_eq!(found.iter().any(|quantity| quantity.is_used_as(&value)), uses, "{value}");
        }
    }
}
