//! `expression = value`, found anywhere in a text.

use std::ops::Range;

use super::exact::Exact;
use super::expression::Expression;
use super::plain::{self, Plain};
use super::reading::{Evaluated, Made, Placed, Token, read, simple_holds, tokens};

/// No more calculations are taken from one text.
pub const CALCULATIONS_MAX: usize = 500;

/// A calculation as a text states it, right or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    /// What is calculated.
    pub expression: Expression,
    /// What the text says it makes.
    pub value: Exact,
    /// Where it stands, in bytes of the text.
    pub range: Range<usize>,
}

impl Stated {
    /// Whether it is true.
    pub fn holds(&self) -> bool {
        self.expression.makes(&self.value)
    }
}

/// The calculations of a text in order, line by line.
///
/// Left of a `=` stands the longest expression that ends there and has an operator; right of it the longest that
/// begins there gives the value. In `a = b = c` each `=` counts. In the sloppy `48 / 2 = 24 + 48 = 72` the first value
/// is 24, because the left side makes it. A list mark at the start of a line (`-`, `*`, `3.`, `3)`) is no operand.
pub fn find(text: &str) -> Vec<Stated> {
    find_in(text, "en")
}

/// The same in a text of a language; LaTeX and Vietnamese numbers are read as [`super::plain`] says.
///
/// A part of a larger expression is none: what a lone letter is joined to (`n + 2 - 3 = 4`, `f(2) + 3 = 7`, `2 * 3 = 6x`)
/// is left out.
pub fn find_in(text: &str, language: &str) -> Vec<Stated> {
    find_with(text, language, &mut Room::default())
}

/// The same in room that was used before.
pub(crate) fn find_with(text: &str, language: &str, room: &mut Room) -> Vec<Stated> {
    let plain = Plain::of(text, language);
    let mut found = Vec::new();
    each_in(&plain.text, room, &mut |expression, value, range| {
        found.push(Stated { expression, value, range: plain.source_range(range) });
        found.len() < CALCULATIONS_MAX
    });
    found
}

/// Room for the tokens of a line, left and right of an `=`, to be used again for the next line.
#[derive(Default)]
pub(crate) struct Room([Vec<Placed>; 2]);

/// Whether the first calculation of a text is true. No tree is built for it.
pub(crate) fn first_holds(text: &str, language: &str, room: &mut Room) -> bool {
    if language != "vi"
        && let Some(holds) = simple_holds(text)
    {
        return holds;
    }
    let mut holds = false;
    each_in(&Plain::of(text, language).text, room, &mut |expression: Evaluated, value, _| {
        holds = expression.value().as_ref() == Ok(&value);
        false
    });
    holds
}

/// Hands on what is calculated, its stated value and where it stands, until `take` wants no more.
fn each_in<E: Made>(text: &str, room: &mut Room, take: &mut impl FnMut(E, Exact, Range<usize>) -> bool) {
    let mut start = 0;
    for line in text.split('\n') {
        if memchr::memchr(b'=', line.as_bytes()).is_some() {
            let skipped = list_mark(line);
            if !each_in_line(&line[skipped..], start + skipped, room, take) {
                break;
            }
        }
        start += line.len() + 1;
    }
}

fn list_mark(line: &str) -> usize {
    let indent = line.len() - line.trim_start().len();
    let rest = &line[indent..];
    let digits = rest.bytes().take_while(|b| b.is_ascii_digit()).count();
    let mark = match rest[digits..].chars().next() {
        Some('.' | ')' | ':') if digits > 0 => digits + 1,
        Some(mark @ ('-' | '*' | '•' | '–')) if digits == 0 => mark.len_utf8(),
        _ => return indent,
    };
    if rest[mark..].starts_with(char::is_whitespace) { indent + mark } else { indent }
}

/// False if no more are wanted. The tokens right of one `=` are those left of the next.
fn each_in_line<E: Made>(
    line: &str,
    offset: usize,
    Room([left_tokens, right_tokens]): &mut Room,
    take: &mut impl FnMut(E, Exact, Range<usize>) -> bool,
) -> bool {
    let next_equals = |from: usize| memchr::memchr(b'=', &line.as_bytes()[from..]).map(|at| from + at);
    let (mut from, mut next) = (0, next_equals(0));
    tokens(&line[..next.unwrap_or(0)], left_tokens);
    for _ in 0..CALCULATIONS_MAX {
        let Some(at) = next else { break };
        next = next_equals(at + 1);
        let to = next.unwrap_or(line.len());
        tokens(&line[at + 1..to], right_tokens);
        if let Some((expression, value, left, end)) =
            around_equals(&line[from..at], &line[at + 1..], left_tokens, right_tokens)
            && !take(expression, value, offset + from + left..offset + at + 1 + end)
        {
            return false;
        }
        from = at + 1;
        std::mem::swap(left_tokens, right_tokens);
    }
    true
}

/// What is calculated left of an `=`, the value right of it, the first byte on the left and the byte after the last on the
/// right.
fn around_equals<E: Made>(
    left: &str,
    right: &str,
    left_tokens: &[Placed],
    right_tokens: &[Placed],
) -> Option<(E, Exact, usize, usize)> {
    let (expression, start): (E, _) = ending(left_tokens, left.len())?;
    let (makes, first, end) = beginning(right_tokens)?;
    if goes_on_before(&left[..start], &left[start..]) || goes_on_after(&right[end..]) {
        return None;
    }
    let makes = makes.value().ok()?;
    let value = match first {
        Some(first) if *first != makes && expression.value().as_ref() == Ok(first) => first.clone(),
        _ => makes,
    };
    Some((expression, value, start, end))
}

/// Whether an expression is joined to a variable, a function or a bracket in front of it.
fn goes_on_before(before: &str, expression: &str) -> bool {
    let trimmed = before.trim_end();
    let mut back = trimmed.chars().rev();
    let last = back.next();
    let is_operand = match last {
        Some(letter) if letter.is_alphabetic() => !back.next().is_some_and(char::is_alphabetic),
        other => matches!(other, Some(plain::OTHER | ')' | ']' | '!' | '…')),
    };
    let joins = if trimmed.len() == before.len() { "(+-*/−–×÷·" } else { "+-*/−–×÷·" };
    is_operand && expression.starts_with(|c| joins.contains(c))
}

/// Whether a variable is joined to a value: `6x`, `6 + x`.
fn goes_on_after(after: &str) -> bool {
    let joined = after.trim_start();
    let joined = match joined.strip_prefix(['+', '-', '*', '/', '−', '·']) {
        Some(operand) => operand.trim_start(),
        None if joined.len() == after.len() => joined,
        None => return false,
    };
    let mut characters = joined.chars();
    characters.next().is_some_and(char::is_alphabetic) && !characters.next().is_some_and(char::is_alphabetic)
}

/// The longest expression with an operator that ends where the tokens end, and its first byte.
fn ending<E: Made>(tokens: &[Placed], end: usize) -> Option<(E, usize)> {
    let other = tokens.iter().rposition(|(token, ..)| *token == Token::Other).map_or(0, |at| at + 1);
    let first = other.max(tokens.len().saturating_sub(60));
    (first..tokens.len()).find_map(|from| {
        let expression: E = read(&tokens[from..], end).ok()?;
        (expression.operators() > 0).then(|| (expression, tokens[from].1))
    })
}

/// The longest expression that begins where the tokens begin, its first number, and the byte after it.
fn beginning(tokens: &[Placed]) -> Option<(Evaluated, Option<&Exact>, usize)> {
    let other = tokens.iter().position(|(token, ..)| *token == Token::Other).unwrap_or(tokens.len()).min(60);
    (1..=other).rev().find_map(|to| {
        let expression = read(&tokens[..to], 0).ok()?;
        let first = match &tokens[0].0 {
            Token::Number(first) => Some(first),
            _ => None,
        };
        Some((expression, first, tokens[to - 1].2))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arithmetic::number::{decimal, exact};
    use proptest::prelude::*;

    fn listed(text: &str) -> Vec<String> {
        find(text).iter().map(|c| format!("{} = {}", c.expression.text(&mut decimal), exact(&c.value))).collect()
    }

    #[test]
    fn calculations_are_found_where_they_stand() {
        let cases: [(&str, &[&str]); 17] = [
            (r"$3 \times \frac{4}{2} = 6$", &["3 * (4 / 2) = 6"]),
            (r"$5^2 = 25$ and $x^2 + 1 = 2$", &["5 * 5 = 25"]),
            ("n + 2 - 3 = 4", &[]),
            ("f(2) + 3 = 7", &[]),
            ("2 * 3 = 6x", &[]),
            ("2 * 3 = 6 + y", &[]),
            ("it is -3 + 5 = 2 m", &["-3 + 5 = 2"]),
            ("1. 48 / 2 = 24", &["48 / 2 = 24"]),
            ("- 17 * 3 = 51, not 54", &["17 * 3 = 51"]),
            ("So she has $5 x 3 = $15.", &["5 * 3 = 15"]),
            ("48/2 = 24 + 48 = 72", &["48 / 2 = 24", "24 + 48 = 72"]),
            ("5*2 = 2*5 = 10", &["5 * 2 = 10", "2 * 5 = 10"]),
            ("3/4 = 3/4", &["3 / 4 = 3/4"]),
            ("x = 5", &[]),
            ("2) 1,000 + 1 = 1,001\n3. 2 + 2 = 5", &["1000 + 1 = 1001", "2 + 2 = 5"]),
            ("= = 3", &[]),
            ("20% * 50 = 10 apples", &["0.2 * 50 = 10"]),
        ];
        for (text, expected) in cases {
            assert_eq!(listed(text), expected, "{text}");
        }
    }

    #[test]
    fn a_range_covers_the_calculation() {
        let text = "é\n2. so 1 + 1 = 2 ok";
        assert_eq!(&text[find(text)[0].range.clone()], "1 + 1 = 2");
    }

    proptest! {
        #[test]
        fn simple_sums_hold_as_all_others_do(text in "[0-9]{1,2}(\\.5)?( ?[-+*/] ?|//)[0-9]{1,2} = -?[0-9]{1,2}(\\.5| x|%)?") {
            let found = find(&text);
            prop_assert!(simple_holds(&text).is_none_or(|holds| found.first().is_some_and(Stated::holds) == holds));
            prop_assert_eq!(first_holds(&text, "en", &mut Room::default()), found.first().is_some_and(Stated::holds));
        }

        #[test]
        fn any_text_is_searched(text in "(\\PC|[-0-9+*/()=.,%\n ]){0,80}") {
            for stated in find(&text) {
                prop_assert!(text.get(stated.range.clone()).is_some());
            }
        }
    }
}
