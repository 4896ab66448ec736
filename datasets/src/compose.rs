//! Calculations to the four stages of a trace.
//!
//! EXECUTE has one operation a line, so that each value has its own line; a calculation with several operations is cut
//! where every value on the way can be written as a decimal, else it stays whole. VERIFY goes the other road: it undoes
//! each step from its result (`24 * 2 = 48` for `48 / 2 = 24`). Every line is checked before it is written.

mod given;
mod listed;
mod prose;
mod understand;
mod words;

use std::borrow::Cow;

pub use prose::{prose, reaches};
use serde::Serialize;
use serde_json::{Map, Value};
use understand::understand;
use words::Words;

use crate::arithmetic::calculation::{self, Room};
use crate::arithmetic::expression::{Expression, ExpressionError, Operator, push_right};
use crate::arithmetic::{Exact, Stated, number};
use crate::graph::steps::origin;
use crate::trajectory::Trajectory;

/// No trace has more steps.
pub const STEPS_MAX: usize = 60;

/// What is known of a problem beside its calculations.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// See [`Trajectory`], as for the other fields.
    pub id: &'a str,
    /// The source's name.
    pub source: &'a str,
    /// The source's split.
    pub split: &'a str,
    /// The question.
    pub question: &'a str,
    /// Language tag.
    pub language: &'a str,
    /// The final answer.
    pub answer: &'a str,
    /// The calculations are the source's whole derivation, as it annotated it.
    pub exact: bool,
    /// What else the source says; goes into `meta`.
    pub meta: &'a Map<String, Value>,
}

/// Why no stages can be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// There is no calculation.
    #[error("there is no calculation")]
    Empty,
    /// Longer than [`STEPS_MAX`].
    #[error("{0} steps, {STEPS_MAX} are the limit")]
    TooLong(usize),
    /// A calculation has no value, or not the one stated.
    #[error("step {0}: the calculation does not hold")]
    Wrong(usize),
    /// An expression cannot be evaluated.
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    /// What was written would not be read back as what was meant.
    #[error("`{0}` would not be read back")]
    Unreadable(String),
}

/// One line of EXECUTE.
struct Step<'a> {
    /// With an operator.
    expression: Cow<'a, Expression>,
    value: Exact,
}

/// Writes the stages.
pub fn compose(problem: &Problem<'_>, calculations: &[Stated]) -> Result<Trajectory, ComposeError> {
    let mut steps = Vec::with_capacity(calculations.len() + 2);
    for (index, stated) in calculations.iter().enumerate() {
        if !stated.holds() {
            return Err(ComposeError::Wrong(index + 1));
        }
        push_steps(&stated.expression, &mut steps)?;
    }
    if steps.is_empty() {
        return Err(ComposeError::Empty);
    }
    if steps.len() > STEPS_MAX {
        return Err(ComposeError::TooLong(steps.len()));
    }
    let words = Words::of(problem.language);
    let mut execute = Numbered::with_capacity(steps.len());
    let mut verify = Numbered::with_capacity(steps.len() + 2);
    let mut pen = Pen::new(problem.language);
    for step in &steps {
        execute.push(|text| pen.made(text, step))?;
        verify.push(|text| pen.undone(text, step))?;
    }
    let mut verify = verify.text;
    verify.extend(["\n", words.undone()]);
    let stages = [understand(problem, &steps, words), plan(&steps, words), execute.text, verify];
    Ok(trajectory(problem, stages, steps.len()))
}

/// Lines `1. …`, `2. …`.
struct Numbered {
    text: String,
    lines: usize,
}

impl Numbered {
    fn with_capacity(lines: usize) -> Self {
        Numbered { text: String::with_capacity(28 * lines), lines: 0 }
    }

    /// One more line, of which `write` writes the text.
    fn push<T>(&mut self, write: impl FnOnce(&mut String) -> T) -> T {
        if self.lines > 0 {
            self.text.push('\n');
        }
        self.lines += 1;
        push_count(&mut self.text, self.lines);
        self.text.push_str(". ");
        write(&mut self.text)
    }
}

fn push_count(text: &mut String, count: usize) {
    text.push_str(itoa::Buffer::new().format(count));
}

/// Writes the calculations of steps as their language has them, each only if it is read back as a true one.
struct Pen<'a> {
    language: &'a str,
    room: Room,
}

impl<'a> Pen<'a> {
    fn new(language: &'a str) -> Self {
        Pen { language, room: Room::default() }
    }

    /// EXECUTE's line for a step.
    fn made(&mut self, text: &mut String, step: &Step) -> Result<(), ComposeError> {
        let start = text.len();
        push_equation(text, &step.expression, &step.value);
        self.read_back(text, start)
    }

    /// VERIFY's line for a step.
    fn undone(&mut self, text: &mut String, step: &Step) -> Result<(), ComposeError> {
        let start = text.len();
        push_undo(text, &step.expression, &step.value)?;
        self.read_back(text, start)
    }

    fn read_back(&mut self, text: &mut String, start: usize) -> Result<(), ComposeError> {
        Words::of(self.language).spell_numbers(text, start);
        let line = &text[start..];
        let holds = calculation::first_holds(line, self.language, &mut self.room);
        if holds { Ok(()) } else { Err(ComposeError::Unreadable(line.to_owned())) }
    }
}

fn trajectory(problem: &Problem<'_>, stages: [String; 4], steps: usize) -> Trajectory {
    let [understand, plan, execute, verify] = stages;
    let meta = Meta { source: problem.meta, exact: problem.exact, steps };
    Trajectory {
        id: problem.id.to_owned(),
        source: problem.source.to_owned(),
        split: problem.split.to_owned(),
        question: problem.question.to_owned(),
        understand,
        plan,
        execute,
        verify,
        answer: problem.answer.to_owned(),
        language: problem.language.to_owned(),
        corrective: false,
        planted: None,
        weights: None,
        meta: serde_json::to_string(&meta).expect("names are texts"),
    }
}

/// What the source says, then what was found.
#[derive(Serialize)]
struct Meta<'a> {
    #[serde(flatten)]
    source: &'a Map<String, Value>,
    exact: bool,
    steps: usize,
}

/// A number is written as a decimal within six places, else as a fraction in brackets.
fn push_number(text: &mut String, value: &Exact) {
    let brackets = if number::is_fraction(value) { ["(", ")"] } else { ["", ""] };
    text.push_str(brackets[0]);
    number::push_decimal(text, value);
    text.push_str(brackets[1]);
}

/// `expression = value`.
pub(crate) fn push_equation(text: &mut String, expression: &Expression, value: &Exact) {
    expression.push_text(text, &mut push_number);
    text.push_str(" = ");
    number::push_decimal(text, value);
}

/// Appends the steps of a calculation.
fn push_steps<'a>(expression: &'a Expression, steps: &mut Vec<Step<'a>>) -> Result<(), ComposeError> {
    let Some(plain) = without_ones(expression) else { return cut(expression, steps).map(drop) };
    let mut own = Vec::new();
    cut(&plain, &mut own)?;
    let owned = |step: Step<'_>| Step { expression: Cow::Owned(step.expression.into_owned()), value: step.value };
    steps.extend(own.into_iter().map(owned));
    Ok(())
}

/// `60 * 1 / 4`, which is how a fourth of 60 is annotated, as `60 / 4`: to multiply by one is no step. None where there is
/// nothing of that kind.
fn without_ones(expression: &Expression) -> Option<Expression> {
    let Expression::Binary(operator, left, right) = expression else { return None };
    if let (Operator::Divide, Expression::Binary(Operator::Multiply, whole, one)) = (operator, &**left)
        && matches!(&**one, Expression::Number(one) if one.is_one())
    {
        let [whole, right] = [whole, right].map(|part| without_ones(part).unwrap_or_else(|| (**part).clone()));
        return Some(Expression::binary(Operator::Divide, whole, right));
    }
    match (without_ones(left), without_ones(right)) {
        (None, None) => None,
        (new_left, new_right) => {
            let [left, right] =
                [(new_left, left), (new_right, right)].map(|(new, old)| new.unwrap_or_else(|| (**old).clone()));
            Some(Expression::binary(*operator, left, right))
        }
    }
}

/// Appends the steps of an expression and returns what stands for its value: a number.
fn cut<'a>(expression: &'a Expression, steps: &mut Vec<Step<'a>>) -> Result<Expression, ComposeError> {
    let Expression::Binary(operator, left, right) = expression else {
        return Ok(Expression::Number(expression.value()?));
    };
    if matches!((&**left, &**right), (Expression::Number(_), Expression::Number(_))) {
        let value = expression.value()?;
        steps.push(Step { expression: Cow::Borrowed(expression), value: value.clone() });
        return Ok(Expression::Number(value));
    }
    let before = steps.len();
    let (mut left_part, mut right_part) = match power(expression) {
        Some((base, times)) => {
            let base = cut(base, steps)?;
            let others =
                (2..times).fold(base.clone(), |product, _| Expression::binary(*operator, product, base.clone()));
            (others, base)
        }
        None => (cut(left, steps)?, cut(right, steps)?),
    };
    if !steps[before..].iter().all(|step| !number::is_fraction(&step.value)) {
        steps.truncate(before);
        (left_part, right_part) = (whole(left), whole(right));
    }
    let value = expression.value()?;
    let expression = Cow::Owned(Expression::binary(*operator, left_part, right_part));
    steps.push(Step { expression, value: value.clone() });
    Ok(Expression::Number(value))
}

/// The base and the exponent of a product of equal factors, from the third power on: one operation, not many.
fn power(expression: &Expression) -> Option<(&Expression, usize)> {
    let (mut rest, mut factors, mut base) = (expression, 1, None::<&Expression>);
    while let Expression::Binary(Operator::Multiply, left, right) = rest
        && base.is_none_or(|base| *base == **right)
    {
        (rest, factors, base) = (&**left, factors + 1, Some(&**right));
    }
    base.filter(|base| factors > 2 && *base == rest).map(|base| (base, factors))
}

/// `-(…)` has no line of its own: a sign is moved into the number.
fn whole(expression: &Expression) -> Expression {
    match (expression, expression.value()) {
        (Expression::Negate(_), Ok(value)) => Expression::Number(value),
        _ => expression.clone(),
    }
}

/// The inverse operation on what an expression made. Where it is undefined (a product with zero) the sum with its sides
/// exchanged; of a power all of its products.
pub(crate) fn push_undo(text: &mut String, expression: &Expression, made: &Exact) -> Result<(), ComposeError> {
    if let Some((base, times)) = power(expression).filter(|_| !made.is_zero()) {
        let made = Expression::Number(made.clone());
        let undone = (1..times).fold(made, |rest, _| Expression::binary(Operator::Divide, rest, base.clone()));
        push_equation(text, &undone, &undone.value()?);
        return Ok(());
    }
    let Expression::Binary(operator, left, right) = expression else { return Err(ComposeError::Empty) };
    let (left_value, right_value);
    let (left, right) = match (&**left, &**right) {
        (Expression::Number(left), Expression::Number(right)) => (left, right),
        _ => {
            (left_value, right_value) = (left.value()?, right.value()?);
            (&left_value, &right_value)
        }
    };
    let (inverse, a, b) = match operator {
        Operator::Add => (Operator::Subtract, made, right),
        Operator::Subtract => (Operator::Add, made, right),
        Operator::Multiply if !right.is_zero() => (Operator::Divide, made, right),
        Operator::Multiply => (Operator::Multiply, right, left),
        Operator::Divide | Operator::FloorDivide => (Operator::Multiply, made, right),
    };
    let value = inverse.apply(a, b)?;
    push_number(text, a);
    text.extend([" ", inverse.sign(), " "]);
    push_right(text, b, &mut push_number);
    text.push_str(" = ");
    number::push_decimal(text, &value);
    if *operator == Operator::FloorDivide && value != *left {
        text.push_str(", ");
        number::push_decimal(text, &(left - value));
        text.push_str(" remain");
    }
    Ok(())
}

/// PLAN: each step in words, earlier results by their step's number, no results.
fn plan(steps: &[Step], words: Words) -> String {
    let mut plan = Numbered::with_capacity(steps.len());
    let mut results: Vec<&Exact> = Vec::with_capacity(steps.len());
    for step in steps {
        let whole = &*step.expression;
        let power = power(whole);
        let (pair, many);
        let numbers: &[&Exact] = match power.map_or(whole, |(base, _)| base) {
            Expression::Binary(_, left, right)
                if let (Expression::Number(left), Expression::Number(right)) = (&**left, &**right) =>
            {
                pair = [left, right];
                &pair
            }
            other => {
                many = other.numbers();
                &many
            }
        };
        // A part of the expression with the place of its first number.
        let push_part = |text: &mut String, part: &Expression, first: usize| {
            let mut places = first..;
            part.push_text(text, &mut |text, value| {
                let earlier = places.next().and_then(|at| origin(numbers, at, &results));
                match earlier {
                    Some(earlier) => {
                        text.push_str(words.step());
                        push_count(text, earlier + 1);
                    }
                    None => words.push_number(text, value),
                }
            });
        };
        plan.push(|text| match (power, whole) {
            (Some((base, times)), _) => {
                let [before, between] = words.power();
                let brackets = if base.operators() > 0 { ["(", ")"] } else { ["", ""] };
                text.extend([before, brackets[0]]);
                push_part(text, base, 0);
                text.extend([brackets[1], between]);
                push_count(text, times);
            }
            // Each side has one number.
            (None, Expression::Binary(operator, left, right)) if whole.operators() == 1 => {
                let ([before, between, after], left_first) = words.operation(*operator);
                let mut sides = [(left, 0), (right, 1)];
                if !left_first {
                    sides.reverse();
                }
                text.push_str(before);
                push_part(text, sides[0].0, sides[0].1);
                text.push_str(between);
                push_part(text, sides[1].0, sides[1].1);
                text.push_str(after);
            }
            _ => {
                text.push_str(words.calculate());
                push_part(text, whole, 0);
            }
        });
        plan.text.push('.');
        results.push(&step.value);
    }
    plan.text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(question: &'static str, answer: &'static str) -> Problem<'static> {
        let nothing = Box::leak(Box::new(Map::new()));
        let (id, source, split, language) = ("own/0", "own", "", "en");
        Problem { id, source, split, question, language, answer, exact: true, meta: nothing }
    }

    #[test]
    fn the_four_stages_of_a_small_problem() {
        let question = "Lan sold 48 clips in April and half as many in May.  How many did she sell in both months?";
        let made = compose(&problem(question, "72"), &calculation::find("48/2 = 24\n48+24 = 72")).unwrap();
        assert_eq!(made.understand, "Given: 48, 1/2.\nGoal: How many did she sell in both months?");
        assert_eq!(made.plan, "1. Divide 48 by 2.\n2. Add step 1 to 48.");
        assert_eq!(made.execute, "1. 48 / 2 = 24\n2. 48 + 24 = 72");
        let verdict = "Each step undone gives back what it began with.";
        assert_eq!(made.verify, format!("1. 24 * 2 = 48\n2. 72 - 24 = 48\n{verdict}"));
    }

    #[test]
    fn long_sums_are_cut_and_fractions_kept_whole() {
        let made = |text: &str| compose(&problem("q?", "1"), &calculation::find(text)).unwrap().execute;
        assert_eq!(made("5+10+14 = 29"), "1. 5 + 10 = 15\n2. 15 + 14 = 29");
        assert_eq!(made("1/3*60 = 20"), "1. 1 / 3 * 60 = 20");
        assert_eq!(made("3/5*180 = 108"), "1. 3 / 5 = 0.6\n2. 0.6 * 180 = 108");
        assert_eq!(made("560//10 = 56"), "1. 560 // 10 = 56");
        assert_eq!(made("71+-3 = 68"), "1. 71 + (-3) = 68");
        assert_eq!(made("0*5 = 0"), "1. 0 * 5 = 0");
    }

    #[test]
    fn to_multiply_by_one_is_no_step_of_a_fraction() {
        let made = |text: &str| compose(&problem("q?", "1"), &calculation::find(text)).unwrap();
        assert_eq!(made("60*1/4 = 15").execute, "1. 60 / 4 = 15");
        assert_eq!(made("(2+4)*1/3+1 = 3").execute, "1. 2 + 4 = 6\n2. 6 / 3 = 2\n3. 2 + 1 = 3");
        assert_eq!(made("2*1/2 = 1").plan, "1. Divide 2 by 2.");
        assert_eq!(made("4*1 = 4").execute, "1. 4 * 1 = 4", "a step of its own stays");
        assert_eq!(made("60*3/4 = 45").execute, "1. 60 * 3 = 180\n2. 180 / 4 = 45");
    }

    #[test]
    fn a_power_is_one_operation() {
        let made = compose(&problem("q?", "1"), &calculation::find("2*2*2 = 8\n(1+2)*(1+2)*(1+2) = 27")).unwrap();
        assert_eq!(made.execute, "1. 2 * 2 * 2 = 8\n2. 1 + 2 = 3\n3. 3 * 3 * 3 = 27");
        assert_eq!(made.plan, "1. Raise 2 to the power 3.\n2. Add 2 to 1.\n3. Raise step 2 to the power 3.");
        assert!(made.verify.starts_with("1. 8 / 2 / 2 = 2\n2. 3 - 2 = 1\n3. 27 / 3 / 3 = 3\n"), "{}", made.verify);
        let nothing = compose(&problem("q?", "1"), &calculation::find("0*0*0 = 0")).unwrap();
        assert!(nothing.verify.starts_with("1. 0 * 0 = 0\n"), "{}", nothing.verify);
    }

    #[test]
    fn a_wrong_sum_is_not_written() {
        let refused = compose(&problem("q?", "5"), &calculation::find("2+2 = 5"));
        assert_eq!(refused.unwrap_err(), ComposeError::Wrong(1));
        assert_eq!(compose(&problem("q?", "5"), &[]).unwrap_err(), ComposeError::Empty);
    }
}
