//! What kind of answer a tree is: a value, an amount, a tuple, a set, a list, named values, a relation, a region, a text.

use super::node::{Node, Sign};
use super::units::{self, Unit};

/// Longer lists are compared as text.
pub(super) const ITEMS_MAX: usize = 64;

/// An answer by its kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// A number, an expression or a matrix.
    Value(Node),
    /// An amount with its unit, or several of one dimension that add up.
    Measured(Vec<(Node, Unit)>),
    /// A tuple, a vector or an interval, with its brackets.
    Ordered(char, Vec<Answer>, char),
    Set(Vec<Answer>),
    /// Bare values.
    List(Vec<Answer>),
    Named(Name, Box<Answer>, Box<(Node, Node)>),
    /// Values with names that all differ.
    Record(Vec<(Name, Answer)>),
    /// An equation without a name on one side, or an inequality.
    Relation(Vec<Node>, Vec<Sign>),
    /// Inequalities of which one holds.
    Alternatives(Vec<Answer>),
    /// A union or difference of intervals and sets.
    Region(Node),
    /// `x in S`.
    Member(Name, Box<Answer>),
    Text(String),
}

/// The left side of an equation that names its right side.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Name {
    pub(super) text: String,
    /// The variable of `f(x)`: another letter there is the same function.
    pub(super) parameter: Option<String>,
}

/// The kind of a tree.
pub(super) fn arrange(node: Node) -> Answer {
    match node {
        Node::Bracket('{', items, _) => Answer::Set(spliced(items)),
        Node::Bracket('⟨', items, _) => Answer::Ordered('(', items.into_iter().map(arrange).collect(), ')'),
        Node::Bracket(open, items, close) => Answer::Ordered(open, items.into_iter().map(arrange).collect(), close),
        Node::List { items, or } => list(items, or),
        Node::Relation(sides, signs) => relation(sides, signs),
        region @ (Node::Union(_) | Node::Without(..)) => Answer::Region(region),
        Node::Measured(parts) => measured(parts),
        // `A(1; 2)`: a point with its coordinates.
        Node::Call(name, items)
            if items.len() > 1 && name.len() == 1 && name.chars().all(|c| c.is_ascii_uppercase()) =>
        {
            let (left, right) = (Node::Name(name.clone()), Node::Bracket('(', items, ')'));
            Answer::Named(
                Name { text: name, parameter: None },
                Box::new(arrange(right.clone())),
                Box::new((left, right)),
            )
        }
        node if node.any(&|node| matches!(node, Node::PlusMinus(..))) => {
            Answer::List([true, false].map(|up| Answer::Value(chosen(node.clone(), up))).into())
        }
        node => Answer::Value(node),
    }
}

/// The elements, `±` as two.
fn spliced(items: Vec<Node>) -> Vec<Answer> {
    let mut all = Vec::new();
    for item in items {
        let both = item.any(&|node| matches!(node, Node::PlusMinus(..)));
        match arrange(item) {
            Answer::List(two) if both => all.extend(two),
            one => all.push(one),
        }
    }
    all
}

/// One of the two values of a tree with `±`.
fn chosen(node: Node, up: bool) -> Node {
    node.map(&|node| match node {
        Node::PlusMinus(sign, inner) if sign == up => *inner,
        Node::PlusMinus(_, inner) => Node::Negative(inner),
        other => other,
    })
}

fn measured(parts: Vec<(Node, String)>) -> Answer {
    match &parts[..] {
        [(amount, unit)] if units::is_percent(unit) => return Answer::Value(Node::Percent(Box::new(amount.clone()))),
        [(amount, unit)] if units::is_degree(unit) => return Answer::Value(Node::Degrees(Box::new(amount.clone()))),
        _ => {}
    }
    Answer::Measured(parts.into_iter().map(|(amount, unit)| (amount, units::unit(&unit))).collect())
}

/// `x = 2 or 3`, `p = 5, q = 2`, or bare values.
fn list(items: Vec<Node>, or: bool) -> Answer {
    let items = spliced(items);
    let inequality = |item: &Answer| matches!(item, Answer::Relation(_, signs) if signs[..] != [Sign::Equal]);
    if or && items.iter().all(inequality) {
        return Answer::Alternatives(items);
    }
    let names: Vec<&Name> =
        items.iter().filter_map(|item| if let Answer::Named(name, ..) = item { Some(name) } else { None }).collect();
    let differ = (1..names.len()).all(|index| !names[..index].contains(&names[index]));
    let alike = names.windows(2).all(|pair| pair[0] == pair[1]);
    let plain = |item: &Answer| matches!(item, Answer::Value(_) | Answer::Measured(_) | Answer::Ordered(..));
    if names.len() == items.len() && differ && items.len() > 1 {
        let named = |item| if let Answer::Named(name, value, _) = item { Some((name, *value)) } else { None };
        return Answer::Record(items.into_iter().filter_map(named).collect());
    }
    let first = items.first().cloned();
    let named_first = matches!(first, Some(Answer::Named(..))) && items[1..].iter().all(plain) && names.len() == 1;
    match first {
        Some(Answer::Named(name, _, sides)) if names.len() == items.len() && alike || named_first => {
            let value = |item| if let Answer::Named(_, value, _) = item { *value } else { item };
            let values = items.into_iter().map(value).flat_map(|item| match item {
                Answer::List(more) => more,
                one => vec![one],
            });
            Answer::Named(name, Box::new(Answer::List(values.collect())), sides)
        }
        _ if or => Answer::Set(items),
        _ => Answer::List(items),
    }
}

fn relation(mut sides: Vec<Node>, signs: Vec<Sign>) -> Answer {
    if signs[..] == [Sign::In] {
        if let (Some(name), Some(set)) = (sides.first().and_then(label), sides.pop()) {
            return Answer::Member(name, Box::new(arrange(set)));
        }
        return Answer::Text(String::new());
    }
    let equal = signs.iter().all(|sign| *sign == Sign::Equal);
    let (Some(first), Some(last)) = (sides.first().cloned(), sides.last().cloned()) else {
        return Answer::Text(String::new());
    };
    if !equal {
        return Answer::Relation(sides, signs);
    }
    if let (Node::Bracket('(', left, ')'), Node::Bracket('(', right, ')')) = (&first, &last) {
        let names: Vec<Name> = left.iter().filter_map(label).collect();
        if names.len() == right.len() && names.len() == left.len() {
            return Answer::Record(names.into_iter().zip(right.iter().cloned().map(arrange)).collect());
        }
    }
    if let Some(name) = label(&first).filter(|_| !mentions(&last, &first)) {
        return Answer::Named(name, Box::new(arrange(last.clone())), Box::new((first, last)));
    }
    if let Some(name) = label(&last).filter(|_| sides.len() == 2 && !mentions(&first, &last)) {
        return Answer::Named(name, Box::new(arrange(first.clone())), Box::new((last, first)));
    }
    // A calculation: its result is meant.
    let known = |side: &Node| !side.any(&|node| matches!(node, Node::Name(name) if !is_constant(name)));
    if sides.len() > 2 && known(&last) || sides.iter().all(known) {
        return arrange(last);
    }
    Answer::Relation(sides, signs)
}

fn mentions(node: &Node, name: &Node) -> bool {
    node.any(&|inner| inner == name)
}

fn is_constant(name: &str) -> bool {
    matches!(name, "π" | "e" | "i")
}

/// The name that a left side is: a variable, `f(x)`, a segment, an angle, a length, a quotient of segments.
fn label(node: &Node) -> Option<Name> {
    let written = |parameter| Some(Name { text: format!("{node:?}"), parameter });
    let segment = |node: &Node| {
        matches!(node, Node::Name(name) if name.chars().all(|c| c.is_ascii_uppercase()))
            || matches!(node, Node::Call(accent, _) if accent == "overline" || accent == "angle")
    };
    match node {
        Node::Name(name) if name != "π" => Some(Name { text: name.clone(), parameter: None }),
        Node::Call(name, arguments) if !super::words::is_function(name) && name != "!" && name != "binom" => {
            match &arguments[..] {
                [Node::Name(parameter)] if !matches!(name.as_str(), "overline" | "angle" | "vec") => {
                    Some(Name { text: format!("{name}(·)"), parameter: Some(parameter.clone()) })
                }
                _ => written(None),
            }
        }
        Node::Call(name, _) if matches!(name.as_str(), "sin" | "cos" | "tan") => written(None),
        Node::Absolute(inner) if segment(inner) => written(None),
        Node::Product(factors) => {
            let is_segment = |factor: &Node| match factor {
                Node::Inverse(inner) => {
                    segment(inner) || matches!(&**inner, Node::Product(parts) if parts.iter().all(segment))
                }
                Node::Product(parts) => parts.iter().all(segment),
                other => segment(other),
            };
            if factors.iter().all(is_segment) { written(None) } else { None }
        }
        _ => None,
    }
}
