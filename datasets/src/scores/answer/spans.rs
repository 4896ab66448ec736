//! Sets of real numbers as unions of intervals with exact ends; solutions of simple inequalities.

use std::cmp::Ordering;

use num_traits::One;

use super::fraction::Fraction;
use super::node::{Node, Sign};
use super::polynomial::{Atom, Exponent, Field, Polynomial, Refusal};
use super::structure::Answer;
use crate::arithmetic::Exact;

/// More pieces are not compared.
const PIECES_MAX: usize = 64;

/// A bound: before every number, after every number, or right before or after one.
#[derive(Debug, Clone, PartialEq)]
enum Cut {
    Lowest,
    /// The number, its float (for the order), and whether the cut is after it.
    At(Fraction, f64, bool),
    Highest,
}

/// Disjoint pieces from cut to cut, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Spans(Vec<(Cut, Cut)>);

/// Which set one answer is, over which variable if it says so.
pub(super) struct Solved {
    pub(super) variable: Option<String>,
    pub(super) spans: Spans,
}

impl Field {
    fn order(&mut self, a: &Cut, b: &Cut) -> Result<Ordering, Refusal> {
        Ok(match (a, b) {
            (Cut::Lowest, Cut::Lowest) | (Cut::Highest, Cut::Highest) => Ordering::Equal,
            (Cut::Lowest, _) | (_, Cut::Highest) => Ordering::Less,
            (_, Cut::Lowest) | (Cut::Highest, _) => Ordering::Greater,
            (Cut::At(a, a_float, a_after), Cut::At(b, b_float, b_after)) => {
                if self.equal(a, b)? {
                    a_after.cmp(b_after)
                } else if (a_float - b_float).abs() > 1e-9 * a_float.abs().max(b_float.abs()).max(1e-3) {
                    a_float.total_cmp(b_float)
                } else {
                    return Err(Refusal::Undefined); // Too close to be told apart by floats.
                }
            }
        })
    }

    pub(super) fn same_spans(&mut self, a: &Spans, b: &Spans) -> Result<bool, Refusal> {
        if a.0.len() != b.0.len() {
            return Ok(false);
        }
        for ((low, high), (other_low, other_high)) in a.0.iter().zip(&b.0) {
            if self.order(low, other_low)?.is_ne() || self.order(high, other_high)?.is_ne() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn unite(&mut self, a: &Spans, b: &Spans) -> Result<Spans, Refusal> {
        if a.0.len() + b.0.len() > PIECES_MAX {
            return Err(Refusal::TooLarge);
        }
        let mut sorted: Vec<(Cut, Cut)> = Vec::new();
        for piece in a.0.iter().chain(&b.0) {
            if self.order(&piece.0, &piece.1)?.is_ge() {
                continue; // Empty, as `(2, 2)` is.
            }
            let mut at = sorted.len();
            while at > 0 && self.order(&sorted[at - 1].0, &piece.0)?.is_gt() {
                at -= 1;
            }
            sorted.insert(at, piece.clone());
        }
        let mut merged: Vec<(Cut, Cut)> = Vec::new();
        for (low, high) in sorted {
            match merged.pop() {
                Some((first, last)) if self.order(&low, &last)?.is_le() => {
                    let end = if self.order(&last, &high)?.is_lt() { high } else { last };
                    merged.push((first, end));
                }
                previous => {
                    merged.extend(previous);
                    merged.push((low, high));
                }
            }
        }
        Ok(Spans(merged))
    }

    fn complement(spans: &Spans) -> Spans {
        let (mut low, mut pieces) = (Cut::Lowest, Vec::new());
        for (from, to) in &spans.0 {
            if low != *from {
                pieces.push((low, from.clone()));
            }
            low = to.clone();
        }
        if low != Cut::Highest {
            pieces.push((low, Cut::Highest));
        }
        Spans(pieces)
    }

    fn intersect(&mut self, a: &Spans, b: &Spans) -> Result<Spans, Refusal> {
        let outside = self.unite(&Field::complement(a), &Field::complement(b))?;
        Ok(Field::complement(&outside))
    }

    fn cut(&mut self, node: &Node, after: bool) -> Result<Cut, Refusal> {
        match node {
            Node::Infinity => Ok(Cut::Highest),
            Node::Negative(inner) if **inner == Node::Infinity => Ok(Cut::Lowest),
            node => {
                let value = self.value(node)?;
                self.cut_at(value, after)
            }
        }
    }

    fn cut_at(&mut self, value: Fraction, after: bool) -> Result<Cut, Refusal> {
        let float = self.approximate(&value).ok_or(Refusal::Undefined)?;
        Ok(Cut::At(value, float, after))
    }

    /// The set of a tree of intervals, points, unions and differences.
    pub(super) fn region(&mut self, node: &Node) -> Result<Spans, Refusal> {
        self.spend(1)?;
        match node {
            Node::Bracket(open @ ('(' | '['), ends, close) if ends.len() == 2 => {
                let closed_at_infinity = |end: &Node, bracket: char| {
                    matches!(bracket, '[' | ']') && end.any(&|node| *node == Node::Infinity)
                };
                if closed_at_infinity(&ends[0], *open) || closed_at_infinity(&ends[1], *close) {
                    return Err(Refusal::Undefined);
                }
                let piece = (self.cut(&ends[0], *open == '(')?, self.cut(&ends[1], *close == ']')?);
                self.unite(&Spans(vec![piece]), &Spans::default())
            }
            Node::Bracket('{', points, _) => {
                let mut all = Spans::default();
                for point in points {
                    let piece = (self.cut(point, false)?, self.cut(point, true)?);
                    all = self.unite(&all, &Spans(vec![piece]))?;
                }
                Ok(all)
            }
            Node::Union(parts) => {
                let mut all = Spans::default();
                for part in parts {
                    let part = self.region(part)?;
                    all = self.unite(&all, &part)?;
                }
                Ok(all)
            }
            Node::Without(from, less) => {
                let (from, less) = (self.region(from)?, self.region(less)?);
                self.intersect(&from, &Field::complement(&less))
            }
            Node::Name(name) if name == "RR" => Ok(Field::complement(&Spans::default())),
            _ => Err(Refusal::Undefined),
        }
    }

    /// The set that an answer is: a region, or the solutions of inequalities in one variable.
    pub(super) fn solve(&mut self, answer: &Answer) -> Result<Solved, Refusal> {
        match answer {
            Answer::Member(name, inner) => {
                let solved = self.solve(inner)?;
                Ok(Solved { variable: Some(name.text.clone()), spans: solved.spans })
            }
            Answer::Named(_, inner, _) => self.solve(inner),
            Answer::Region(node) => Ok(Solved { variable: None, spans: self.region(node)? }),
            Answer::Value(node @ Node::Name(_)) => Ok(Solved { variable: None, spans: self.region(node)? }),
            Answer::Ordered(open, ends, close) => {
                let ends: Option<Vec<Node>> = ends.iter().map(scalar).collect();
                let node = Node::Bracket(*open, ends.ok_or(Refusal::Undefined)?, *close);
                Ok(Solved { variable: None, spans: self.region(&node)? })
            }
            Answer::Set(points) => {
                let points: Option<Vec<Node>> = points.iter().map(scalar).collect();
                let node = Node::Bracket('{', points.ok_or(Refusal::Undefined)?, '}');
                Ok(Solved { variable: None, spans: self.region(&node)? })
            }
            Answer::Relation(sides, signs) => self.solve_relation(sides, signs),
            Answer::Alternatives(parts) => {
                let mut all = Solved { variable: None, spans: Spans::default() };
                for part in parts {
                    let part = self.solve(part)?;
                    if all.variable.is_some() && all.variable != part.variable {
                        return Err(Refusal::Undefined);
                    }
                    all = Solved { variable: part.variable, spans: self.unite(&all.spans, &part.spans)? };
                }
                Ok(all)
            }
            _ => Err(Refusal::Undefined),
        }
    }

    fn solve_relation(&mut self, sides: &[Node], signs: &[Sign]) -> Result<Solved, Refusal> {
        let mut all = Solved { variable: None, spans: Field::complement(&Spans::default()) };
        for (index, sign) in signs.iter().enumerate() {
            // An infinite side says nothing: `-∞ < x`.
            let pair = [&sides[index], &sides[index + 1]];
            let infinite = |node: &Node| node.any(&|inner| *inner == Node::Infinity);
            if pair.into_iter().any(infinite) && matches!(sign, Sign::Less | Sign::Greater) {
                continue;
            }
            let (left, right) = (self.value(pair[0])?, self.value(pair[1])?);
            let difference = self.add(&left, &right.negated())?;
            let (variable, spans) = self.solve_difference(&difference, *sign)?;
            if all.variable.as_ref().is_some_and(|known| *known != variable) {
                return Err(Refusal::Undefined);
            }
            all = Solved { variable: Some(variable), spans: self.intersect(&all.spans, &spans)? };
        }
        Ok(all)
    }

    /// Solves `difference sign 0`, linear in one variable or in the absolute value of such.
    fn solve_difference(&mut self, difference: &Fraction, sign: Sign) -> Result<(String, Spans), Refusal> {
        if difference.under.rational().is_none() {
            return Err(Refusal::Undefined);
        }
        let (mut slope, mut rest, mut of) = (Polynomial::default(), Polynomial::default(), None);
        for (monomial, value) in &difference.over.0 {
            let known = monomial
                .iter()
                .position(|(atom, _)| !matches!(self.atom(*atom), Some(Atom::Pi | Atom::Euler | Atom::Prime(_))));
            let Some(position) = known else {
                rest = rest.plus(&Polynomial::term(monomial.clone(), value.clone()));
                continue;
            };
            let (atom, times) = monomial[position];
            if !times.is_one() || of.is_some_and(|of| of != atom) {
                return Err(Refusal::Undefined);
            }
            of = Some(atom);
            let mut others = monomial.clone();
            others.remove(position);
            slope = slope.plus(&Polynomial::term(others, value.clone()));
        }
        let of = of.ok_or(Refusal::Undefined)?;
        let slope = Fraction::of(slope);
        let rising = self.approximate(&slope).filter(|slope| slope.abs() > 1e-9).ok_or(Refusal::Undefined)? > 0.0;
        let inverse = self.inverse(&slope)?;
        let bound = self.times(&Fraction::of(rest), &inverse)?.negated();
        let sign = if rising { sign } else { sign.mirrored() };
        match self.atom(of).cloned() {
            Some(Atom::Variable(name)) => Ok((name, self.half_line(bound, sign)?)),
            Some(Atom::Function(function, arguments)) if function == "abs" && arguments.len() == 1 => {
                // |g| < c holds where -c < g and g < c; |g| > c where one of g < -c, g > c does.
                let c = self.approximate(&bound).filter(|c| *c > 0.0).ok_or(Refusal::Undefined)?;
                let inner = &arguments[0];
                let above = self.add(inner, &bound.negated())?;
                let below = self.add(inner, &bound)?;
                let (name, first) = self.solve_difference(&above, sign)?;
                let (_, second) = self.solve_difference(&below, sign.mirrored())?;
                debug_assert!(c > 0.0);
                let spans = match sign {
                    Sign::Less | Sign::LessEqual | Sign::NotEqual => self.intersect(&first, &second)?,
                    _ => self.unite(&first, &second)?,
                };
                Ok((name, spans))
            }
            _ => Err(Refusal::Undefined),
        }
    }

    fn half_line(&mut self, bound: Fraction, sign: Sign) -> Result<Spans, Refusal> {
        let (before, after) = (self.cut_at(bound.clone(), false)?, self.cut_at(bound, true)?);
        Ok(match sign {
            Sign::Less => Spans(vec![(Cut::Lowest, before)]),
            Sign::LessEqual => Spans(vec![(Cut::Lowest, after)]),
            Sign::Greater => Spans(vec![(after, Cut::Highest)]),
            Sign::GreaterEqual => Spans(vec![(before, Cut::Highest)]),
            Sign::Equal => Spans(vec![(before, after)]),
            Sign::NotEqual => Spans(vec![(Cut::Lowest, before), (after, Cut::Highest)]),
            Sign::In => return Err(Refusal::Undefined),
        })
    }

    /// Whether `a` is `b` times a rational factor, a positive one if asked.
    pub(super) fn proportional(&mut self, a: &Fraction, b: &Fraction, positive: bool) -> bool {
        let (Some((first, a_value)), Some(b_value)) =
            (a.over.0.iter().next(), a.over.0.keys().next().and_then(|key| b.over.0.get(key)))
        else {
            return a.is_zero() && b.is_zero();
        };
        let _: &Vec<(usize, Exponent)> = first;
        let factor = a_value / b_value;
        let allowed = !positive || factor > Exact::zero();
        allowed && a.under == b.under && b.over.scaled(&factor) == a.over
    }
}

/// The tree of an element, if it is one value.
fn scalar(answer: &Answer) -> Option<Node> {
    match answer {
        Answer::Value(node) => Some(node.clone()),
        _ => None,
    }
}
