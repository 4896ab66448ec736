//! Whether two answers mean the same; the policies are those of the module above.

use num_integer::Integer;
use num_traits::One;

use super::fraction::Fraction;
use super::node::{Node, Sign};
use super::polynomial::{Field, Refusal};
use super::structure::{Answer, ITEMS_MAX, Name, arrange};
use crate::arithmetic::Exact;

/// A decimal with as many digits may stand for a number that has no finite one.
const ROUNDED_DIGITS: u32 = 10;

impl Field {
    /// Whether the answer found means what the gold one does.
    pub(super) fn same(&mut self, gold: &Answer, found: &Answer) -> bool {
        if self.spend(1).is_err() {
            return false;
        }
        match (gold, found) {
            (Answer::Text(a), Answer::Text(b)) => a == b && !a.is_empty(),
            (Answer::Named(name, a, sides), Answer::Named(other, b, found_sides)) => {
                if name.text == other.text {
                    return match (&name.parameter, &other.parameter) {
                        (Some(to), Some(from))
                            if to != from && (mentions(&found_sides.1, from) || mentions(&sides.1, to)) =>
                        {
                            let renamed = renamed(found_sides.1.clone(), from, to);
                            !mentions(&found_sides.1, to) && self.same_solution(a, &arrange(renamed))
                        }
                        _ => self.same_solution(a, b),
                    };
                }
                self.same_equation(&[sides.0.clone(), sides.1.clone()], &[found_sides.0.clone(), found_sides.1.clone()])
            }
            (Answer::Named(_, _, sides), Answer::Relation(other, signs)) if signs[..] == [Sign::Equal] => {
                self.same_equation(&[sides.0.clone(), sides.1.clone()], other)
            }
            (Answer::Relation(other, signs), Answer::Named(_, _, sides)) if signs[..] == [Sign::Equal] => {
                self.same_equation(other, &[sides.0.clone(), sides.1.clone()])
            }
            (Answer::Member(name, a), Answer::Member(other, b)) => name == other && self.same(a, b),
            (Answer::Member(_, a), b) if !is_relation(b) => self.same(a, b),
            (a, Answer::Member(name, b)) if !is_relation(a) => self.same_unnamed(a, name, b),
            (Answer::Named(_, a, _), b) if !is_relation(b) => self.same_solution(a, b),
            (a, Answer::Named(name, b, _)) if !is_relation(a) => self.same_unnamed(a, name, b),
            (Answer::Record(a), Answer::Record(b)) => {
                a.len() == b.len()
                    && a.iter().all(|(name, value)| {
                        b.iter().find(|(other, _)| other == name).is_some_and(|(_, found)| self.same(value, found))
                    })
            }
            (Answer::Record(a), Answer::Ordered('(', b, ')') | Answer::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((_, value), found)| self.same(value, found))
            }
            (Answer::Ordered('(', a, ')') | Answer::List(a), Answer::Record(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(value, (_, found))| self.same(value, found))
            }
            (Answer::List(a), Answer::List(b) | Answer::Set(b)) if self.is_in_order_asked(a) => {
                matches!(found, Answer::List(_)) && a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.same(a, b))
            }
            (Answer::List(a), Answer::List(b)) => a.len() == b.len() && self.matched(a, b),
            (Answer::Set(a), Answer::Set(b) | Answer::List(b)) | (Answer::List(a), Answer::Set(b)) => {
                self.covers(a, b) && self.covers(b, a)
            }
            (Answer::Set(a), b @ (Answer::Value(_) | Answer::Ordered(..))) if a.len() == 1 => self.same(&a[0], b),
            (a @ (Answer::Value(_) | Answer::Ordered(..)), Answer::Set(b)) if b.len() == 1 => self.same(a, &b[0]),
            (Answer::Ordered(open, a, close), Answer::Ordered(other_open, b, other_close)) => {
                (open, close) == (other_open, other_close)
                    && a.len() == b.len()
                    && a.iter().zip(b).all(|(a, b)| self.same(a, b))
            }
            (Answer::Relation(a, signs), Answer::Relation(b, other)) => {
                self.same_relation((a, signs), (b, other)) || self.same_solutions(gold, found)
            }
            (Answer::Alternatives(a), Answer::Alternatives(b)) => {
                a.len() == b.len() && self.matched(a, b) || self.same_solutions(gold, found)
            }
            // A gold set asks for the set: inequalities are not accepted for it, but a set is for inequalities.
            (Answer::Relation(..) | Answer::Alternatives(_), _) => self.same_solutions(gold, found),
            (_, Answer::Relation(..) | Answer::Alternatives(_)) => false,
            (Answer::Region(a), Answer::Region(b)) if a == b => true,
            (Answer::Region(_), _) | (_, Answer::Region(_)) => self.same_solutions(gold, found),
            (Answer::Measured(a), Answer::Measured(b)) => self.same_amount(a, b).unwrap_or(false),
            (Answer::Measured(a), Answer::Value(b)) => self.same_bare(a, b, true),
            (Answer::Value(a), Answer::Measured(b)) => self.same_bare(b, a, false),
            (Answer::Value(a), Answer::Value(b)) => self.same_value(a, b),
            _ => false,
        }
    }

    /// A name that only the found answer has is no matter, unless the gold answer speaks of it itself.
    fn same_unnamed(&mut self, gold: &Answer, name: &Name, found: &Answer) -> bool {
        let itself = matches!(gold, Answer::Value(node) if mentions(node, &name.text));
        !itself && self.same(gold, found)
    }

    /// The values of one name: what solves it, in any order.
    fn same_solution(&mut self, gold: &Answer, found: &Answer) -> bool {
        match (gold, found) {
            (Answer::List(a), Answer::List(b)) => a.len() == b.len() && self.matched(a, b),
            _ => self.same(gold, found),
        }
    }

    /// Whether a bare gold list is one of numbers that neither rise nor fall: who lists all solutions sorts them, so
    /// these stand in the order that was asked for.
    fn is_in_order_asked(&mut self, items: &[Answer]) -> bool {
        let mut number = |item: &Answer| match item {
            Answer::Value(node) => self.value(node).ok()?.value(),
            _ => None,
        };
        let Some(numbers) = items.iter().map(&mut number).collect::<Option<Vec<Exact>>>() else { return false };
        !numbers.is_sorted() && !numbers.is_sorted_by(|a, b| a >= b)
    }

    /// One-to-one in any order.
    fn matched(&mut self, a: &[Answer], b: &[Answer]) -> bool {
        if a.len() > ITEMS_MAX {
            return a == b;
        }
        let mut left: Vec<&Answer> = b.iter().collect();
        a.iter().all(|wanted| match left.iter().position(|found| self.same(wanted, found)) {
            Some(at) => {
                left.swap_remove(at);
                true
            }
            None => false,
        })
    }

    /// Whether each of `a` is among `b`.
    fn covers(&mut self, a: &[Answer], b: &[Answer]) -> bool {
        a.len().max(b.len()) <= ITEMS_MAX && a.iter().all(|wanted| b.iter().any(|found| self.same(wanted, found)))
    }

    fn same_solutions(&mut self, gold: &Answer, found: &Answer) -> bool {
        let (Ok(a), Ok(b)) = (self.solve(gold), self.solve(found)) else { return false };
        let variables = a.variable.is_none() || b.variable.is_none() || a.variable == b.variable;
        variables && self.same_spans(&a.spans, &b.spans).unwrap_or(false)
    }

    /// Equations that are the same but for a factor.
    fn same_equation(&mut self, a: &[Node], b: &[Node]) -> bool {
        self.same_relation((a, &[Sign::Equal]), (b, &[Sign::Equal]))
    }

    fn same_relation(&mut self, a: (&[Node], &[Sign]), b: (&[Node], &[Sign])) -> bool {
        if a == b {
            return true;
        }
        let (Some(a), Some(mut b)) = (self.differences(a.0, a.1), self.differences(b.0, b.1)) else { return false };
        a.len() == b.len()
            && a.iter().all(|(difference, sign)| {
                let found = b.iter().position(|(other, other_sign)| {
                    let ordered = matches!(sign, Sign::Less | Sign::LessEqual);
                    sign == other_sign && self.proportional(difference, other, ordered)
                });
                found.map(|at| b.swap_remove(at)).is_some()
            })
    }

    /// Each comparison as `difference sign 0` with a sign that looks left.
    fn differences(&mut self, sides: &[Node], signs: &[Sign]) -> Option<Vec<(Fraction, Sign)>> {
        let mut all = Vec::new();
        for (index, sign) in signs.iter().enumerate() {
            let (left, right) = (self.value(sides.get(index)?).ok()?, self.value(sides.get(index + 1)?).ok()?);
            let difference = self.add(&left, &right.negated()).ok()?;
            all.push(match sign {
                Sign::Greater | Sign::GreaterEqual => (difference.negated(), sign.mirrored()),
                Sign::In => return None,
                _ => (difference, *sign),
            });
        }
        Some(all)
    }

    /// Amounts of one dimension, converted.
    fn same_amount(
        &mut self,
        a: &[(Node, super::units::Unit)],
        b: &[(Node, super::units::Unit)],
    ) -> Result<bool, Refusal> {
        let (Some((_, unit)), Some((_, other))) = (a.first(), b.first()) else { return Ok(false) };
        let one_dimension = a.iter().chain(b).all(|(_, each)| each.bases == unit.bases);
        if !one_dimension || unit.bases != other.bases {
            return Ok(false);
        }
        let mut sums = [a, b].into_iter().map(|parts| {
            let mut sum = Fraction::rational(Exact::zero());
            for (amount, unit) in parts {
                let amount = self.value(amount)?;
                let scaled = self.times(&amount, &Fraction::rational(&unit.scale * &unit.multiplier))?;
                sum = self.add(&sum, &scaled)?;
            }
            Ok(sum)
        });
        let (Some(first), Some(second)) = (sums.next(), sums.next()) else { return Ok(false) };
        drop(sums);
        let (first, second) = (first?, second?);
        self.equal(&first, &second)
    }

    /// An amount against a bare number: a unit may be left out, its number word (`million`) not.
    fn same_bare(&mut self, amount: &[(Node, super::units::Unit)], bare: &Node, gold_has_unit: bool) -> bool {
        let [(value, unit)] = amount else { return false };
        if !matches!(bare, Node::Number { .. }) && bare.any(&|node| matches!(node, Node::Percent(_) | Node::Degrees(_)))
        {
            return false;
        }
        let multiplied = if unit.multiplier.is_one() {
            value.clone()
        } else {
            let factor = Node::Number { value: unit.multiplier.clone(), significant: 0 };
            Node::Product(vec![factor, value.clone()])
        };
        if gold_has_unit { self.same_value(&multiplied, bare) } else { self.same_value(bare, &multiplied) }
    }

    /// Two values: numbers, expressions, matrices; percent and degrees may be left out.
    fn same_value(&mut self, gold: &Node, found: &Node) -> bool {
        match (gold, found) {
            (Node::Percent(a), Node::Percent(b)) | (Node::Degrees(a), Node::Degrees(b)) => self.same_value(a, b),
            (Node::Percent(_), Node::Degrees(_)) | (Node::Degrees(_), Node::Percent(_)) => false,
            (Node::Percent(inner) | Node::Degrees(inner), b) => self.same_value(inner, b) || self.same_number(gold, b),
            (a, Node::Percent(inner) | Node::Degrees(inner)) => self.same_value(a, inner) || self.same_number(a, found),
            (Node::Ratio(a), Node::Ratio(b)) if a.len() != 2 || b.len() != 2 => self.same_ratio(a, b).unwrap_or(false),
            _ => self.same_number(gold, found) || self.same_matrix(gold, found),
        }
    }

    fn same_number(&mut self, gold: &Node, found: &Node) -> bool {
        let infinite = |node: &Node| node.any(&|inner| *inner == Node::Infinity);
        if infinite(gold) || infinite(found) {
            return gold == found;
        }
        match (self.value(gold), self.value(found)) {
            (Ok(a), Ok(b)) => self.equal(&a, &b).unwrap_or(false) || self.is_rounded(&a, found),
            // What is too large to work out, or has no value, is compared as it stands.
            _ => gold == found,
        }
    }

    /// Whether `found` is a decimal of many digits that rounds a number without a finite decimal.
    fn is_rounded(&self, gold: &Fraction, found: &Node) -> bool {
        let (decimal, digits) = match found {
            Node::Number { value, significant } => (value.clone(), *significant),
            Node::Negative(inner) => match &**inner {
                Node::Number { value, significant } => (-value, *significant),
                _ => return false,
            },
            _ => return false,
        };
        if digits < ROUNDED_DIGITS {
            return false;
        }
        if let Some(exact) = gold.value() {
            let mut under = exact.denom();
            for prime in [2u32, 5] {
                while under.is_multiple_of(&prime.into()) {
                    under /= prime;
                }
            }
            let error = Exact::new(1.into(), crate::arithmetic::number::power_of_ten(digits as usize - 1));
            return !under.is_one() && (&exact - &decimal).abs() <= exact.abs() * error;
        }
        let (Some(exact), Some(decimal)) = (self.approximate(gold), decimal.to_f64()) else { return false };
        (exact - decimal).abs() <= exact.abs() * 10f64.powi(1 - digits.min(14) as i32)
    }

    fn same_ratio(&mut self, a: &[Node], b: &[Node]) -> Result<bool, Refusal> {
        let (Some(a_first), Some(b_first)) = (a.first(), b.first()) else { return Ok(false) };
        let (a_first, b_first) = (self.value(a_first)?, self.value(b_first)?);
        if a.len() != b.len() || a_first.is_zero() || b_first.is_zero() {
            return Ok(a == b);
        }
        for (left, right) in a.iter().zip(b) {
            let (left, right) = (self.value(left)?, self.value(right)?);
            let (left, right) = (self.times(&left, &b_first)?, self.times(&right, &a_first)?);
            if !self.equal(&left, &right)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn same_matrix(&mut self, gold: &Node, found: &Node) -> bool {
        if !gold.any(&|node| matches!(node, Node::Matrix(_))) || !found.any(&|node| matches!(node, Node::Matrix(_))) {
            return false;
        }
        let (Ok(a), Ok(b)) = (self.matrix(gold), self.matrix(found)) else { return gold == found };
        let shape = |rows: &[Vec<Fraction>]| rows.iter().map(Vec::len).collect::<Vec<_>>();
        shape(&a) == shape(&b)
            && a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| self.equal(a, b).unwrap_or(false))
    }

    /// The entries of a matrix, a multiple, a sum or a product of matrices.
    fn matrix(&mut self, node: &Node) -> Result<Vec<Vec<Fraction>>, Refusal> {
        match node {
            Node::Matrix(rows) => rows.iter().map(|row| row.iter().map(|entry| self.value(entry)).collect()).collect(),
            Node::Negative(inner) => {
                let rows = self.matrix(inner)?;
                Ok(rows.iter().map(|row| row.iter().map(Fraction::negated).collect()).collect())
            }
            Node::Sum(items) => {
                let mut items = items.iter();
                let mut sum = self.matrix(items.next().ok_or(Refusal::Undefined)?)?;
                for item in items {
                    let item = self.matrix(item)?;
                    if item.len() != sum.len() || item.iter().zip(&sum).any(|(a, b)| a.len() != b.len()) {
                        return Err(Refusal::Undefined);
                    }
                    for (entry, other) in sum.iter_mut().flatten().zip(item.iter().flatten()) {
                        *entry = self.add(entry, other)?;
                    }
                }
                Ok(sum)
            }
            Node::Product(items) => {
                let mut scale = Fraction::rational(Exact::one());
                let mut product: Option<Vec<Vec<Fraction>>> = None;
                for item in items {
                    if !item.any(&|node| matches!(node, Node::Matrix(_))) {
                        let factor = self.value(item)?;
                        scale = self.times(&scale, &factor)?;
                        continue;
                    }
                    let next = self.matrix(item)?;
                    product = Some(match product {
                        None => next,
                        Some(left) => self.matrix_product(&left, &next)?,
                    });
                }
                let mut rows = product.ok_or(Refusal::Undefined)?;
                for entry in rows.iter_mut().flatten() {
                    *entry = self.times(entry, &scale)?;
                }
                Ok(rows)
            }
            _ => Err(Refusal::Undefined),
        }
    }

    fn matrix_product(&mut self, a: &[Vec<Fraction>], b: &[Vec<Fraction>]) -> Result<Vec<Vec<Fraction>>, Refusal> {
        let width = b.first().map_or(0, Vec::len);
        let mut rows = Vec::new();
        for row in a {
            if row.len() != b.len() {
                return Err(Refusal::Undefined);
            }
            let mut out = Vec::new();
            for column in 0..width {
                let mut sum = Fraction::rational(Exact::zero());
                for (entry, other) in row.iter().zip(b) {
                    let part = self.times(entry, other.get(column).ok_or(Refusal::Undefined)?)?;
                    sum = self.add(&sum, &part)?;
                }
                out.push(sum);
            }
            rows.push(out);
        }
        Ok(rows)
    }
}

fn is_relation(answer: &Answer) -> bool {
    matches!(answer, Answer::Relation(..) | Answer::Alternatives(_))
}

fn mentions(node: &Node, name: &str) -> bool {
    node.any(&|inner| matches!(inner, Node::Name(other) if other == name))
}

fn renamed(node: Node, from: &str, to: &str) -> Node {
    node.map(&|inner| match inner {
        Node::Name(name) if name == from => Node::Name(to.to_owned()),
        other => other,
    })
}
