//! The graph itself: a node for each given quantity, each constant and each computed value, an edge from an operand to
//! the result that uses it.

use super::steps;
use crate::arithmetic::{Exact, calculation, number};
use crate::scores::derivation::Givens;
use crate::trajectory::Trajectory;

/// Where a node's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The question says it.
    Given,
    /// Nobody says it: days of a week, a hundred percent.
    Constant,
    /// A calculation of EXECUTE makes it.
    Computed {
        /// Whether the calculation is true.
        holds: bool,
    },
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its origin.
    pub kind: Kind,
    /// For people.
    pub value: String,
    /// The calculation as EXECUTE has it, empty for what is given.
    pub expression: String,
    /// Indices of the nodes it is made from, each once, all of them smaller than its own.
    pub from: Vec<usize>,
}

/// The nodes in an order in which each stands after what it is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes(pub Vec<Node>);

impl Nodes {
    /// Those of a trajectory. Operands come from earlier results by the rule of [`steps::origins`], else from the question.
    pub fn of(trajectory: &Trajectory) -> Self {
        let givens = Givens::of_question(&trajectory.question);
        let mut nodes = Nodes::default();
        let mut leaves: Vec<(Exact, usize)> = Vec::new();
        let (mut results, mut places): (Vec<Exact>, Vec<usize>) = (Vec::new(), Vec::new());
        for stated in calculation::find_in(&trajectory.execute, &trajectory.language) {
            let mut from = Vec::new();
            let numbers = stated.expression.numbers();
            let origins = steps::origins(&numbers, &results.iter().collect::<Vec<_>>());
            for (operand, origin) in numbers.into_iter().zip(origins) {
                let leaf = || leaves.iter().find(|(value, _)| value == operand).map(|(_, at)| *at);
                let at = origin.map(|step| places[step]).or_else(leaf).unwrap_or_else(|| {
                    let kind = if givens.holds(operand) { Kind::Given } else { Kind::Constant };
                    leaves.push((operand.clone(), nodes.0.len()));
                    nodes.push(kind, number::decimal(operand), String::new(), vec![])
                });
                if !from.contains(&at) {
                    from.push(at);
                }
            }
            let expression = stated.expression.text(&mut number::decimal);
            let at =
                nodes.push(Kind::Computed { holds: stated.holds() }, number::decimal(&stated.value), expression, from);
            results.push(stated.value);
            places.push(at);
        }
        nodes
    }

    fn push(&mut self, kind: Kind, value: String, expression: String, from: Vec<usize>) -> usize {
        self.0.push(Node { kind, value, expression, from });
        self.0.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthesize::{STEPS, synthesize};

    #[test]
    fn every_edge_comes_from_an_earlier_node_and_every_result_has_one() {
        for index in 0..200 {
            let nodes = Nodes::of(&synthesize(5, index, STEPS)).0;
            for (at, node) in nodes.iter().enumerate() {
                assert!(node.from.iter().all(|from| *from < at));
                assert_eq!(node.from.is_empty(), !matches!(node.kind, Kind::Computed { .. }));
            }
        }
    }

    #[test]
    fn a_wrong_calculation_is_marked() {
        let trajectory = Trajectory { execute: "1. 2 + 2 = 5".into(), ..synthesize(5, 0, STEPS) };
        let last = Nodes::of(&trajectory).0.pop().unwrap();
        assert_eq!((last.kind, last.value.as_str()), (Kind::Computed { holds: false }, "5"));
    }
}
