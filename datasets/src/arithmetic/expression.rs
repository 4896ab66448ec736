//! Arithmetic expressions: numbers, `+ - * / //`, signs, brackets, a percent sign after a number.

use super::exact::Exact;
use super::reading::Reader;

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

    pub(super) const fn strength(self) -> u8 {
        match self {
            Operator::Add | Operator::Subtract => 1,
            _ => 2,
        }
    }

    /// The exact result.
    #[inline]
    pub fn apply(self, left: &Exact, right: &Exact) -> Result<Exact, ExpressionError> {
        let value = match self {
            Operator::Add => left + right,
            Operator::Subtract => left - right,
            Operator::Multiply => left * right,
            Operator::Divide | Operator::FloorDivide if right.is_zero() => return Err(ExpressionError::DivisionByZero),
            Operator::Divide => left / right,
            Operator::FloorDivide => (left / right).floor(),
        };
        if value.small().is_some() || value.bits() <= BITS_MAX { Ok(value) } else { Err(ExpressionError::TooLarge) }
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
            Expression::Binary(operator, left, right) => match (&**left, &**right) {
                (Expression::Number(left), Expression::Number(right)) => operator.apply(left, right),
                _ => operator.apply(&left.value()?, &right.value()?),
            },
        }
    }

    /// Whether it makes this value.
    pub(crate) fn makes(&self, value: &Exact) -> bool {
        self.value().is_ok_and(|made| made == *value)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arithmetic::number;
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
