//! `expression = value`, found anywhere in a text.

use std::ops::Range;

use super::expression::{Expression, Placed, Token, tokens};
use super::number::Exact;

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
        let Ok(makes) = right.value() else { continue };
        let value = match first {
            Some(first) if expression.value().as_ref() == Ok(&first) => first,
            _ => makes,
        };
        found.push(Stated { expression, value, range: offset + from + left..offset + at + 1 + end });
    }
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
        let cases: [(&str, &[&str]); 10] = [
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
