//! The derivation graph of a trace, written out: each calculation of EXECUTE as an expression over the values that the
//! problem gives and over constants.
//!
//! Where a number is both given and an earlier result the rule is that of [`crate::scores::derivation`]: the latest
//! earlier result of that value stands first. (RFS accepts either origin; one line of text can show only one.)

mod nodes;
pub mod steps;
mod svg;

pub use nodes::{Kind, Node, Nodes};
use serde::Serialize;
pub use svg::draw;

use crate::arithmetic::{Exact, Expression, Operator, Stated, calculation, number};
use crate::scores::answer;
use crate::scores::derivation::Givens;
use crate::trajectory::Trajectory;

/// Earlier results are written out up to this many operators; beyond it their value stands for them. (A chain of
/// `x + x` doubles at each step.)
pub const OPERATORS_MAX: usize = 512;

/// One line of `datasets graph`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// The trajectory's id.
    pub id: String,
    /// The problem.
    pub question: String,
    /// Every calculation holds, the last one makes the final answer, and the source does not say otherwise (`meta.exact`).
    pub exact: bool,
    /// The values that the question gives, ascending, as exact rationals.
    pub given: Vec<String>,
    /// One for each calculation, in order.
    pub derivations: Vec<Derivation>,
}

/// A computed value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Derivation {
    /// The stated result, `n` or `n/d`.
    pub value: String,
    /// How it comes from given values and constants, in `+ - * / ( )`.
    pub expression: String,
}

/// The graph of a trajectory.
pub fn of(trajectory: &Trajectory) -> Graph {
    let givens = Givens::of_question(&trajectory.question);
    let meta: serde_json::Value = serde_json::from_str(&trajectory.meta).unwrap_or_default();
    let calculations = match annotations(&meta) {
        Some(annotations) => annotations,
        None => calculation::find_in(&trajectory.execute, &trajectory.language),
    };
    let mut results: Vec<(&Exact, Expression)> = Vec::new();
    for stated in &calculations {
        let whole = expand(&stated.expression, &results);
        let whole = if whole.operators() > OPERATORS_MAX { stated.expression.clone() } else { whole };
        results.push((&stated.value, whole));
    }
    let derivation = |(value, expression): &(&Exact, Expression)| Derivation {
        value: number::exact(value),
        expression: without_floor(expression).text(&mut leaf),
    };
    Graph {
        id: trajectory.id.clone(),
        question: trajectory.question.clone(),
        exact: is_exact(trajectory, &meta, &calculations),
        given: givens.values().map(number::exact).collect(),
        derivations: results.iter().map(derivation).collect(),
    }
}

/// The source's own annotations, where EXECUTE is the solution's prose (`meta.annotations`): `n op m = value`, or a value
/// alone where the source states one without saying how it is made.
fn annotations(meta: &serde_json::Value) -> Option<Vec<Stated>> {
    let stated = |annotation: &serde_json::Value| {
        let (expression, value) = annotation.as_str()?.rsplit_once(" = ")?;
        Some(Stated { expression: Expression::parse(expression).ok()?, value: number::parse(value)?, range: 0..0 })
    };
    meta.get("annotations")?.as_array()?.iter().map(stated).collect()
}

fn is_exact(trajectory: &Trajectory, meta: &serde_json::Value, calculations: &[Stated]) -> bool {
    let denied = meta.get("exact") == Some(&serde_json::Value::Bool(false));
    let reaches = calculations
        .last()
        .is_some_and(|last| answer::equal(&trajectory.answer, &number::decimal(&last.value), &trajectory.language));
    !denied && reaches && calculations.iter().all(Stated::holds)
}

fn expand(expression: &Expression, results: &[(&Exact, Expression)]) -> Expression {
    match expression {
        Expression::Number(value) => match results.iter().rev().find(|(result, _)| *result == value) {
            Some((_, whole)) => whole.clone(),
            None => expression.clone(),
        },
        Expression::Negate(inner) => Expression::Negate(Box::new(expand(inner, results))),
        Expression::Binary(operator, left, right) => {
            Expression::Binary(*operator, Box::new(expand(left, results)), Box::new(expand(right, results)))
        }
    }
}

/// Floor division as the four operations have it: `a / b` where nothing remains, else the quotient as a constant.
fn without_floor(expression: &Expression) -> Expression {
    match expression {
        Expression::Number(_) => expression.clone(),
        Expression::Negate(inner) => Expression::Negate(Box::new(without_floor(inner))),
        Expression::Binary(operator, left, right) => {
            let (left, right) = (without_floor(left), without_floor(right));
            let divided = Expression::Binary(Operator::Divide, Box::new(left.clone()), Box::new(right.clone()));
            match (operator, expression.value()) {
                (Operator::FloorDivide, Ok(floor)) if divided.value().as_ref() != Ok(&floor) => {
                    Expression::Number(floor)
                }
                (Operator::FloorDivide, _) => divided,
                _ => Expression::Binary(*operator, Box::new(left), Box::new(right)),
            }
        }
    }
}

/// A number as a leaf: what is not a plain digit string stands in brackets.
fn leaf(value: &Exact) -> String {
    let text = number::exact(value);
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text } else { format!("({text})") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::{Problem, compose};

    fn graph(question: &str, execute: &str, answer: &str) -> Graph {
        let stated = calculation::find(execute);
        let meta = serde_json::Map::new();
        let (id, source, split, language) = ("t", "t", "", "en");
        let problem = Problem { id, source, split, question, language, answer, exact: true, meta: &meta };
        let mut trajectory = compose(&problem, &stated).unwrap();
        trajectory.execute = execute.to_owned();
        of(&trajectory)
    }

    #[test]
    fn earlier_results_are_written_out() {
        let graph = graph("48 in April, half in May", "48 / 2 = 24\n48 + 24 = 72", "72");
        assert_eq!(graph.given, ["1/2", "48"]);
        let expressions: Vec<&str> = graph.derivations.iter().map(|d| d.expression.as_str()).collect();
        assert_eq!(expressions, ["48 / 2", "48 + 48 / 2"]);
        assert!(graph.exact);
    }

    #[test]
    fn a_last_result_that_is_not_the_answer_is_not_exact() {
        assert!(!graph("3 and 4", "3 + 4 = 7", "8").exact);
    }

    #[test]
    fn brackets_keep_the_meaning_of_a_substituted_result() {
        let graph = graph("9, 4, 3", "9 - 4 = 5\n3 - 5 = -2\n0.5 * -2 = -1", "-1");
        assert_eq!(graph.derivations[2].expression, "(1/2) * (3 - (9 - 4))");
    }

    #[test]
    fn a_chain_that_doubles_stays_small() {
        let lines: Vec<String> = (0..40).map(|k| format!("{0} + {0} = {1}", 1u64 << k, 2u64 << k)).collect();
        let graph = graph("1 grain", &lines.join("\n"), &(1u64 << 40).to_string());
        assert!(graph.derivations.iter().all(|d| d.expression.len() < 20_000));
        assert_eq!(graph.derivations.len(), 40);
    }

    #[test]
    fn floor_division_becomes_a_quotient() {
        let graph = graph("560 and 17 and 5", "560 // 10 = 56\n17 // 5 = 3", "3");
        assert_eq!(graph.derivations[0].expression, "560 / 10");
        assert_eq!(graph.derivations[1].expression, "3");
    }
}
