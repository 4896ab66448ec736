//! Expressions read from a text: cut into tokens, then a tree is built of them, or their value worked out on the way.

use super::exact::Exact;
use super::expression::{DEPTH_MAX, Expression, ExpressionError, Operator, TOKENS_MAX};
use super::number;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Number(Exact),
    Operator(Operator),
    Percent,
    Open,
    Close,
    Other,
}

/// A token with its byte range.
pub(super) type Placed = (Token, usize, usize);

/// Cuts a text into tokens, put in place of those that `found` holds; white space and currency signs stand between them,
/// any others are `Other`, a run of them one token.
pub(super) fn tokens(text: &str, found: &mut Vec<Placed>) {
    found.clear();
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        if byte == b' ' {
            at += 1;
            continue;
        }
        if byte.is_ascii_alphabetic() && matches!(found.last(), None | Some((Token::Other, ..))) {
            // Nothing of a word is an operator that follows no operand.
            let letters = text.as_bytes()[at..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
            push_other(found, at, at + letters);
            at += letters;
            continue;
        }
        let rest = &text[at..];
        let character = if byte.is_ascii() { char::from(byte) } else { rest.chars().next().unwrap_or_default() };
        let after_operand = || matches!(found.last(), Some((Token::Number(_) | Token::Close | Token::Percent, ..)));
        let before_operand = || rest[1..].trim_start().starts_with(|c: char| c.is_ascii_digit() || "($.".contains(c));
        let (token, length) = match character {
            c if c.is_whitespace() || matches!(c, '$' | '€' | '£' | '\u{200b}') => {
                at += c.len_utf8();
                continue;
            }
            '0'..='9' | '.' => match number::scan(rest) {
                Some((value, length)) => (Token::Number(value), length),
                None => (Token::Other, rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count().max(1)),
            },
            '+' => (Token::Operator(Operator::Add), 1),
            '-' | '−' | '–' => (Token::Operator(Operator::Subtract), character.len_utf8()),
            '/' if rest.starts_with("//") => (Token::Operator(Operator::FloorDivide), 2),
            '/' | '÷' => (Token::Operator(Operator::Divide), character.len_utf8()),
            '*' | '×' | '·' => (Token::Operator(Operator::Multiply), character.len_utf8()),
            'x' | 'X' if after_operand() && before_operand() => (Token::Operator(Operator::Multiply), 1),
            '%' => (Token::Percent, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            c => (Token::Other, c.len_utf8()),
        };
        if token == Token::Other {
            push_other(found, at, at + length);
        } else {
            found.push((token, at, at + length));
        }
        at += length;
    }
}

/// What is no part of a sum is one token, however long it is.
fn push_other(found: &mut Vec<Placed>, from: usize, to: usize) {
    match found.last_mut() {
        Some((Token::Other, _, end)) => *end = to,
        _ => found.push((Token::Other, from, to)),
    }
}

/// What a reader of expressions makes: the tree, or no more than its value.
pub(super) trait Made: Sized {
    fn number(value: Exact) -> Self;
    fn negated(self) -> Self;
    /// A percent sign after it.
    fn hundredth(self) -> Self;
    fn binary(operator: Operator, left: Self, right: Self) -> Self;
    fn value(&self) -> Result<Exact, ExpressionError>;
    fn operators(&self) -> usize;
}

impl Made for Expression {
    fn number(value: Exact) -> Self {
        Expression::Number(value)
    }

    fn negated(self) -> Self {
        match self {
            Expression::Number(value) => Expression::Number(-value),
            inner => Expression::Negate(Box::new(inner)),
        }
    }

    fn hundredth(self) -> Self {
        match self {
            Expression::Number(value) => Expression::Number(value / number::hundred()),
            inner => Expression::binary(Operator::Divide, inner, Expression::Number(number::hundred())),
        }
    }

    fn binary(operator: Operator, left: Self, right: Self) -> Self {
        Expression::binary(operator, left, right)
    }

    fn value(&self) -> Result<Exact, ExpressionError> {
        Expression::value(self)
    }

    fn operators(&self) -> usize {
        Expression::operators(self)
    }
}

/// An expression's value, worked out while it is read, and how many operators it has.
pub(super) struct Evaluated(Result<Exact, ExpressionError>, usize);

impl Made for Evaluated {
    fn number(value: Exact) -> Self {
        Evaluated(Ok(value), 0)
    }

    fn negated(self) -> Self {
        Evaluated(self.0.map(|value| -value), self.1)
    }

    fn hundredth(self) -> Self {
        match self {
            Evaluated(Ok(value), 0) => Evaluated(Ok(value / number::hundred()), 0),
            inner => Self::binary(Operator::Divide, inner, Self::number(number::hundred())),
        }
    }

    fn binary(operator: Operator, left: Self, right: Self) -> Self {
        let value = left.0.and_then(|left| operator.apply(&left, &right.0?));
        Evaluated(value, left.1 + right.1 + 1)
    }

    fn value(&self) -> Result<Exact, ExpressionError> {
        self.0.clone()
    }

    fn operators(&self) -> usize {
        self.1
    }
}

/// A number, or two joined by an operator.
type Simple = (Exact, Option<(Operator, Exact)>);

/// A text that is nothing but `number` or `number operator number`, as most are, blanks before and behind the operator at
/// most. None for any other, whatever it says; what it reads [`tokens`] and [`read`] read alike.
pub(super) fn simple(text: &str) -> Option<Simple> {
    let bytes = text.as_bytes();
    let (left, at) = number::scan_bytes(bytes)?;
    if at == bytes.len() {
        return Some((left, None));
    }
    let (operator, right, end) = operation(bytes, at)?;
    (end == bytes.len()).then_some((left, Some((operator, right))))
}

/// Whether a text that is nothing but `number operator number = number` is true; none for any other text.
pub(super) fn simple_holds(text: &str) -> Option<bool> {
    let bytes = text.as_bytes();
    if let Some((_, end)) = true_whole_equation(bytes, " = ")
        && end == bytes.len()
    {
        return Some(true);
    }
    let (left, operator, right, value, _) = equation(bytes, " = ").filter(|(.., end)| *end == bytes.len())?;
    Some(operator.apply(&left, &right) == Ok(value))
}

/// `number operator number=number`, if it is true and the text begins with it, and the byte after it.
pub(crate) fn true_equation(text: &str) -> Option<(Expression, Exact, usize)> {
    let bytes = text.as_bytes();
    let (left, operator, right, value, end) = match true_whole_equation(bytes, "=") {
        Some(((left, operator, right, value), end)) => (left.into(), operator, right.into(), value.into(), end),
        None => equation(bytes, "=").filter(|(a, sign, b, c, _)| sign.apply(a, b).as_ref() == Ok(c))?,
    };
    Some((Expression::binary(operator, Expression::Number(left), Expression::Number(right)), value, end))
}

/// The numbers of `number operator number`, an equals sign and a number at the start of a text, and the byte after it.
fn equation(bytes: &[u8], equals: &str) -> Option<(Exact, Operator, Exact, Exact, usize)> {
    let (left, at) = number::scan_bytes(bytes)?;
    let (operator, right, at) = operation(bytes, at)?;
    let rest = bytes.get(at..)?.strip_prefix(equals.as_bytes())?;
    let (value, length) = number::scan_bytes(rest)?;
    Some((left, operator, right, value, bytes.len() - rest.len() + length))
}

/// The same where all three are digits alone and the equation is true, as nearly always.
#[inline]
fn true_whole_equation(bytes: &[u8], equals: &str) -> Option<((i64, Operator, i64, i64), usize)> {
    let (left, at) = number::digits(bytes, 0)?;
    let (operator, at) = operator(bytes, at)?;
    let (right, at) = number::digits(bytes, at)?;
    let is_next = |(place, sign): (usize, &u8)| bytes.get(at + place) == Some(sign);
    if !equals.as_bytes().iter().enumerate().all(is_next) {
        return None;
    }
    let (value, end) = number::digits(bytes, at + equals.len())?;
    let made = match operator {
        Operator::Add => left.checked_add(right),
        Operator::Subtract => left.checked_sub(right),
        Operator::Multiply => left.checked_mul(right),
        Operator::Divide => (left.checked_rem(right)? == 0).then(|| left / right),
        Operator::FloorDivide => None,
    };
    (made == Some(value)).then_some(((left, operator, right, value), end))
}

/// An operator and a number from byte `at` on, and the byte after them.
fn operation(bytes: &[u8], at: usize) -> Option<(Operator, Exact, usize)> {
    let (operator, at) = operator(bytes, at)?;
    let (right, length) = number::scan_bytes(bytes.get(at..)?)?;
    Some((operator, right, at + length))
}

/// An operator at byte `at`, with one blank before and one behind it at most, and the byte after them.
#[inline]
fn operator(bytes: &[u8], at: usize) -> Option<(Operator, usize)> {
    let skip_blank = |at: usize| at + usize::from(bytes.get(at) == Some(&b' '));
    let at = skip_blank(at);
    let operator = match (bytes.get(at)?, bytes.get(at + 1)?) {
        (b'/', b'/') => Operator::FloorDivide,
        (b'+', _) => Operator::Add,
        (b'-', _) => Operator::Subtract,
        (b'*', _) => Operator::Multiply,
        (b'/', _) => Operator::Divide,
        _ => return None,
    };
    Some((operator, skip_blank(at + operator.sign().len())))
}

/// Reads one text after the other.
#[derive(Default)]
pub(crate) struct Reader {
    tokens: Vec<Placed>,
}

impl Reader {
    /// The whole text as an expression.
    pub(crate) fn expression(&mut self, text: &str) -> Result<Expression, ExpressionError> {
        match simple(text) {
            Some((value, None)) => return Ok(Expression::Number(value)),
            Some((left, Some((operator, right)))) => {
                return Ok(Expression::binary(operator, Expression::Number(left), Expression::Number(right)));
            }
            None => {}
        }
        tokens(text, &mut self.tokens);
        read(&self.tokens, text.len())
    }

    /// The value of the whole text.
    pub(crate) fn value(&mut self, text: &str) -> Result<Exact, ExpressionError> {
        if let Some((value, None)) = simple(text) {
            return Ok(value);
        }
        tokens(text, &mut self.tokens);
        read(&self.tokens, text.len()).and_then(|Evaluated(value, _)| value)
    }
}

/// Reads tokens, all of them; `end` is where an error stands that wants one more.
pub(super) fn read<E: Made>(tokens: &[Placed], end: usize) -> Result<E, ExpressionError> {
    if tokens.len() > TOKENS_MAX {
        return Err(ExpressionError::TooComplex);
    }
    if let Some((_, at, _)) = tokens.iter().find(|(token, ..)| *token == Token::Other) {
        return Err(ExpressionError::Character(*at));
    }
    let mut parser = Parser { tokens, next: 0, end };
    let made = parser.binary(0, 0)?;
    match parser.peek() {
        None => Ok(made),
        Some(_) => Err(ExpressionError::Operator(parser.at())),
    }
}

struct Parser<'a> {
    tokens: &'a [Placed],
    next: usize,
    end: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(token, ..)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(_, start, _)| *start)
    }

    fn binary<E: Made>(&mut self, strength_min: u8, depth: usize) -> Result<E, ExpressionError> {
        let mut left: E = self.operand(depth)?;
        while let Some(Token::Operator(operator)) = self.peek() {
            let operator = *operator;
            if operator.strength() <= strength_min {
                break;
            }
            self.next += 1;
            let right = self.binary(operator.strength(), depth + 1)?;
            left = E::binary(operator, left, right);
        }
        Ok(left)
    }

    fn operand<E: Made>(&mut self, depth: usize) -> Result<E, ExpressionError> {
        if depth > DEPTH_MAX {
            return Err(ExpressionError::TooComplex);
        }
        let at = self.at();
        let token = self.tokens.get(self.next).map(|(token, ..)| token);
        self.next += 1;
        let operand = match token {
            Some(Token::Number(value)) => E::number(value.clone()),
            Some(Token::Operator(Operator::Add)) => return self.operand(depth + 1),
            Some(Token::Operator(Operator::Subtract)) => return Ok(self.operand::<E>(depth + 1)?.negated()),
            Some(Token::Open) => {
                let inner = self.binary(0, depth + 1)?;
                if self.peek() != Some(&Token::Close) {
                    return Err(ExpressionError::Operator(self.at()));
                }
                self.next += 1;
                inner
            }
            _ => return Err(ExpressionError::Operand(at)),
        };
        if self.peek() != Some(&Token::Percent) {
            return Ok(operand);
        }
        self.next += 1;
        Ok(operand.hundredth())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn simple_forms_are_read_as_all_others_are(text in "(0?[1-9]|,|\\.|[-+*/% =x(]|//){0,7}") {
            let mut found = Vec::new();
            tokens(&text, &mut found);
            if simple(&text).is_some() {
                prop_assert_eq!(Reader::default().expression(&text), read(&found, text.len()));
                let value: Result<Evaluated, _> = read(&found, text.len());
                prop_assert_eq!(Reader::default().value(&text), value.and_then(|made| made.value()));
            }
        }
    }
}
