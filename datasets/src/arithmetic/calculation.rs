//! `expression = value`, found anywhere in a text.

use std::ops::Range;

use super::exact::Exact;
use super::expression::{Expression, Placed, Token, tokens};
use super::plain::{self, Plain};

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
        self.expression.value().as_ref() == Ok(&self.value)
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
    let plain = Plain::of(text, language);
    let mut found = find_plain(&plain.text);
    for stated in &mut found {
        stated.range = plain.source_range(stated.range.clone());
    }
    found
}

fn find_plain(text: &str) -> Vec<Stated> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split('\n') {
        let skipped = list_mark(line);
        find_in_line(&line[skipped..], start + skipped, &mut found);
        start += line.len() + 1;
        if found.len() >= CALCULATIONS_MAX {
            found.truncate(CALCULATIONS_MAX);
            break;
        }
    }
    found
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

fn find_in_line(line: &str, offset: usize, found: &mut Vec<Stated>) {
    let equals: Vec<usize> = line.match_indices('=').map(|(at, _)| at).collect();
    for (index, &at) in equals.iter().enumerate().take(CALCULATIONS_MAX) {
        let from = if index == 0 { 0 } else { equals[index - 1] + 1 };
        let to = equals.get(index + 1).copied().unwrap_or(line.len());
        let (left_tokens, right_tokens) = (tokens(&line[from..at]), tokens(&line[at + 1..to]));
        let Some((expression, left)) = ending(&left_tokens, at - from) else { continue };
        let Some((right, first, end)) = beginning(&right_tokens) else { continue };
        if goes_on_before(&line[from..from + left], &line[from + left..]) || goes_on_after(&line[at + 1 + end..]) {
            continue;
        }
        let Ok(makes) = right.value() else { continue };
        let value = match first {
            Some(first) if first != makes && expression.value().as_ref() == Ok(&first) => first,
            _ => makes,
        };
        found.push(Stated { expression, value, range: offset + from + left..offset + at + 1 + end });
    }
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
fn ending(tokens: &[Placed], end: usize) -> Option<(Expression, usize)> {
    let other = tokens.iter().rposition(|(token, ..)| *token == Token::Other).map_or(0, |at| at + 1);
    let first = other.max(tokens.len().saturating_sub(60));
    (first..tokens.len()).find_map(|from| {
        let expression = Expression::of_tokens(&tokens[from..], end).ok()?;
        (expression.operators() > 0).then(|| (expression, tokens[from].1))
    })
}

/// The longest expression that begins where the tokens begin, its first number, and the byte after it.
fn beginning(tokens: &[Placed]) -> Option<(Expression, Option<Exact>, usize)> {
    let other = tokens.iter().position(|(token, ..)| *token == Token::Other).unwrap_or(tokens.len()).min(60);
    (1..=other).rev().find_map(|to| {
        let expression = Expression::of_tokens(&tokens[..to], 0).ok()?;
        let first = match &tokens[0].0 {
            Token::Number(first) => Some(first.clone()),
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
        fn any_text_is_searched(text in "(\\PC|[-0-9+*/()=.,%\n ]){0,80}") {
            for stated in find(&text) {
                prop_assert!(text.get(stated.range.clone()).is_some());
            }
        }
    }
}
