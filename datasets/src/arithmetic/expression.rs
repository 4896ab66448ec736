//! Arithmetic expressions: numbers, `+ - * / //`, signs, brackets, a percent sign after a number.

use super::exact::Exact;
use super::number;

/// Deeper brackets and signs are an error, not a stack overflow.
pub const DEPTH_MAX: usize = 40;
/// Longer expressions are an error.
pub const TOKENS_MAX: usize = 400;
/// A value with more bits than this is an error: a chain of products must not eat the memory.
pub const BITS_MAX: u64 = 4_096;

/// What joins two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `//`, rounded down.
    FloorDivide,
}

impl Operator {
    /// The four that everybody knows.
    pub const ARITHMETIC: [Operator; 4] = [Operator::Add, Operator::Subtract, Operator::Multiply, Operator::Divide];

    /// Its sign in a trace.
    pub const fn sign(self) -> &'static str {
        match self {
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::FloorDivide => "//",
        }
    }

    const fn strength(self) -> u8 {
        match self {
            Operator::Add | Operator::Subtract => 1,
            _ => 2,
        }
    }

    /// The exact result.
    pub fn apply(self, left: &Exact, right: &Exact) -> Result<Exact, ExpressionError> {
        let value = match self {
            Operator::Add => left + right,
            Operator::Subtract => left - right,
            Operator::Multiply => left * right,
            Operator::Divide | Operator::FloorDivide if right.is_zero() => return Err(ExpressionError::DivisionByZero),
            Operator::Divide => left / right,
            Operator::FloorDivide => (left / right).floor(),
        };
        if value.bits() <= BITS_MAX { Ok(value) } else { Err(ExpressionError::TooLarge) }
    }
}

/// A sum, product, … of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// A number as written.
    Number(Exact),
    /// A minus sign in front.
    Negate(Box<Expression>),
    /// Two values joined.
    Binary(Operator, Box<Expression>, Box<Expression>),
}

/// Why a text is no expression, or an expression has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// A character that belongs to no expression.
    #[error("byte {0}: not part of an expression")]
    Character(usize),
    /// Something else was expected here.
    #[error("byte {0}: a number or a bracket is expected")]
    Operand(usize),
    /// An operand follows an operand, or a bracket does not close.
    #[error("byte {0}: an operator or the end is expected")]
    Operator(usize),
    /// See [`DEPTH_MAX`] and [`TOKENS_MAX`].
    #[error("the expression is too long or nested too deeply")]
    TooComplex,
    /// A division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// See [`BITS_MAX`].
    #[error("the value is too large")]
    TooLarge,
}

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
/// any other character is `Other`.
pub(super) fn tokens(text: &str, found: &mut Vec<Placed>) {
    found.clear();
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        if byte == b' ' {
            at += 1;
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
        found.push((token, at, at + length));
        at += length;
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
    let (left, mut at) = number::scan(text)?;
    let bytes = text.as_bytes();
    if at == bytes.len() {
        return Some((left, None));
    }
    let skip_blank = |at: usize| at + usize::from(bytes.get(at) == Some(&b' '));
    at = skip_blank(at);
    let operator = match (bytes.get(at)?, bytes.get(at + 1)?) {
        (b'/', b'/') => Operator::FloorDivide,
        (b'+', _) => Operator::Add,
        (b'-', _) => Operator::Subtract,
        (b'*', _) => Operator::Multiply,
        (b'/', _) => Operator::Divide,
        _ => return None,
    };
    at = skip_blank(at + operator.sign().len());
    let (right, length) = number::scan(text.get(at..)?)?;
    (at + length == bytes.len()).then_some((left, Some((operator, right))))
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

impl Expression {
    /// Reads a whole text.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        Reader::default().expression(text)
    }

    /// The exact value.
    pub fn value(&self) -> Result<Exact, ExpressionError> {
        match self {
            Expression::Number(number) => Ok(number.clone()),
            Expression::Negate(inner) => Ok(-inner.value()?),
            Expression::Binary(operator, left, right) => operator.apply(&left.value()?, &right.value()?),
        }
    }

    /// How many operators it has (signs not counted).
    pub fn operators(&self) -> usize {
        match self {
            Expression::Number(_) => 0,
            Expression::Negate(inner) => inner.operators(),
            Expression::Binary(_, left, right) => 1 + left.operators() + right.operators(),
        }
    }

    /// The numbers in it, from left to right.
    pub fn numbers(&self) -> Vec<&Exact> {
        let mut numbers = Vec::with_capacity(2);
        self.each_number(&mut |number| numbers.push(number));
        numbers
    }

    /// Hands each number in it on, from left to right.
    pub fn each_number<'a>(&'a self, take: &mut impl FnMut(&'a Exact)) {
        match self {
            Expression::Number(number) => take(number),
            Expression::Negate(inner) => inner.each_number(take),
            Expression::Binary(_, left, right) => {
                left.each_number(take);
                right.each_number(take);
            }
        }
    }

    /// The same with other numbers, asked for from left to right.
    pub fn map_numbers(&self, number: &mut impl FnMut(&Exact) -> Exact) -> Self {
        match self {
            Expression::Number(value) => Expression::Number(number(value)),
            Expression::Negate(inner) => Expression::Negate(Box::new(inner.map_numbers(number))),
            Expression::Binary(operator, left, right) => {
                let left = left.map_numbers(number);
                Self::binary(*operator, left, right.map_numbers(number))
            }
        }
    }

    /// Two values joined.
    pub fn binary(operator: Operator, left: Expression, right: Expression) -> Self {
        Expression::Binary(operator, Box::new(left), Box::new(right))
    }

    /// Writes it with `write` for each number and as few brackets as its meaning allows.
    pub fn text(&self, write: &mut impl FnMut(&Exact) -> String) -> String {
        let mut text = String::with_capacity(24);
        self.push_text(&mut text, &mut |text, number| text.push_str(&write(number)));
        text
    }

    /// The same, appended to a text, as `write` appends a number.
    pub fn push_text(&self, text: &mut String, write: &mut impl FnMut(&mut String, &Exact)) {
        match self {
            Expression::Number(number) => write(text, number),
            Expression::Negate(inner) => {
                text.push('-');
                inner.push_side(text, write, !matches!(**inner, Expression::Number(_)));
            }
            Expression::Binary(operator, left, right) => {
                let weak = |part: &Expression| matches!(part, Expression::Binary(inner, ..) if inner.strength() < operator.strength());
                left.push_side(text, write, weak(left));
                text.extend([" ", operator.sign(), " "]);
                match &**right {
                    Expression::Number(number) => push_right(text, number, write),
                    Expression::Negate(_) => right.push_side(text, write, true),
                    Expression::Binary(inner, ..) => {
                        let associative = inner == operator && matches!(operator, Operator::Add | Operator::Multiply);
                        let strong = inner.strength() > operator.strength() || associative;
                        right.push_side(text, write, !strong);
                    }
                }
            }
        }
    }

    fn push_side(&self, text: &mut String, write: &mut impl FnMut(&mut String, &Exact), bracket: bool) {
        if bracket {
            text.push('(');
        }
        self.push_text(text, write);
        if bracket {
            text.push(')');
        }
    }
}

/// A number at the right of an operator: in brackets if it begins with a minus.
pub(crate) fn push_right(text: &mut String, number: &Exact, write: &mut impl FnMut(&mut String, &Exact)) {
    let start = text.len();
    write(text, number);
    if text[start..].starts_with('-') {
        text.insert(start, '(');
        text.push(')');
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
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> String {
        match Expression::parse(text).and_then(|e| e.value()) {
            Ok(value) => number::exact(&value),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn values_are_exact() {
        let cases = [
            ("48/2", "24"),
            ("18*.5", "9"),
            ("+30+46+38", "114"),
            ("71+-3", "68"),
            ("560//10", "56"),
            ("7//2", "3"),
            ("-7//2", "-4"),
            ("(2+3)*4-10/4", "35/2"),
            ("10-3-2", "5"),
            ("64/4/2", "8"),
            ("$5 × 3", "15"),
            ("5 x 3", "15"),
            ("20% * 50", "10"),
            ("3/4", "3/4"),
            ("0.1+0.2", "3/10"),
            ("-(2+3)", "-5"),
            ("1/0", "division by zero"),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_says_where() {
        assert_eq!(Expression::parse("2 + apples"), Err(ExpressionError::Character(4)));
        assert_eq!(Expression::parse("2 +"), Err(ExpressionError::Operand(3)));
        assert_eq!(Expression::parse("(2"), Err(ExpressionError::Operator(2)));
        assert_eq!(Expression::parse("2 3"), Err(ExpressionError::Operator(2)));
        assert_eq!(Expression::parse(&"(".repeat(300)), Err(ExpressionError::TooComplex));
        assert_eq!(Expression::parse(&"-".repeat(100_000)), Err(ExpressionError::TooComplex));
    }

    #[test]
    fn a_chain_of_products_is_bounded() {
        let nines = "9".repeat(200);
        assert_eq!(value(&vec![nines; 20].join("*")), ExpressionError::TooLarge.to_string());
    }

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

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
            let _ = Expression::parse(&text).and_then(|e| e.value());
        }

        #[test]
        fn what_is_printed_is_read_back(text in "[0-9]{1,3}([-+*/]\\(?-?[0-9]{1,3}\\)?){0,6}") {
            if let Ok(expression) = Expression::parse(&text) {
                let printed = expression.text(&mut number::decimal);
                let again = Expression::parse(&printed).unwrap();
                prop_assert_eq!(expression.value(), again.value(), "{} {}", text, printed);
            }
        }
    }
}
