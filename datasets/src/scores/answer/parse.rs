//! Tokens to a tree, by descent: list, relation, union, sum, product, sign, power, primary.
//!
//! What is no mathematics makes the whole answer unreadable (None): it is then compared as text.

use super::node::{Node, Sign};
use super::tokens::{Placed, Token};
use crate::arithmetic::Exact;

/// Deeper nesting is not read.
const DEPTH_MAX: u32 = 48;

/// The tree of an answer.
pub(super) fn parse(tokens: &[Placed]) -> Option<Node> {
    let mut parser = Parser { tokens, at: 0, depth: 0, bars: 0, currency: None, pending: None };
    let node = parser.list()?;
    (parser.at == tokens.len()).then_some(node)
}

struct Parser<'a> {
    tokens: &'a [Placed],
    at: usize,
    depth: u32,
    /// How many `|` are open.
    bars: u32,
    currency: Option<&'static str>,
    /// Brackets that were read already, with where they begin and end.
    pending: Option<(usize, Node, usize)>,
}

/// What separates two elements.
#[derive(Clone, Copy, PartialEq)]
enum Separator {
    Comma,
    Semicolon,
    Or,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|placed| &placed.token)
    }

    fn ahead(&self, by: usize) -> Option<&Token> {
        self.tokens.get(self.at + by).map(|placed| &placed.token)
    }

    fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    fn mark(&mut self, mark: char) -> bool {
        self.take(&Token::Mark(mark))
    }

    /// One level deeper, within the limit.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.depth += 1;
        let found = if self.depth > DEPTH_MAX { None } else { read(self) };
        self.depth -= 1;
        found
    }

    fn separator(&mut self) -> Option<Separator> {
        let mut found = None;
        loop {
            let next = match self.peek() {
                Some(Token::Mark(',') | Token::Connector(false) | Token::Row) => Separator::Comma,
                Some(Token::Mark(';')) => Separator::Semicolon,
                Some(Token::Connector(true)) => Separator::Or,
                _ => return found,
            };
            self.at += 1;
            // `, or` is an or.
            found = Some(if found.is_none() || next == Separator::Or { next } else { found? });
        }
    }

    /// Elements up to what closes them; a semicolon separates more strongly than a comma.
    fn list(&mut self) -> Option<Node> {
        let mut items = vec![self.relation()?];
        let mut separators = Vec::new();
        while let Some(separator) = self.separator() {
            if self.peek().is_none() {
                break;
            }
            separators.push(separator);
            items.push(self.relation()?);
        }
        if items.len() == 1 {
            return items.pop();
        }
        let or = separators.iter().all(|separator| *separator == Separator::Or);
        if separators.contains(&Separator::Semicolon) && separators.contains(&Separator::Comma) {
            let mut groups = vec![Vec::new()];
            for (index, item) in items.into_iter().enumerate() {
                if index > 0 && separators[index - 1] != Separator::Comma {
                    groups.push(Vec::new());
                }
                groups.last_mut()?.push(item);
            }
            items = groups
                .into_iter()
                .map(
                    |mut group| if group.len() == 1 { group.remove(0) } else { Node::List { items: group, or: false } },
                )
                .collect();
        }
        Some(Node::List { items, or })
    }

    fn relation(&mut self) -> Option<Node> {
        let mut sides = vec![self.union()?];
        let mut signs: Vec<Sign> = Vec::new();
        while let Some(Token::Compare(sign)) = self.peek() {
            signs.push(*sign);
            self.at += 1;
            sides.push(self.union()?);
        }
        if signs.is_empty() { sides.pop() } else { Some(Node::Relation(sides, signs)) }
    }

    fn union(&mut self) -> Option<Node> {
        let mut found = self.measured()?;
        loop {
            if self.mark('∪') {
                let next = self.measured()?;
                found = match found {
                    Node::Union(mut parts) => {
                        parts.push(next);
                        Node::Union(parts)
                    }
                    first => Node::Union(vec![first, next]),
                };
            } else if self.mark('∖') {
                if matches!(found, Node::Without(..)) {
                    return None;
                }
                found = Node::Without(Box::new(found), Box::new(self.measured()?));
            } else {
                return Some(found);
            }
        }
    }

    /// An amount with its unit, several of them (`3 h 30 min`), or a ratio.
    fn measured(&mut self) -> Option<Node> {
        let outer = self.currency.take();
        let first = self.sum()?;
        let mut parts = vec![first];
        while self.mark(':') {
            parts.push(self.sum()?);
        }
        let first = if parts.len() == 1 { parts.pop()? } else { Node::Ratio(parts) };
        if let Some(Token::Currency(after)) = self.peek() {
            self.currency = self.currency.or(Some(after));
            self.at += 1;
        }
        let currency = std::mem::replace(&mut self.currency, outer);
        let mut unit = self.unit_words();
        if let Some(currency) = currency {
            // `$5 million`: the multiplier stays, `$5 dollars` says it twice.
            let said = unit.to_lowercase().trim_end_matches('s').ends_with(currency);
            unit = if said { unit } else { format!("{unit} {currency}").trim().to_owned() };
        }
        if unit.is_empty() {
            return Some(first);
        }
        let mut amounts = vec![(first, unit)];
        while matches!(self.peek(), Some(Token::Number { .. })) && amounts.len() < 4 {
            let next = self.sum()?;
            let unit = self.unit_words();
            if unit.is_empty() {
                return None;
            }
            amounts.push((next, unit));
        }
        Some(Node::Measured(amounts))
    }

    /// Words after an amount, with their powers and quotients, as text.
    fn unit_words(&mut self) -> String {
        let mut unit = String::new();
        loop {
            let next = match self.peek() {
                Some(Token::Word(word)) => word.clone(),
                Some(Token::Name(name)) if !unit.is_empty() => name.clone(),
                Some(Token::Mark(mark @ ('/' | '*' | '-'))) if !unit.is_empty() => {
                    let word_next = matches!(self.ahead(1), Some(Token::Word(_) | Token::Name(_)));
                    if !word_next {
                        return unit;
                    }
                    mark.to_string()
                }
                Some(Token::Mark('^')) if !unit.is_empty() => {
                    let grouped = usize::from(self.ahead(1) == Some(&Token::GroupOpen));
                    let minus = usize::from(self.ahead(1 + grouped) == Some(&Token::Mark('-')));
                    let Some(Token::Number { value, digits: true, .. }) = self.ahead(1 + grouped + minus) else {
                        return unit;
                    };
                    let power = format!("^{}{value}", if minus == 1 { "-" } else { "" });
                    self.at += 1 + 2 * grouped + minus;
                    power
                }
                _ => return unit,
            };
            self.at += 1;
            if !unit.is_empty() && !next.starts_with('^') {
                unit.push(' ');
            }
            unit.push_str(&next);
        }
    }

    fn sum(&mut self) -> Option<Node> {
        let mut items = vec![self.product()?];
        loop {
            let item = if self.mark('+') {
                self.product()?
            } else if self.mark('-') {
                Node::Negative(Box::new(self.product()?))
            } else if self.mark('±') {
                Node::PlusMinus(true, Box::new(self.product()?))
            } else if self.mark('∓') {
                Node::PlusMinus(false, Box::new(self.product()?))
            } else {
                break;
            };
            items.push(item);
        }
        if items.len() == 1 { items.pop() } else { Some(Node::Sum(items)) }
    }

    fn product(&mut self) -> Option<Node> {
        let mut factors = vec![self.sign()?];
        loop {
            if self.mark('*') {
                factors.push(self.sign()?);
            } else if self.mark('/') {
                factors.push(Node::Inverse(Box::new(self.sign()?)));
            } else if self.begins_factor() {
                factors.push(self.power()?);
            } else {
                break;
            }
        }
        if factors.len() == 1 { factors.pop() } else { Some(Node::Product(factors)) }
    }

    /// Whether the next token begins a factor without a sign before it. A number after a number does not.
    fn begins_factor(&self) -> bool {
        match self.peek() {
            Some(Token::Number { .. }) => {
                self.at > 0 && !matches!(self.tokens[self.at - 1].token, Token::Number { .. } | Token::Mark(_))
            }
            Some(Token::Bar(Some(opens))) => *opens,
            Some(Token::Bar(None)) => self.bars == 0,
            Some(
                Token::Name(_)
                | Token::Function(_)
                | Token::Accent(_)
                | Token::Open(_)
                | Token::GroupOpen
                | Token::Fraction
                | Token::Root
                | Token::Binomial
                | Token::Infinity
                | Token::Begin(_),
            ) => true,
            _ => false,
        }
    }

    fn sign(&mut self) -> Option<Node> {
        if self.mark('-') {
            return self.deeper(|parser| Some(Node::Negative(Box::new(parser.sign()?))));
        }
        if self.mark('±') {
            return self.deeper(|parser| Some(Node::PlusMinus(true, Box::new(parser.sign()?))));
        }
        if self.mark('+') {
            return self.deeper(Self::sign);
        }
        self.power()
    }

    fn power(&mut self) -> Option<Node> {
        let base = self.postfix()?;
        if !self.mark('^') {
            return Some(base);
        }
        let grouped = self.peek() == Some(&Token::GroupOpen);
        let sign = self.ahead(usize::from(grouped)).cloned();
        if let Some(Token::Mark(mark @ ('°' | '\''))) = sign {
            self.at += 1 + 2 * usize::from(grouped);
            return Some(if mark == '°' { Node::Degrees(Box::new(base)) } else { primed(base) });
        }
        let exponent = self.deeper(|parser| if grouped { parser.argument() } else { parser.sign() })?;
        let found = Node::Power(Box::new(base), Box::new(exponent));
        Some(if self.mark('!') { Node::Call("!".to_owned(), vec![found]) } else { found })
    }

    fn postfix(&mut self) -> Option<Node> {
        let mut found = self.deeper(Self::primary)?;
        for _ in 0..6 {
            if self.mark('!') {
                found = Node::Call("!".to_owned(), vec![found]);
            } else if self.mark('%') {
                found = Node::Percent(Box::new(found));
            } else if self.mark('°') {
                // `°C` is a unit of its own, and left to the text.
                found = Node::Degrees(Box::new(found));
            } else if self.mark('\'') {
                found = primed(found);
            } else if self.mark('_') {
                let from = self.at;
                self.argument()?;
                let Node::Name(name) = found else { return None };
                let subscript: Vec<String> =
                    self.tokens[from..self.at].iter().filter_map(|placed| written(&placed.token)).collect();
                found = Node::Name(format!("{name}_{}", subscript.concat()));
            } else {
                break;
            }
        }
        match (&found, self.peek()) {
            (Node::Name(name), Some(Token::Open('('))) => {
                let name = name.clone();
                Some(self.applied(&name)?.unwrap_or(found))
            }
            _ => Some(found),
        }
    }

    /// `f(x)`: a name before brackets is a function if it is called like one, or its arguments are plain; the inner None
    /// says that it is a factor. Brackets that cannot be read here cannot be read as a factor either: to try would double
    /// the work with each nested one.
    fn applied(&mut self, name: &str) -> Option<Option<Node>> {
        let from = self.at;
        let inside = self.deeper(Self::primary)?;
        let arguments = match inside {
            Node::Bracket('(', items, ')') => items,
            one => vec![one],
        };
        let letter = name.trim_end_matches('\'').split('_').next().unwrap_or_default();
        let usual = matches!(letter, "f" | "g" | "h" | "F" | "G" | "H" | "\\phi" | "\\varphi");
        let capital = letter.len() == 1 && letter.chars().all(|c| c.is_ascii_uppercase());
        let plain = arguments.iter().all(|argument| matches!(argument, Node::Name(_) | Node::Number { .. }));
        let is_call = usual || plain && (capital || arguments.len() > 1);
        if is_call {
            return Some(Some(Node::Call(name.to_owned(), arguments)));
        }
        // A factor: kept, so that nothing is read twice.
        let mut arguments = arguments;
        let inside = if arguments.len() == 1 { arguments.pop()? } else { Node::Bracket('(', arguments, ')') };
        self.pending = Some((from, inside, self.at));
        self.at = from;
        Some(None)
    }

    /// The braces, or the one token, that an operator takes.
    fn argument(&mut self) -> Option<Node> {
        if self.take(&Token::GroupOpen) {
            let inner = self.deeper(Self::list)?;
            return self.take(&Token::GroupClose).then_some(inner);
        }
        self.deeper(Self::primary)
    }

    fn primary(&mut self) -> Option<Node> {
        if self.pending.as_ref().is_some_and(|(from, ..)| *from == self.at) {
            let (_, node, end) = self.pending.take()?;
            self.at = end;
            return Some(node);
        }
        let token = self.peek()?.clone();
        self.at += 1;
        match token {
            Token::Number { value, significant, digits } => Some(self.mixed(value, significant, digits)),
            Token::Name(name) => Some(Node::Name(name)),
            Token::Infinity => Some(Node::Infinity),
            Token::Currency(unit) => {
                self.currency = Some(unit);
                self.deeper(Self::primary)
            }
            Token::GroupOpen => {
                let inner = self.deeper(Self::list)?;
                if !self.take(&Token::GroupClose) {
                    return None;
                }
                Some(match inner {
                    Node::List { items, or: false } => Node::Bracket('{', items, '}'),
                    other => other,
                })
            }
            Token::Open(open) => self.bracket(open),
            Token::Bar(side) if side != Some(false) => {
                self.bars += 1;
                let inner = self.deeper(Self::sum);
                self.bars -= 1;
                let closed = matches!(self.peek(), Some(Token::Bar(side)) if *side != Some(true));
                self.at += usize::from(closed);
                closed.then_some(Node::Absolute(Box::new(inner?)))
            }
            Token::Fraction => {
                let (over, under) = (self.argument()?, self.argument()?);
                Some(Node::Product(vec![over, Node::Inverse(Box::new(under))]))
            }
            Token::Binomial => {
                let (n, k) = (self.argument()?, self.argument()?);
                Some(Node::Call("binom".to_owned(), vec![n, k]))
            }
            Token::Root => self.root(),
            Token::Accent(name) => Some(Node::Call(name, vec![self.argument()?])),
            Token::Function(name) => self.function(&name),
            Token::Begin(environment) => self.matrix(&environment),
            _ => None,
        }
    }

    /// A numeral, with the fraction of a mixed number: `2\\frac12`, `2 1/2`.
    fn mixed(&mut self, value: Exact, significant: u32, digits: bool) -> Node {
        let number = Node::Number { value, significant };
        let whole = |at: usize| match self.ahead(at) {
            Some(Token::Number { value, digits: true, .. }) => Some(value.clone()),
            _ => None,
        };
        let braced = |at: usize| match self.ahead(at) {
            Some(Token::GroupOpen) if self.ahead(at + 2) == Some(&Token::GroupClose) => Some((whole(at + 1)?, at + 3)),
            _ => Some((whole(at)?, at + 1)),
        };
        let part = match self.peek() {
            Some(Token::Fraction) if digits => {
                braced(1).and_then(|(over, next)| braced(next).map(|(under, end)| (over, under, end)))
            }
            _ if digits && self.ahead(1) == Some(&Token::Mark('/')) => {
                whole(0).and_then(|over| Some((over, whole(2)?, 3)))
            }
            _ => None,
        };
        let Some((over, under, length)) = part else { return number };
        self.at += length;
        let node = |value| Node::Number { value, significant: 0 };
        Node::Sum(vec![number, Node::Product(vec![node(over), Node::Inverse(Box::new(node(under)))])])
    }

    fn bracket(&mut self, open: char) -> Option<Node> {
        let outer = std::mem::take(&mut self.bars);
        let items = match self.peek() {
            Some(Token::Close(_)) => Vec::new(),
            _ => match self.deeper(Self::list)? {
                Node::List { items, .. } => items,
                one => vec![one],
            },
        };
        self.bars = outer;
        let Some(Token::Close(close)) = self.peek().cloned() else { return None };
        self.at += 1;
        match (open, items.len(), close) {
            ('(', 1, ')') | ('[', 1, ']') => items.into_iter().next(),
            ('⌊', 1, '⌋') => Some(Node::Call("floor".to_owned(), items)),
            ('⌈', 1, '⌉') => Some(Node::Call("ceil".to_owned(), items)),
            ('{', _, '}') | ('(', 2.., ')' | ']') | ('[', 2.., ')' | ']') | ('⟨', 2.., '⟩') => {
                Some(Node::Bracket(open, items, close))
            }
            _ => None,
        }
    }

    fn root(&mut self) -> Option<Node> {
        let mut index = Node::whole(2);
        if self.take(&Token::Open('[')) {
            index = self.deeper(Self::sum)?;
            if !self.take(&Token::Close(']')) {
                return None;
            }
        }
        Some(Node::Root(Box::new(index), Box::new(self.argument()?)))
    }

    /// `sin^2 x`, `log_2 5`, `ln(x + 1)`: without brackets the argument is a product.
    fn function(&mut self, name: &str) -> Option<Node> {
        let mut base = None;
        if self.mark('_') {
            base = Some(self.argument()?);
        }
        let mut exponent = None;
        if self.mark('^') {
            let grouped = self.peek() == Some(&Token::GroupOpen);
            exponent = Some(if grouped { self.argument()? } else { self.deeper(Self::primary)? });
        }
        let arguments = if self.peek() == Some(&Token::Open('(')) {
            match self.deeper(Self::primary)? {
                Node::Bracket('(', items, ')') => items,
                one => vec![one],
            }
        } else {
            let mut factors = vec![
                self.deeper(|parser| if parser.mark('-') { parser.power().map(negative) } else { parser.power() })?,
            ];
            while self.begins_factor() && !matches!(self.peek(), Some(Token::Function(_) | Token::Open('('))) {
                factors.push(self.deeper(Self::power)?);
            }
            vec![if factors.len() == 1 { factors.pop()? } else { Node::Product(factors) }]
        };
        let (name, arguments) = match (name, base) {
            ("log", base) => ("log", [vec![base.unwrap_or_else(|| Node::whole(10))], arguments].concat()),
            ("lg", None) => ("log", [vec![Node::whole(10)], arguments].concat()),
            ("asin", None) => ("arcsin", arguments),
            ("acos", None) => ("arccos", arguments),
            ("atan", None) => ("arctan", arguments),
            (name, None) => (name, arguments),
            _ => return None,
        };
        match exponent {
            None => Some(Node::Call(name.to_owned(), arguments)),
            Some(Node::Negative(one)) if *one == Node::whole(1) => Some(Node::Call(format!("arc{name}"), arguments)),
            Some(exponent) => Some(Node::Power(Box::new(Node::Call(name.to_owned(), arguments)), Box::new(exponent))),
        }
    }

    fn matrix(&mut self, environment: &str) -> Option<Node> {
        if environment == "array" && self.take(&Token::GroupOpen) {
            while !self.take(&Token::GroupClose) {
                self.peek()?;
                self.at += 1;
            }
        }
        let is_matrix =
            matches!(environment, "pmatrix" | "bmatrix" | "matrix" | "Bmatrix" | "smallmatrix" | "array" | "vmatrix");
        let mut rows = vec![Vec::new()];
        loop {
            if self.take(&Token::End(environment.to_owned())) {
                break;
            }
            let entry = self.deeper(Self::sum)?;
            rows.last_mut()?.push(entry);
            if self.take(&Token::Row) {
                if self.peek() != Some(&Token::End(environment.to_owned())) {
                    rows.push(Vec::new());
                }
            } else if !self.mark('&') && !matches!(self.peek(), Some(Token::End(_))) {
                return None;
            }
        }
        let width = rows.first().map_or(0, Vec::len);
        let even = is_matrix && width > 0 && rows.iter().all(|row| row.len() == width);
        let matrix = even.then_some(Node::Matrix(rows))?;
        Some(if environment == "vmatrix" { Node::Call("det".to_owned(), vec![matrix]) } else { matrix })
    }
}

fn negative(node: Node) -> Node {
    Node::Negative(Box::new(node))
}

fn primed(node: Node) -> Node {
    match node {
        Node::Name(name) => Node::Name(name + "'"),
        Node::Call(name, arguments) => Node::Call(name + "'", arguments),
        other => Node::Call("'".to_owned(), vec![other]),
    }
}

/// A token of a subscript as text.
fn written(token: &Token) -> Option<String> {
    match token {
        Token::Number { value, .. } => Some(value.to_string()),
        Token::Name(name) | Token::Word(name) | Token::Function(name) => Some(name.clone()),
        Token::Mark(mark) => Some(mark.to_string()),
        _ => None,
    }
}
