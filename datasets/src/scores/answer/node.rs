//! What an answer says, as a tree: sums and products, and the structures around them.

use crate::arithmetic::Exact;

/// A comparison sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
}

impl Sign {
    /// The sign after both sides are swapped (or negated).
    pub(super) fn mirrored(self) -> Self {
        match self {
            Sign::Less => Sign::Greater,
            Sign::LessEqual => Sign::GreaterEqual,
            Sign::Greater => Sign::Less,
            Sign::GreaterEqual => Sign::LessEqual,
            other => other,
        }
    }
}

/// One answer as it is written; nothing is worked out yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// A numeral; `significant` counts the digits of one with a decimal point, else 0.
    Number {
        value: Exact,
        significant: u32,
    },
    /// A variable, a constant (`π`, `e`, `i`) or a named point, with its subscript.
    Name(String),
    Infinity,
    Sum(Vec<Node>),
    Product(Vec<Node>),
    Inverse(Box<Node>),
    Negative(Box<Node>),
    /// `± x`, or `∓ x` if false.
    PlusMinus(bool, Box<Node>),
    Power(Box<Node>, Box<Node>),
    /// Index and radicand.
    Root(Box<Node>, Box<Node>),
    /// `sin x`, `log` (base, number), `f(x)`, `!`, `binom`.
    Call(String, Vec<Node>),
    Absolute(Box<Node>),
    Degrees(Box<Node>),
    Percent(Box<Node>),
    /// `a:b`, two numbers or more.
    Ratio(Vec<Node>),
    Matrix(Vec<Vec<Node>>),
    /// Elements between brackets: `(` `[` `{` `⟨`, kept as written.
    Bracket(char, Vec<Node>, char),
    /// Bare elements; `or` if they are alternatives.
    List {
        items: Vec<Node>,
        or: bool,
    },
    /// `a < b <= c`.
    Relation(Vec<Node>, Vec<Sign>),
    Union(Vec<Node>),
    Without(Box<Node>, Box<Node>),
    /// Amounts with their units: `3 giờ 30 phút` has two.
    Measured(Vec<(Node, String)>),
}

impl Node {
    /// A whole number.
    pub(super) fn whole(value: i64) -> Self {
        Node::Number { value: Exact::from_integer(value.into()), significant: 0 }
    }

    /// The nodes right below this one.
    pub(super) fn children(&self) -> Vec<&Node> {
        match self {
            Node::Number { .. } | Node::Name(_) | Node::Infinity => Vec::new(),
            Node::Sum(items)
            | Node::Product(items)
            | Node::Call(_, items)
            | Node::Ratio(items)
            | Node::Bracket(_, items, _)
            | Node::List { items, .. }
            | Node::Relation(items, _)
            | Node::Union(items) => items.iter().collect(),
            Node::Inverse(a)
            | Node::Negative(a)
            | Node::PlusMinus(_, a)
            | Node::Absolute(a)
            | Node::Degrees(a)
            | Node::Percent(a) => vec![a],
            Node::Power(a, b) | Node::Root(a, b) | Node::Without(a, b) => vec![a, b],
            Node::Matrix(rows) => rows.iter().flatten().collect(),
            Node::Measured(parts) => parts.iter().map(|(amount, _)| amount).collect(),
        }
    }

    /// The same tree with every node below changed by `change`, the innermost first.
    pub(super) fn map(self, change: &impl Fn(Node) -> Node) -> Self {
        let one = |node: Box<Node>| Box::new(node.map(change));
        let all = |nodes: Vec<Node>| nodes.into_iter().map(|node| node.map(change)).collect::<Vec<_>>();
        change(match self {
            leaf @ (Node::Number { .. } | Node::Name(_) | Node::Infinity) => leaf,
            Node::Sum(items) => Node::Sum(all(items)),
            Node::Product(items) => Node::Product(all(items)),
            Node::Call(name, items) => Node::Call(name, all(items)),
            Node::Ratio(items) => Node::Ratio(all(items)),
            Node::Bracket(open, items, close) => Node::Bracket(open, all(items), close),
            Node::List { items, or } => Node::List { items: all(items), or },
            Node::Relation(items, signs) => Node::Relation(all(items), signs),
            Node::Union(items) => Node::Union(all(items)),
            Node::Inverse(a) => Node::Inverse(one(a)),
            Node::Negative(a) => Node::Negative(one(a)),
            Node::PlusMinus(up, a) => Node::PlusMinus(up, one(a)),
            Node::Absolute(a) => Node::Absolute(one(a)),
            Node::Degrees(a) => Node::Degrees(one(a)),
            Node::Percent(a) => Node::Percent(one(a)),
            Node::Power(a, b) => Node::Power(one(a), one(b)),
            Node::Root(a, b) => Node::Root(one(a), one(b)),
            Node::Without(a, b) => Node::Without(one(a), one(b)),
            Node::Matrix(rows) => Node::Matrix(rows.into_iter().map(all).collect()),
            Node::Measured(parts) => {
                Node::Measured(parts.into_iter().map(|(amount, unit)| (amount.map(change), unit)).collect())
            }
        })
    }

    /// Whether `test` holds for this node or any below.
    pub(super) fn any(&self, test: &impl Fn(&Node) -> bool) -> bool {
        test(self) || self.children().into_iter().any(|child| child.any(test))
    }
}
