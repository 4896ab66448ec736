//! Tokens of an answer in LaTeX or plain writing.

use super::node::Sign;
use super::numeral::{self, Style};
use super::text::LENGTH_MAX;
use super::{macros, units, words};
use crate::arithmetic::Exact;

/// Longer answers are not read as mathematics.
const TOKENS_MAX: usize = 600;
/// Deeper braces are not read.
const DEPTH_MAX: u32 = 30;

/// One sign, number or word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A numeral; `significant` as in [`numeral::Numeral`], `digits` if it is written with digits only.
    Number {
        value: Exact,
        significant: u32,
        digits: bool,
    },
    Name(String),
    /// A word that is no mathematics: a unit, or prose.
    Word(String),
    Function(String),
    /// `\overline`, `\vec`: the accent of what follows.
    Accent(String),
    /// `(`, `[`, `{` (as `\{`), `⟨`, `⌊`, `⌈`.
    Open(char),
    Close(char),
    /// `{` and `}` that group.
    GroupOpen,
    GroupClose,
    /// `|`; true and false: it surely opens or closes.
    Bar(Option<bool>),
    Compare(Sign),
    /// `+ - * / ^ _ ! , ; : ° % '` and `±`, `∓`, `∪`, `∩`, `∖`, `&`.
    Mark(char),
    Row,
    Begin(String),
    End(String),
    Fraction,
    Root,
    Binomial,
    Infinity,
    /// A currency sign, as a unit.
    Currency(&'static str),
    /// `and`, `và` (false), `or`, `hoặc` (true).
    Connector(bool),
    /// A macro that only text comparison understands.
    Unknown(String),
}

/// A token, and whether white space stands before it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) spaced: bool,
}

/// How numerals are read: the language, and the second reading that a prediction may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) vietnamese: bool,
    pub(super) dot_is_decimal: bool,
}

/// The tokens of a text in plain form. None if it is too long or too deep.
pub(super) fn read(text: &str, reading: Reading) -> Option<Vec<Placed>> {
    let chars: Vec<char> = text.chars().take(LENGTH_MAX + 1).collect();
    if chars.len() > LENGTH_MAX {
        return None;
    }
    // One `$`, or one before a digit without a partner, is money; pairs are LaTeX.
    let escaped = text.matches("\\$").count();
    let money = text.matches('$').count() - escaped == 1;
    let mut lexer =
        Lexer { chars: &chars, at: 0, reading, money, prose: false, depth: 0, spaced: false, out: Vec::new() };
    lexer.until(None)?;
    Some(units::mark(lexer.out))
}

pub(super) struct Lexer<'a> {
    chars: &'a [char],
    at: usize,
    reading: Reading,
    money: bool,
    /// Inside `\text{}`: runs of letters are words.
    prose: bool,
    depth: u32,
    spaced: bool,
    out: Vec<Placed>,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    pub(super) fn push(&mut self, token: Token) {
        self.out.push(Placed { token, spaced: self.spaced });
        self.spaced = false;
    }

    pub(super) fn space(&mut self) {
        self.spaced = true;
    }

    /// Reads to the end, or to the brace that closes what is open.
    fn until(&mut self, close: Option<char>) -> Option<()> {
        while let Some(next) = self.peek(0) {
            if Some(next) == close {
                self.at += 1;
                return Some(());
            }
            self.one(next)?;
        }
        Some(()) // A missing brace is forgiven.
    }

    fn one(&mut self, next: char) -> Option<()> {
        if self.out.len() > TOKENS_MAX {
            return None;
        }
        if next.is_ascii_digit() || next == '.' && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            return self.number();
        }
        if next.is_alphabetic() {
            self.word();
            return Some(());
        }
        self.at += 1;
        match next {
            c if c.is_whitespace() => self.spaced = true,
            '\\' => return self.command(),
            '{' => return self.group(self.prose),
            '$' if self.money => self.push(Token::Currency("dollar")),
            '€' => self.push(Token::Currency("euro")),
            '£' => self.push(Token::Currency("pound sterling")),
            '₫' => self.push(Token::Currency("dong")),
            '~' | '$' | '"' | '`' | '?' => self.spaced = true,
            '.' | '}' => {}
            '(' | '[' => self.push(Token::Open(next)),
            ')' | ']' => self.push(Token::Close(next)),
            '|' => self.push(Token::Bar(None)),
            '*' if self.peek(0) == Some('*') => {
                self.at += 1;
                self.push(Token::Mark('^'));
            }
            '!' if self.peek(0) == Some('=') => self.comparison(Sign::NotEqual, 1),
            '<' if self.peek(0) == Some('=') => self.comparison(Sign::LessEqual, 1),
            '>' if self.peek(0) == Some('=') => self.comparison(Sign::GreaterEqual, 1),
            '=' => self.comparison(Sign::Equal, usize::from(self.peek(0) == Some('='))),
            '<' => self.comparison(Sign::Less, 0),
            '>' => self.comparison(Sign::Greater, 0),
            ',' if self.peek(0) == Some('\\') && self.peek(1) == Some('!') => {
                self.at += 2;
                self.push(Token::Mark(','));
            }
            '+' | '-' | '*' | '/' | '^' | '_' | '!' | ',' | ';' | ':' | '%' | '°' | '\'' | '&' => {
                self.push(Token::Mark(next));
            }
            other => self.push(Token::Unknown(other.to_string())),
        }
        Some(())
    }

    fn comparison(&mut self, sign: Sign, more: usize) {
        self.at += more;
        self.push(Token::Compare(sign));
    }

    fn group(&mut self, prose: bool) -> Option<()> {
        let outer = std::mem::replace(&mut self.prose, prose);
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        self.push(Token::GroupOpen);
        self.until(Some('}'))?;
        self.push(Token::GroupClose);
        self.depth -= 1;
        self.prose = outer;
        Some(())
    }

    /// The braces after `\text`: their tokens without the braces.
    pub(super) fn inline(&mut self, prose: bool) -> Option<()> {
        self.skip_spaces();
        if self.peek(0) != Some('{') {
            return Some(());
        }
        self.at += 1;
        let outer = self.prose;
        self.prose = prose || outer;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        self.until(Some('}'))?;
        self.depth -= 1;
        self.prose = outer;
        Some(())
    }

    /// The arguments of `\frac` and `\sqrt`: of `12` each takes one digit.
    pub(super) fn arguments(&mut self, count: usize) -> Option<()> {
        for _ in 0..count {
            self.skip_spaces();
            match self.peek(0) {
                Some(digit) if digit.is_ascii_digit() => {
                    self.at += 1;
                    let value = Exact::from_integer(digit.to_digit(10)?.into());
                    self.push(Token::Number { value, significant: 0, digits: true });
                }
                Some(letter) if letter.is_alphabetic() && count > 1 => {
                    self.at += 1;
                    self.push(Token::Name(letter.to_string()));
                }
                Some('{') => {
                    self.at += 1;
                    self.group(self.prose)?;
                }
                Some('\\') if count > 1 && self.depth < DEPTH_MAX => {
                    self.depth += 1;
                    self.at += 1;
                    self.command()?;
                    self.depth -= 1;
                }
                _ => return Some(()),
            }
        }
        Some(())
    }

    pub(super) fn skip_spaces(&mut self) {
        while self.peek(0).is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    pub(super) fn take_if(&mut self, wanted: char) -> bool {
        let found = self.peek(0) == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// The raw text in the braces that follow, for the names of environments.
    pub(super) fn raw(&mut self) -> String {
        self.skip_spaces();
        if self.peek(0) != Some('{') {
            return String::new();
        }
        let name: String = self.chars[self.at + 1..].iter().take_while(|c| **c != '}').collect();
        self.at = (self.at + 2 + name.chars().count()).min(self.chars.len());
        name
    }

    fn command(&mut self) -> Option<()> {
        let name: String = self.chars[self.at..].iter().take_while(|c| c.is_ascii_alphabetic()).collect();
        if name.is_empty() {
            let Some(sign) = self.peek(0) else { return Some(()) };
            self.at += 1;
            match sign {
                '\\' => self.push(Token::Row),
                '{' => self.push(Token::Open('{')),
                '}' => self.push(Token::Close('}')),
                '%' => self.push(Token::Mark('%')),
                '$' => self.push(Token::Currency("dollar")),
                '|' => self.push(Token::Bar(None)),
                '!' => {}
                _ => self.spaced = true, // `\,`, `\(`, `\[` …
            }
            return Some(());
        }
        self.at += name.len();
        macros::read(self, &name)
    }

    fn number(&mut self) -> Option<()> {
        if let Some((value, length)) = self.based() {
            self.at += length;
            self.push(Token::Number { value, significant: 0, digits: false });
            return Some(());
        }
        let Reading { vietnamese, dot_is_decimal } = self.reading;
        let style = Style { vietnamese, dot_is_decimal, comma: self.comma_joins() };
        let rest = &self.chars[self.at..];
        // `log_2 500`, `x^2 500`: an index and a power end with their digits.
        let script = matches!(self.out.last().map(|last| &last.token), Some(Token::Mark('_' | '^')));
        let plain = rest.iter().position(|c| !c.is_ascii_digit() && *c != '.').filter(|_| script).unwrap_or(rest.len());
        let found = numeral::scan(&rest[..plain], style)?;
        let digits = self.chars[self.at..self.at + found.length].iter().all(char::is_ascii_digit);
        self.at += found.length;
        self.push(Token::Number { value: found.value, significant: found.significant, digits });
        Some(())
    }

    /// `2A_{12}`, `101_2`, `25_{\text{six}}`: the value in that base, and the length of the writing.
    fn based(&self) -> Option<(Exact, usize)> {
        let rest = &self.chars[self.at..];
        let digits: String = rest.iter().take_while(|c| c.is_ascii_digit() || c.is_ascii_uppercase()).collect();
        let mut at = digits.len();
        if rest.get(at) != Some(&'_') {
            return None;
        }
        at += 1;
        let base: String = if rest.get(at) == Some(&'{') {
            let inner: String = rest[at + 1..].iter().take(20).take_while(|c| **c != '}').collect();
            at += inner.chars().count() + 2;
            let inner = inner.replace("\\text{", "").replace("\\mathrm{", "");
            at += usize::from(rest.get(at) == Some(&'}') && rest[..at].iter().filter(|c| **c == '{').count() == 2);
            inner.trim().to_owned()
        } else {
            let inner: String = rest[at..].iter().take_while(|c| c.is_ascii_digit()).collect();
            at += inner.len();
            inner
        };
        let base = base.parse().ok().or_else(|| words::small(&base))?;
        Some((numeral::in_base(&digits, base)?, at.min(rest.len())))
    }

    /// Whether a bare comma may belong to a numeral here: not between brackets where it is the only separator.
    fn comma_joins(&self) -> bool {
        let mut depth = 0;
        let open = self.chars[..self.at].iter().rposition(|c| {
            match c {
                ')' | ']' => depth += 1,
                '(' | '[' if depth > 0 => depth -= 1,
                '(' | '[' => return true,
                _ => {}
            }
            false
        });
        let braces =
            self.chars[..self.at].iter().rposition(|c| *c == '{').filter(|at| *at > 0 && self.chars[at - 1] == '\\');
        let Some(open) = open.max(braces) else { return true };
        let mut depth = 0;
        for (index, character) in self.chars.iter().enumerate().skip(open + 1) {
            match character {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' if depth == 0 => return false,
                ')' | ']' | '}' => depth -= 1,
                ';' if depth == 0 => return true,
                ',' if depth == 0 && matches!(self.chars.get(index + 1), Some(' ' | '\\')) => return true,
                _ => {}
            }
        }
        true
    }

    /// A run of letters: a function, a constant, a connector, a word, or single names.
    fn word(&mut self) {
        let length =
            self.chars[self.at..].iter().position(|c| !c.is_alphabetic()).unwrap_or(self.chars.len() - self.at);
        let run: String = self.chars[self.at..self.at + length].iter().collect();
        self.at += length;
        let before =
            |back: usize| self.out.len().checked_sub(back).and_then(|at| self.out.get(at)).map(|placed| &placed.token);
        let after_number = match before(1) {
            Some(Token::Number { .. } | Token::GroupClose | Token::Word(_)) => true,
            Some(Token::Mark('/')) => matches!(before(2), Some(Token::Word(_))),
            _ => false,
        };
        for token in words::classify(&run, self.prose, after_number) {
            self.push(token);
        }
    }
}
