//! Calculations to the four stages of a trace.
//!
//! EXECUTE has one operation a line, so that each value has its own line; a calculation with several operations is cut
//! where every value on the way can be written as a decimal, else it stays whole. VERIFY goes the other road: it undoes
//! each step from its result (`24 * 2 = 48` for `48 / 2 = 24`). Every line is checked before it is written.

mod given;
mod prose;
mod words;

use std::cell::LazyCell;
use std::collections::HashSet;

pub use prose::{prose, reaches};
use serde_json::{Map, Value};
use words::Words;

use crate::arithmetic::expression::{Expression, ExpressionError, Operator};
use crate::arithmetic::{Exact, Stated, calculation, number};
use crate::graph::steps::origins;
use crate::scores::derivation::Givens;
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
struct Step {
    /// With an operator.
    expression: Expression,
    value: Exact,
}

/// Writes the stages.
pub fn compose(problem: &Problem<'_>, calculations: &[Stated]) -> Result<Trajectory, ComposeError> {
    let mut steps = Vec::new();
    for (index, stated) in calculations.iter().enumerate() {
        if !stated.holds() {
            return Err(ComposeError::Wrong(index + 1));
        }
        cut(&stated.expression, &mut steps)?;
    }
    if steps.is_empty() {
        return Err(ComposeError::Empty);
    }
    if steps.len() > STEPS_MAX {
        return Err(ComposeError::TooLong(steps.len()));
    }
    let words = Words::of(problem.language);
    let mut execute = Vec::new();
    let mut verify = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let line = readable(execute_line(step), problem.language)?;
        execute.push(format!("{}. {line}", index + 1));
        verify.push(format!("{}. {}", index + 1, undone(step, problem.language)?));
    }
    verify.push(words.undone().to_owned());
    let understand = understand(problem, &steps, words);
    let stages = [understand, plan(&steps, words), execute.join("\n"), verify.join("\n")];
    Ok(trajectory(problem, stages, steps.len()))
}

/// The line as its language has it, if it is read back as a true calculation.
fn readable(line: String, language: &str) -> Result<String, ComposeError> {
    let line = Words::of(language).number(line);
    let holds = calculation::find_in(&line, language).first().is_some_and(Stated::holds);
    if holds { Ok(line) } else { Err(ComposeError::Unreadable(line)) }
}

/// VERIFY's line for a step.
fn undone(step: &Step, language: &str) -> Result<String, ComposeError> {
    readable(undo(&step.expression, &step.value)?, language)
}

fn trajectory(problem: &Problem<'_>, stages: [String; 4], steps: usize) -> Trajectory {
    let [understand, plan, execute, verify] = stages;
    let mut meta = problem.meta.clone();
    meta.insert("exact".to_owned(), problem.exact.into());
    meta.insert("steps".to_owned(), steps.into());
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
        meta: Value::Object(meta).to_string(),
    }
}

/// A number is written as a decimal within six places, else as a fraction in brackets.
pub(crate) fn write(value: &Exact) -> String {
    let text = number::decimal(value);
    if text.contains('/') { format!("({text})") } else { text }
}

fn has_decimal(value: &Exact) -> bool {
    !number::decimal(value).contains('/')
}

/// Appends the steps of an expression and returns what stands for its value: a number.
fn cut(expression: &Expression, steps: &mut Vec<Step>) -> Result<Expression, ComposeError> {
    let Expression::Binary(operator, left, right) = expression else {
        return Ok(Expression::Number(expression.value()?));
    };
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
    if !steps[before..].iter().all(|step| has_decimal(&step.value)) {
        steps.truncate(before);
        (left_part, right_part) = (whole(left), whole(right));
    }
    let value = expression.value()?;
    steps.push(Step { expression: Expression::binary(*operator, left_part, right_part), value: value.clone() });
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

fn execute_line(step: &Step) -> String {
    format!("{} = {}", step.expression.text(&mut write), number::decimal(&step.value))
}

/// The inverse operation on what an expression made. Where it is undefined (a product with zero) the sum with its sides
/// exchanged; of a power all of its products.
pub(crate) fn undo(expression: &Expression, made: &Exact) -> Result<String, ComposeError> {
    if let Some((base, times)) = power(expression).filter(|_| !made.is_zero()) {
        let made = Expression::Number(made.clone());
        let undone = (1..times).fold(made, |rest, _| Expression::binary(Operator::Divide, rest, base.clone()));
        return Ok(format!("{} = {}", undone.text(&mut write), number::decimal(&undone.value()?)));
    }
    let Expression::Binary(operator, left, right) = expression else { return Err(ComposeError::Empty) };
    let (left, right) = (&left.value()?, &right.value()?);
    let line = |operator: Operator, a: &Exact, b: &Exact| -> Result<String, ComposeError> {
        let [first, second] = [a, b].map(|value| Expression::Number(value.clone()));
        let inverse = Expression::binary(operator, first, second);
        Ok(format!("{} = {}", inverse.text(&mut write), number::decimal(&inverse.value()?)))
    };
    match operator {
        Operator::Add => line(Operator::Subtract, made, right),
        Operator::Subtract => line(Operator::Add, made, right),
        Operator::Multiply if !right.is_zero() => line(Operator::Divide, made, right),
        Operator::Multiply => line(Operator::Multiply, right, left),
        Operator::Divide => line(Operator::Multiply, made, right),
        Operator::FloorDivide => {
            let rest = left - made * right;
            let product_line = line(Operator::Multiply, made, right)?;
            Ok(if rest.is_zero() { product_line } else { format!("{product_line}, {} remain", number::decimal(&rest)) })
        }
    }
}

/// PLAN: each step in words, earlier results by their step's number, no results.
fn plan(steps: &[Step], words: Words) -> String {
    let line = |(index, step): (usize, &Step)| {
        let whole = &step.expression;
        let results: Vec<&Exact> = steps[..index].iter().map(|earlier| &earlier.value).collect();
        let power = power(whole);
        let mut origins = origins(&power.map_or(whole, |(base, _)| base).numbers(), &results).into_iter();
        let mut name = |value: &Exact| match origins.next().flatten() {
            Some(earlier) => words.step(earlier + 1),
            None => words.number(write(value)),
        };
        if let Some((base, times)) = power {
            return format!("{}. {}.", index + 1, words.power(&in_brackets(base, &mut name), times));
        }
        match whole {
            Expression::Binary(operator, left, right) if whole.operators() == 1 => {
                let (left, right) = (left.text(&mut name), right.text(&mut name));
                format!("{}. {}.", index + 1, words.operation(*operator, &left, &right))
            }
            _ => format!("{}. {}.", index + 1, words.calculate(&whole.text(&mut name))),
        }
    };
    steps.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

fn in_brackets(base: &Expression, name: &mut impl FnMut(&Exact) -> String) -> String {
    let text = base.text(name);
    if base.operators() > 0 { format!("({text})") } else { text }
}

/// UNDERSTAND: the quantities of the question in its order, then the other numbers used that no step makes, and the goal.
fn understand(problem: &Problem<'_>, steps: &[Step], words: Words) -> String {
    let asked = given::without_drawings_and_options(problem.question);
    let quantities = given::quantities(&asked, problem.language);
    let givens = LazyCell::new(|| Givens::of_question(&asked));
    let text = |value: &Exact| words.number(number::decimal(value));
    let (mut stated, mut known): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut listed = HashSet::new();
    for quantity in &quantities {
        let text = words.number(quantity.text());
        if listed.insert(text.clone()) {
            stated.push(text);
        }
    }
    for (index, step) in steps.iter().enumerate() {
        for value in step.expression.numbers() {
            let made = || steps[..index].iter().any(|earlier| earlier.value == *value);
            if quantities.iter().any(|quantity| quantity.is_used_as(value)) || !givens.holds(value) && made() {
                continue;
            }
            let list = if givens.holds(value) { &mut stated } else { &mut known };
            let text = text(value);
            if listed.insert(text.clone()) {
                list.push(text);
            }
        }
    }
    let mut lines = Vec::new();
    if !stated.is_empty() {
        lines.push(format!("{}: {}.", words.given(), stated.join(words.separator())));
    }
    if !known.is_empty() {
        lines.push(format!("{}: {}.", words.also_used(), known.join(words.separator())));
    }
    lines.push(format!("{}: {}", words.goal(), goal(&asked)));
    lines.join("\n")
}

/// The last sentence that asks, else the last one, on one line.
fn goal(asked: &str) -> String {
    let mut last = "";
    let mut end = asked.len();
    for (at, mark) in asked.rmatch_indices(['.', '?', '!']).chain([(0, "")]) {
        let start = at + mark.len();
        let after = &asked[start..];
        // A mark within a number or a word ends nothing, and neither does `n! = 6`.
        let is_inside = !after.is_empty() && !after.starts_with(char::is_whitespace);
        let is_factorial = mark == "!" && after.trim_start().starts_with(|next: char| !next.is_uppercase());
        if !mark.is_empty() && (is_inside || is_factorial) {
            continue;
        }
        let sentence = asked[start..end].trim();
        end = start;
        if sentence.ends_with('?') {
            last = sentence;
            break;
        }
        if last.is_empty() {
            last = sentence;
        }
    }
    let mut line = String::with_capacity(last.len());
    for word in last.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
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
