//! One calculation of a trace, `a op b = c`, over exact numbers, and the lines that hold them.

use num_rational::Ratio;
use num_traits::{CheckedAdd, CheckedDiv, CheckedMul, CheckedSub, Zero};
use serde::{Deserialize, Serialize};

/// An exact number of a trace. Arithmetic on it is checked: what does not fit is no value, never a wrong one.
pub type Number = Ratio<i64>;

/// The four operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operation {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 4] = [Operation::Add, Operation::Subtract, Operation::Multiply, Operation::Divide];

    /// Its sign in a trace.
    pub const fn sign(self) -> char {
        match self {
            Operation::Add => '+',
            Operation::Subtract => '-',
            Operation::Multiply => '*',
            Operation::Divide => '/',
        }
    }

    /// The operation of a sign, as people write it too.
    pub fn of_sign(sign: char) -> Option<Self> {
        match sign {
            '+' => Some(Operation::Add),
            '-' | '−' | '–' => Some(Operation::Subtract),
            '*' | '×' | 'x' => Some(Operation::Multiply),
            '/' | '÷' => Some(Operation::Divide),
            _ => None,
        }
    }

    /// The exact result; none for a division by zero or a result too large.
    pub fn apply(self, left: Number, right: Number) -> Option<Number> {
        match self {
            Operation::Add => left.checked_add(&right),
            Operation::Subtract => left.checked_sub(&right),
            Operation::Multiply => left.checked_mul(&right),
            Operation::Divide if right.is_zero() => None,
            Operation::Divide => left.checked_div(&right),
        }
    }
}

/// Where an operand comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// Stated in the problem, or a constant that everybody knows.
    Given(Number),
    /// The result of an earlier calculation, counted from 0.
    Result(usize),
}

/// A calculation with the origin of its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calculation {
    /// First operand.
    pub left: Operand,
    /// What is done.
    pub operation: Operation,
    /// Second operand.
    pub right: Operand,
}

/// The values of calculations in order; none if one of them has no value.
pub fn evaluate(calculations: &[Calculation]) -> Option<Vec<Number>> {
    let mut values: Vec<Number> = Vec::with_capacity(calculations.len());
    for calculation in calculations {
        let value = |operand| match operand {
            Operand::Given(number) => Some(number),
            Operand::Result(index) => values.get(index).copied(),
        };
        let (left, right) = (value(calculation.left)?, value(calculation.right)?);
        values.push(calculation.operation.apply(left, right)?);
    }
    Some(values)
}

/// Writes a number: a decimal where one is exact within six places, else a fraction.
pub fn format_number(number: Number) -> String {
    if number.is_integer() {
        return number.numer().to_string();
    }
    for places in 1..=6u32 {
        let scale = 10i64.pow(places);
        if let Some(scaled) = number.checked_mul(&Number::from_integer(scale))
            && scaled.is_integer()
        {
            let (sign, digits) = (if *scaled.numer() < 0 { "-" } else { "" }, scaled.numer().unsigned_abs());
            let scale = scale.unsigned_abs();
            return format!("{sign}{}.{:0width$}", digits / scale, digits % scale, width = places as usize);
        }
    }
    format!("{}/{}", number.numer(), number.denom())
}

/// Reads `12`, `-3`, `0.5`, `.5`, `1,200`, `3/4`. None for anything else.
pub fn parse_number(text: &str) -> Option<Number> {
    if let Some((numerator, denominator)) = text.split_once('/') {
        return Operation::Divide.apply(parse_number(numerator)?, parse_number(denominator)?);
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.replace(',', "");
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_digits(&whole) || !is_digits(fraction) || fraction.len() > 12 {
        return None;
    }
    let numerator: i64 = format!("{whole}{fraction}").parse().ok()?;
    let value = Number::new(numerator, 10i64.pow(fraction.len() as u32));
    Some(if negative { -value } else { value })
}

/// A calculation as it stands in a line of text: `left op right = value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// First operand.
    pub left: Number,
    /// What is done.
    pub operation: Operation,
    /// Second operand.
    pub right: Number,
    /// What the line says it makes.
    pub value: Number,
}

impl Written {
    /// Whether the line is true.
    pub fn holds(&self) -> bool {
        self.operation.apply(self.left, self.right) == Some(self.value)
    }
}

/// Reads `n. a op b = c` (the number in front is optional) at the start of a line; what follows `c` is ignored.
pub fn parse_line(line: &str) -> Option<Written> {
    let line = line.trim();
    let body = match line.split_once(". ") {
        Some((number, rest)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => line,
    };
    let mut words = body.split_whitespace();
    let left = parse_number(words.next()?)?;
    let sign = words.next()?;
    let operation = Operation::of_sign(sign.chars().next()?).filter(|_| sign.chars().count() == 1)?;
    let right = parse_number(words.next()?)?;
    if words.next()? != "=" {
        return None;
    }
    let value = parse_number(words.next()?.trim_end_matches([',', '.', ';']))?;
    Some(Written { left, operation, right, value })
}

/// Finds each operand's origin: an operand that equals an earlier result comes from the latest such result, else it is
/// given. (Where both are possible this is the stated rule; a source that knows better says so itself.)
pub fn origins(lines: &[Written]) -> Vec<Calculation> {
    let origin = |before: &[Written], number: Number| match before.iter().rposition(|line| line.value == number) {
        Some(index) => Operand::Result(index),
        None => Operand::Given(number),
    };
    let calculation = |(index, line): (usize, &Written)| Calculation {
        left: origin(&lines[..index], line.left),
        operation: line.operation,
        right: origin(&lines[..index], line.right),
    };
    lines.iter().enumerate().map(calculation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_being_written() {
        for text in ["0", "7", "-3", "0.5", "12.25", "1/3", "-2/7"] {
            assert_eq!(format_number(parse_number(text).unwrap()), text);
        }
        assert_eq!(parse_number("1,200"), Some(Number::from_integer(1200)));
        assert_eq!(parse_number(".5"), parse_number("0.5"));
        for text in ["", "-", ".", "a", "1e400", "1/0", "99999999999999999999", "1.2.3"] {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }

    #[test]
    fn a_line_is_read_with_and_without_its_number() {
        let line = parse_line("2. 17 * 3 = 51, not 54").unwrap();
        assert!(line.holds());
        assert_eq!(parse_line("17 * 3 = 51").unwrap(), line);
        assert!(!parse_line("17 * 3 = 54").unwrap().holds());
        for text in ["", "2.", "a + b = c", "1 + 2", "1 ** 2 = 3", "1 + 2 ~ 3"] {
            assert_eq!(parse_line(text), None, "{text}");
        }
    }

    #[test]
    fn an_operand_comes_from_the_latest_equal_result() {
        let lines: Vec<Written> =
            ["2 + 3 = 5", "5 * 2 = 10", "10 - 5 = 5"].iter().filter_map(|l| parse_line(l)).collect();
        let found = origins(&lines);
        assert_eq!(found[1].left, Operand::Result(0));
        assert_eq!(found[1].right, Operand::Given(Number::from_integer(2)));
        assert_eq!((found[2].left, found[2].right), (Operand::Result(1), Operand::Result(0)));
        let values: Vec<Number> = lines.iter().map(|line| line.value).collect();
        assert_eq!(evaluate(&found), Some(values));
    }
}
