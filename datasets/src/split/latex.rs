//! LaTeX in a question, brought to one writing: `x^{2}` is `x^2`, `\log_82` is `\log_8 2`, `$a = b.$` is `$a=b$.`.
//!
//! Only what TeX typesets alike becomes equal, give or take a space or the size of a bracket. Signs, symbols, numbers,
//! decimal points, the case of letters in formulas and drawings stay. Every text is read once, without recursion: a
//! question may be a megabyte of opening braces.
//! Source: Knuth, The TeXbook, chapters 7, 8 and 16 to 18; dollars in plain text as in Pandoc's `tex_math_dollars`.

/// A part of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Prose.
    Text(&'a [char]),
    /// A formula, without the dollars or brackets around it.
    Formula(&'a [char]),
    /// A command in prose with its arguments.
    Command(&'a [char]),
    /// A script in braces in prose, `^{2}`.
    Script(&'a [char]),
    /// The code of a drawing.
    Drawing(&'a [char]),
}

/// The parts of a question in order; they cover it but for the formulas' delimiters.
pub(super) fn parts(text: &[char]) -> Vec<Part<'_>> {
    let mut scan = Scan::new(text);
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while at < text.len() {
        let Some((part, end)) = scan.part(at) else {
            // An escape is two characters: the second one opens nothing.
            at += if text[at] == '\\' { 2 } else { 1 };
            continue;
        };
        if start < at {
            parts.push(Part::Text(&text[start..at]));
        }
        parts.push(part);
        (start, at) = (end, end);
    }
    if start < text.len() {
        parts.push(Part::Text(&text[start..]));
    }
    parts
}

/// Finds what is not prose. A search that met the end of the text is not made again, so that all of it stays linear.
struct Scan<'a> {
    text: &'a [char],
    /// Dollars always come in pairs, as in a LaTeX document; else `$5` is money.
    paired: bool,
    /// Whether each closing delimiter may still come.
    open: [bool; 5],
}

impl<'a> Scan<'a> {
    fn new(text: &'a [char]) -> Self {
        let mut escaped = false;
        let (mut latex, mut dollars) = (false, 0u64);
        for character in text {
            latex |= *character == '\\';
            dollars += u64::from(*character == '$' && !escaped);
            escaped = *character == '\\' && !escaped;
        }
        Scan { text, paired: latex && dollars.is_multiple_of(2), open: [true; 5] }
    }

    /// The part that starts here, with its end.
    fn part(&mut self, at: usize) -> Option<(Part<'a>, usize)> {
        let text = self.text;
        match (text[at], text.get(at + 1)) {
            ('\\', Some('(')) => self.until(at + 2, 0, "\\)").map(|(inner, end)| (Part::Formula(inner), end)),
            ('\\', Some('[')) => self.until(at + 2, 1, "\\]").map(|(inner, end)| (Part::Formula(inner), end)),
            ('\\', Some(next)) if next.is_ascii_alphabetic() => Some(self.command(at)),
            ('$', Some('$')) => self.until(at + 2, 2, "$$").map(|(inner, end)| (Part::Formula(inner), end)),
            ('$', Some(_)) => self.dollar(at),
            ('^' | '_', Some('{')) => {
                let end = group_end(text, at + 1)?;
                Some((Part::Script(&text[at..end]), end))
            }
            ('[', _) if starts_with(text, at, "[asy]") => {
                self.until(at, 3, "[/asy]").map(|(inner, end)| (Part::Drawing(inner), end))
            }
            _ => None,
        }
    }

    /// What stands before the closing delimiter, and the place after it.
    fn until(&mut self, from: usize, kind: usize, close: &str) -> Option<(&'a [char], usize)> {
        if !self.open[kind] {
            return None;
        }
        let mut at = from;
        while at < self.text.len() {
            if starts_with(self.text, at, close) {
                return Some((&self.text[from..at], at + close.len()));
            }
            at += if self.text[at] == '\\' { 2 } else { 1 };
        }
        self.open[kind] = false;
        None
    }

    /// A formula between single dollars. In plain text the first is followed and the second preceded by no white
    /// space, no word stands between them, and no digit follows: `$5 and $3` is money, and so is `$5 and 3$`.
    fn dollar(&self, at: usize) -> Option<(Part<'a>, usize)> {
        let text = self.text;
        let mut end = at + 1;
        while *text.get(end)? != '$' {
            end += if text[end] == '\\' { 2 } else { 1 };
        }
        let (first, last) = (text.get(at + 1)?, text.get(end - 1)?);
        let has_word = || {
            // In `x + bc` two letters are factors.
            let is_word = |four: &[char]| {
                !"+-*/=<>".contains(four[0])
                    && four[1].is_whitespace()
                    && four[2..].iter().all(|character| character.is_alphabetic())
            };
            text[at..end].windows(4).any(is_word)
        };
        let is_money = first.is_whitespace()
            || last.is_whitespace()
            || text.get(end + 1).is_some_and(char::is_ascii_digit)
            || has_word();
        (self.paired || !is_money).then(|| (Part::Formula(&text[at + 1..end]), end + 1))
    }

    /// A command in prose with the scripts and groups that follow it; an environment is a formula.
    fn command(&mut self, at: usize) -> (Part<'a>, usize) {
        let text = self.text;
        if starts_with(text, at, "\\begin{")
            && let Some(brace) = group_end(text, at + 6)
            && let Some((_, end)) = {
                let name: String = text[at + 6..brace].iter().collect();
                self.until(brace, 4, &format!("\\end{name}"))
            }
        {
            return (Part::Formula(&text[at..end]), end);
        }
        let mut end = at + 1;
        while text.get(end).is_some_and(char::is_ascii_alphabetic) {
            end += 1;
        }
        loop {
            let next = match (text.get(end), text.get(end + 1)) {
                (Some('{'), _) => group_end(text, end),
                (Some('^' | '_'), Some('{')) => group_end(text, end + 1),
                (Some('^' | '_'), Some('\\')) => None,
                (Some('^' | '_'), Some(_)) => Some(end + 2),
                _ => None,
            };
            match next {
                Some(next) => end = next,
                None => return (Part::Command(&text[at..end]), end),
            }
        }
    }
}

/// No group in prose is longer; a search for its end stays short.
const GROUP_MAX: usize = 256;

/// The place after the brace that closes the one here.
fn group_end(text: &[char], open: usize) -> Option<usize> {
    let mut depth = 0u32;
    for (at, character) in text.iter().enumerate().skip(open).take(GROUP_MAX) {
        match character {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(at + 1),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn starts_with(text: &[char], at: usize, what: &str) -> bool {
    what.chars().enumerate().all(|(index, character)| text.get(at + index) == Some(&character))
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// `\name`, or `\` and one other character.
    Command(String),
    Character(char),
    Open,
    Close,
    /// `^` or `_`.
    Script(char),
}

struct Token {
    kind: Kind,
    spaced: bool,
}

/// A formula in its one writing, and the punctuation that ended it: `x = 2.` is `x=2` and `.`.
pub(super) fn formula(source: &[char]) -> (String, String) {
    let mut tokens = tokens(source);
    let mut punctuation = String::new();
    while let Some(Token { kind: Kind::Character(mark @ ('.' | ',' | ';' | ':' | '?')), .. }) = tokens.last() {
        punctuation.insert(0, *mark);
        tokens.pop();
    }
    (write(&tokens), punctuation)
}

/// Commands that only move or size things.
const LAYOUT: [&str; 22] = [
    ",",
    ";",
    ":",
    "!",
    ">",
    " ",
    "\n",
    "quad",
    "qquad",
    "left",
    "right",
    "big",
    "Big",
    "bigg",
    "Bigg",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "displaystyle",
    "textstyle",
    "limits",
];

fn tokens(source: &[char]) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(source.len());
    let (mut at, mut spaced) = (0, false);
    while let Some(&character) = source.get(at) {
        at += 1;
        let kind = match character {
            '\\' => {
                let name: String = match source.get(at) {
                    Some(next) if next.is_ascii_alphabetic() => {
                        source[at..].iter().take_while(|next| next.is_ascii_alphabetic()).collect()
                    }
                    next => next.into_iter().collect(),
                };
                at += name.chars().count();
                if LAYOUT.contains(&name.as_str()) {
                    // `\left.` is a bracket that is not there.
                    at += usize::from(matches!(name.as_str(), "left" | "right") && source.get(at) == Some(&'.'));
                    spaced = true;
                    continue;
                }
                Kind::Command(one_name(name))
            }
            '~' => {
                spaced = true;
                continue;
            }
            '{' => Kind::Open,
            '}' => Kind::Close,
            '^' | '_' => Kind::Script(character),
            other => match super::key::plain(other) {
                None => continue,
                Some(other) if other.is_whitespace() => {
                    spaced = true;
                    continue;
                }
                Some(other) => Kind::Character(other),
            },
        };
        tokens.push(Token { kind, spaced: std::mem::take(&mut spaced) });
    }
    tokens
}

/// Commands of one meaning under one name.
fn one_name(name: String) -> String {
    let one = match name.as_str() {
        "dfrac" | "tfrac" | "cfrac" => "frac",
        "dbinom" | "tbinom" => "binom",
        "geq" => "ge",
        "leq" => "le",
        "neq" => "ne",
        "rightarrow" => "to",
        _ => return name,
    };
    one.to_owned()
}

/// How many arguments a command takes, of those that may stand without braces.
fn arguments(command: &str) -> u8 {
    match command {
        "frac" | "binom" => 2,
        "sqrt" => 1,
        _ => 0,
    }
}

/// Spaces only where the meaning needs one; no braces around a single token.
fn write(tokens: &[Token]) -> String {
    let mut out = String::new();
    // Arguments still to come, at this depth and at those around it.
    let (mut wanted, mut outer) = (0u8, Vec::new());
    // What the next character must not stick to.
    let (mut word, mut digit) = (false, false);
    let mut at = 0;
    while let Some(Token { kind, spaced }) = tokens.get(at) {
        let is_argument = wanted > 0;
        let single = match kind {
            Kind::Open if is_argument || !after_command(tokens, at) => in_braces(tokens, at),
            Kind::Open | Kind::Close | Kind::Script(_) => None,
            single => Some(single),
        };
        at += if single.is_some() && *kind == Kind::Open { 3 } else { 1 };
        let Some(single) = single else {
            match kind {
                Kind::Open => {
                    outer.push(wanted.saturating_sub(1));
                    wanted = 0;
                    out.push('{');
                }
                Kind::Close => {
                    wanted = outer.pop().unwrap_or(0);
                    out.push('}');
                }
                Kind::Script(script) => {
                    wanted = 1;
                    out.push(*script);
                }
                Kind::Command(_) | Kind::Character(_) => {}
            }
            (word, digit) = (false, false);
            continue;
        };
        wanted = wanted.saturating_sub(1);
        match single {
            Kind::Command(name) => {
                out.push('\\');
                out.push_str(name);
                wanted = wanted.saturating_add(arguments(name));
                word = name.chars().all(|letter| letter.is_ascii_alphabetic());
                digit = false;
                if name == "sqrt" && matches!(tokens.get(at), Some(Token { kind: Kind::Character('['), .. })) {
                    (at, word) = (index_of_root(tokens, at, &mut out), false);
                }
            }
            Kind::Character(character) => {
                let is_digit = character.is_ascii_digit();
                // Where braces stand around every argument of several tokens, digits after one are told from it.
                let apart = (word && character.is_alphabetic()) || (is_digit && !is_argument && digit && *spaced);
                if apart {
                    out.push(' ');
                }
                out.push(*character);
                (word, digit) = (false, is_digit && !is_argument);
            }
            Kind::Open | Kind::Close | Kind::Script(_) => {}
        }
    }
    out
}

/// Writes the `[3]` of `\sqrt[3]{x}`; the place after it.
fn index_of_root(tokens: &[Token], from: usize, out: &mut String) -> usize {
    let length = tokens[from..].iter().take(8).position(|token| token.kind == Kind::Character(']'));
    let Some(length) = length else { return from };
    for token in &tokens[from..=from + length] {
        match &token.kind {
            Kind::Command(name) => out.extend(["\\", name.as_str()]),
            Kind::Character(character) | Kind::Script(character) => out.push(*character),
            Kind::Open => out.push('{'),
            Kind::Close => out.push('}'),
        }
    }
    from + length + 1
}

/// A group right after a command that takes no plain arguments is that command's own: `\text{a}`.
fn after_command(tokens: &[Token], at: usize) -> bool {
    at.checked_sub(1).is_some_and(|before| matches!(tokens[before].kind, Kind::Command(_)))
}

/// The only token of a group.
fn in_braces(tokens: &[Token], open: usize) -> Option<&Kind> {
    let inner = &tokens.get(open + 1)?.kind;
    let is_single = match inner {
        Kind::Character(_) => true,
        Kind::Command(name) => arguments(name) == 0,
        Kind::Open | Kind::Close | Kind::Script(_) => false,
    };
    (is_single && tokens.get(open + 2)?.kind == Kind::Close).then_some(inner)
}
