//! The dependency graph of a trace: its calculations in order, and for each number in them the earlier calculation that
//! made it.

use crate::arithmetic::number::{self, decimal};
use crate::arithmetic::{Exact, Expression, ExpressionError, Operator, Stated};

/// Where an operand comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// Stated in the problem, or a constant that everybody knows.
    Given(Exact),
    /// The result of an earlier calculation, counted from 0.
    Result(usize),
}

/// A calculation with the origin of its numbers. Where everything is right, it makes `value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is calculated, with the right numbers.
    pub expression: Expression,
    /// For each number of the expression, from left to right, the earlier calculation that made it.
    pub origins: Vec<Option<usize>>,
    /// The right value.
    pub value: Exact,
}

impl Step {
    /// The expression once the calculations before it made `values`, right or wrong.
    pub fn with(&self, values: &[Exact]) -> Expression {
        let mut origins = self.origins.iter();
        self.expression.map_numbers(&mut |number| {
            let origin = origins.next().copied().flatten();
            origin.and_then(|step| values.get(step)).unwrap_or(number).clone()
        })
    }
}

/// Appends `left operator right` and returns its result as an operand. None of it is appended if it has no value, or an
/// operand that does not exist yet.
pub fn push(
    steps: &mut Vec<Step>,
    left: Operand,
    operator: Operator,
    right: Operand,
) -> Result<Operand, ExpressionError> {
    let of = |operand: Operand| match operand {
        Operand::Given(number) => Some((number, None)),
        Operand::Result(step) => steps.get(step).map(|earlier| (earlier.value.clone(), Some(step))),
    };
    let sides = of(left).zip(of(right)).ok_or(ExpressionError::Operand(steps.len()))?;
    let ((left, left_origin), (right, right_origin)) = sides;
    let expression = Expression::binary(operator, Expression::Number(left), Expression::Number(right));
    let value = expression.value()?;
    steps.push(Step { expression, origins: vec![left_origin, right_origin], value });
    Ok(Operand::Result(steps.len() - 1))
}

/// The graph of calculations as a text states them, with the [`origins`] of their numbers. (A source that knows better
/// says so itself, see [`with_names`].)
pub fn of_stated(stated: &[Stated]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::with_capacity(stated.len());
    for line in stated {
        let results: Vec<&Exact> = steps.iter().map(|earlier| &earlier.value).collect();
        let expression = fractions_joined(&line.expression, &|value| results.contains(&value));
        let origins = origins(&expression.numbers(), &results);
        steps.push(Step { expression, origins, value: line.value.clone() });
    }
    steps
}

/// Where the numbers of one calculation come from, as indices into the results before it; none: given, or a constant.
///
/// The stated rule where more than one origin is possible: a number that equals earlier results comes from the latest of
/// them. A number that stands m times in the calculation comes from the latest m of them, in their order (`12 + 12` after
/// two steps that made 12 adds the one to the other), and from the latest again where there are fewer.
pub fn origins(numbers: &[&Exact], results: &[&Exact]) -> Vec<Option<usize>> {
    (0..numbers.len()).map(|at| origin(numbers, at, results)).collect()
}

/// The same of one number.
pub fn origin(numbers: &[&Exact], at: usize, results: &[&Exact]) -> Option<usize> {
    let number = &numbers[at];
    let mut equal = results.iter().enumerate().rev().filter(|(_, result)| *result == number).map(|(step, _)| step);
    let latest = equal.next()?;
    let later = numbers[at + 1..].iter().filter(|other| *other == number).count();
    Some(equal.take(later).last().unwrap_or(latest))
}

/// `(1/3)` is how a result is written that no decimal can write: one number, not a division.
fn fractions_joined(expression: &Expression, is_result: &impl Fn(&Exact) -> bool) -> Expression {
    let join = |part: &Expression| match (part, part.value()) {
        (Expression::Binary(Operator::Divide, ..), Ok(value)) if number::is_fraction(&value) && is_result(&value) => {
            Expression::Number(value)
        }
        _ => fractions_joined(part, is_result),
    };
    match expression {
        Expression::Binary(operator, left, right) => Expression::binary(*operator, join(left), join(right)),
        other => other.clone(),
    }
}

/// The values where everything is right.
pub fn values(steps: &[Step]) -> Vec<Exact> {
    steps.iter().map(|step| step.value.clone()).collect()
}

/// The origins as they go into `meta`: for each number of a calculation itself, or `#k` for the result of step k (from 1).
pub fn names(steps: &[Step]) -> Vec<Vec<String>> {
    let name = |(number, origin): (&Exact, &Option<usize>)| match origin {
        None => decimal(number),
        Some(step) => format!("#{}", step + 1),
    };
    steps.iter().map(|step| step.expression.numbers().into_iter().zip(&step.origins).map(name).collect()).collect()
}

/// Takes the origins from what [`names`] wrote; false, and nothing is taken, unless they fit.
pub fn with_names(steps: &mut [Step], names: &[Vec<String>]) -> bool {
    let fits = |(index, (step, names)): (usize, (&Step, &Vec<String>))| -> Option<Vec<Option<usize>>> {
        let numbers = step.expression.numbers();
        if numbers.len() != names.len() {
            return None;
        }
        let origin = |(value, name): (&Exact, &String)| match name.strip_prefix('#') {
            Some(earlier) => {
                let earlier = earlier.parse::<usize>().ok()?.checked_sub(1).filter(|earlier| *earlier < index)?;
                (steps[earlier].value == *value).then_some(Some(earlier))
            }
            None => (number::parse(name)? == *value).then_some(None),
        };
        numbers.into_iter().zip(names).map(origin).collect()
    };
    if steps.len() != names.len() {
        return false;
    }
    let Some(origins) = steps.iter().zip(names).enumerate().map(fits).collect::<Option<Vec<_>>>() else { return false };
    for (step, origins) in steps.iter_mut().zip(origins) {
        step.origins = origins;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arithmetic::calculation::find;

    fn exact(number: i64) -> Exact {
        Exact::from_integer(number.into())
    }

    #[test]
    fn an_operand_comes_from_the_latest_equal_result() {
        let steps = of_stated(&find("2 + 3 = 5\n5 * 2 = 10\n10 - 5 = 5\n5 + 1 = 6"));
        let origins: Vec<&[Option<usize>]> = steps.iter().map(|step| step.origins.as_slice()).collect();
        assert_eq!(origins, [[None, None], [Some(0), None], [Some(1), Some(0)], [Some(2), None]]);
        assert_eq!(steps[2].with(&[exact(7), exact(14)]).value(), Ok(exact(7)));
    }

    #[test]
    fn a_number_that_stands_twice_comes_from_two_results_where_there_are_two() {
        let origins = |text: &str| of_stated(&find(text)).pop().unwrap().origins;
        assert_eq!(origins("3 * 4 = 12\n2 * 6 = 12\n12 + 12 = 24"), [Some(0), Some(1)]);
        assert_eq!(origins("3 * 4 = 12\n12 + 12 = 24"), [Some(0), Some(0)]);
        assert_eq!(origins("3 * 4 = 12\n2 * 6 = 12\n1 * 12 = 12\n12 + 5 - 12 = 5"), [Some(1), None, Some(2)]);
        assert_eq!(origins("3 * 4 = 12\n2 * 6 = 12\n12 + 12 + 12 = 36"), [Some(0), Some(0), Some(1)]);
    }

    #[test]
    fn a_fraction_that_was_made_before_is_one_number() {
        let steps = of_stated(&find("1 / 3 = 1/3\n(1/3) * 60 = 20\n(1/4) * 60 = 15"));
        assert_eq!((steps[1].origins.as_slice(), steps[1].expression.operators()), ([Some(0), None].as_slice(), 1));
        assert_eq!(steps[2].expression.operators(), 2);
    }

    #[test]
    fn names_are_read_back_and_refused_where_they_do_not_fit() {
        let mut steps = Vec::new();
        let given = |number| Operand::Given(exact(number));
        let first = push(&mut steps, given(2), Operator::Add, given(3)).unwrap();
        push(&mut steps, given(5), Operator::Multiply, first).unwrap();
        let names = names(&steps);
        assert_eq!(names, [["2", "3"], ["5", "#1"]]);
        let mut read = of_stated(&find("2 + 3 = 5\n5 * 5 = 25"));
        assert_eq!(read[1].origins, [Some(0), Some(0)]);
        for wrong in [vec![], vec![vec!["2".into(), "3".into()], vec!["5".into(), "#2".into()]]] {
            assert!(!with_names(&mut read, &wrong));
        }
        assert!(with_names(&mut read, &names));
        assert_eq!(read, steps);
        assert!(push(&mut steps, given(1), Operator::Divide, given(0)).is_err());
        assert!(push(&mut steps, given(1), Operator::Add, Operand::Result(2)).is_err());
    }
}
