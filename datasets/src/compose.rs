//! Calculations to the four stages of a trace.
//!
//! EXECUTE has one operation a line, so that each value has its own line; a calculation with several operations is cut
//! where every value on the way can be written as a decimal, else it stays whole. VERIFY goes the other road: it undoes
//! each step from its result (`24 * 2 = 48` for `48 / 2 = 24`). Every line is checked before it is written.

mod prose;
mod words;

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
    operator: Operator,
    left: Expression,
    right: Expression,
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
    let givens = Givens::of_question(problem.question);
    let words = Words::of(problem.language);
    let mut execute = Vec::new();
    let mut verify = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let line = readable(execute_line(step), problem.language)?;
        execute.push(format!("{}. {line}", index + 1));
        verify.push(format!("{}. {}", index + 1, undone(step, problem.language)?));
    }
    verify.push(words.undone().to_owned());
    let understand = understand(problem.question, &steps, &givens, words);
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
    readable(verify_line(step)?, language)
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
    let (mut left_part, mut right_part) = (cut(left, steps)?, cut(right, steps)?);
    if !steps[before..].iter().all(|step| has_decimal(&step.value)) {
        steps.truncate(before);
        (left_part, right_part) = (whole(left), whole(right));
    }
    let value = expression.value()?;
    steps.push(Step { operator: *operator, left: left_part, right: right_part, value: value.clone() });
    Ok(Expression::Number(value))
}

/// `-(…)` has no line of its own: a sign is moved into the number.
fn whole(expression: &Expression) -> Expression {
    match (expression, expression.value()) {
        (Expression::Negate(_), Ok(value)) => Expression::Number(value),
        _ => expression.clone(),
    }
}

fn expression(step: &Step) -> Expression {
    Expression::Binary(step.operator, Box::new(step.left.clone()), Box::new(step.right.clone()))
}

fn execute_line(step: &Step) -> String {
    format!("{} = {}", expression(step).text(&mut write), number::decimal(&step.value))
}

fn verify_line(step: &Step) -> Result<String, ComposeError> {
    undo(step.operator, &step.left.value()?, &step.right.value()?, &step.value)
}

/// The inverse operation on what `left operator right` made. Where it is undefined (a product with zero) the sum with
/// its sides exchanged.
pub(crate) fn undo(operator: Operator, left: &Exact, right: &Exact, made: &Exact) -> Result<String, ComposeError> {
    let line = |operator: Operator, a: &Exact, b: &Exact| -> Result<String, ComposeError> {
        let [first, second] = [a, b].map(|value| Expression::Number(value.clone()));
        let inverse = Expression::binary(operator, first, second);
        Ok(format!("{} = {}", inverse.text(&mut write), number::decimal(&inverse.value()?)))
    };
    let zero = Exact::from_integer(0.into());
    match operator {
        Operator::Add => line(Operator::Subtract, made, right),
        Operator::Subtract => line(Operator::Add, made, right),
        Operator::Multiply if *right != zero => line(Operator::Divide, made, right),
        Operator::Multiply => line(Operator::Multiply, right, left),
        Operator::Divide => line(Operator::Multiply, made, right),
        Operator::FloorDivide => {
            let rest = left - made * right;
            let product_line = line(Operator::Multiply, made, right)?;
            Ok(if rest == zero { product_line } else { format!("{product_line}, {} remain", number::decimal(&rest)) })
        }
    }
}

/// PLAN: each step in words, earlier results by their step's number, no results.
fn plan(steps: &[Step], words: Words) -> String {
    let line = |(index, step): (usize, &Step)| {
        let whole = expression(step);
        let results: Vec<&Exact> = steps[..index].iter().map(|earlier| &earlier.value).collect();
        let mut origins = origins(&whole.numbers(), &results).into_iter();
        let mut name = |value: &Exact| match origins.next().flatten() {
            Some(earlier) => words.step(earlier + 1),
            None => words.number(write(value)),
        };
        let simple = step.left.operators() == 0 && step.right.operators() == 0;
        if !simple {
            return format!("{}. {}.", index + 1, words.calculate(&whole.text(&mut name)));
        }
        let (left, right) = (step.left.text(&mut name), step.right.text(&mut name));
        format!("{}. {}.", index + 1, words.operation(step.operator, &left, &right))
    };
    steps.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// UNDERSTAND: the numbers used that no step makes, those of the question first, and the question's goal.
fn understand(question: &str, steps: &[Step], givens: &Givens, words: Words) -> String {
    let (mut stated, mut known): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for (index, step) in steps.iter().enumerate() {
        for value in step.left.numbers().into_iter().chain(step.right.numbers()) {
            let given = givens.holds(value);
            if !given && steps[..index].iter().any(|earlier| earlier.value == *value) {
                continue;
            }
            let list = if given { &mut stated } else { &mut known };
            let text = words.number(number::decimal(value));
            if !list.contains(&text) {
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
    lines.push(format!("{}: {}", words.goal(), goal(question)));
    lines.join("\n")
}

/// The last sentence that asks, else the last one. Lines of options (`A. …`) ask nothing.
fn goal(question: &str) -> String {
    let is_option = |line: &&str| matches!(line.as_bytes(), [b'A'..=b'F', b'.' | b')', ..]);
    let question = question.lines().filter(|line| !is_option(line)).collect::<Vec<_>>().join("\n");
    let mut sentences: Vec<String> = Vec::new();
    let mut current = String::new();
    let mut characters = question.chars().peekable();
    while let Some(character) = characters.next() {
        current.push(if character.is_whitespace() { ' ' } else { character });
        let ends = matches!(character, '.' | '?' | '!') && characters.peek().is_none_or(|next| next.is_whitespace());
        if ends || characters.peek().is_none() {
            let sentence = current.split_whitespace().collect::<Vec<_>>().join(" ");
            if !sentence.is_empty() {
                sentences.push(sentence);
            }
            current.clear();
        }
    }
    let asks = sentences.iter().rfind(|sentence| sentence.ends_with('?'));
    asks.or(sentences.last()).cloned().unwrap_or_default()
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
        assert_eq!(made.understand, "Given: 48.\nAlso used: 2.\nGoal: How many did she sell in both months?");
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
    fn a_wrong_sum_is_not_written() {
        let refused = compose(&problem("q?", "5"), &calculation::find("2+2 = 5"));
        assert_eq!(refused.unwrap_err(), ComposeError::Wrong(1));
        assert_eq!(compose(&problem("q?", "5"), &[]).unwrap_err(), ComposeError::Empty);
    }
}
