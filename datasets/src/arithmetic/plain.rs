//! LaTeX and Vietnamese numbers, spelled as [`super::expression`] reads them, each byte with its place in the source.
//!
//! What a sum may hold is rewritten (`\frac{a}{b}`, `\times`, `2^3`, `2\frac{1}{2}`, `10{,}000`, `3(4)`, units in
//! `\text{}`); all else stays what it was or becomes a character that no sum holds, so that a calculation is rather
//! missed than read wrong. Roots, logarithms, subscripts and exponents that are no small integers are of that kind.
//!
//! Vietnamese (`vi`): the comma is the decimal sign, a dot between digits separates thousands where groups of exactly
//! three follow, else it multiplies (`2-2.5=-8`). Source of these rules: the 250 mathematics questions of VNHSGE.

use std::borrow::Cow;
use std::ops::Range;

/// Deeper `\frac{\frac{…}}` is not read.
pub const DEPTH_MAX: usize = 6;
/// Larger exponents are not written out as products.
pub const EXPONENT_MAX: usize = 12;
/// A product that is written out has no more bytes.
const PRODUCT_MAX: usize = 400;
/// Stands for what no sum holds.
pub const OTHER: char = '\u{fffd}';
/// In `\text{…}` these are no units: what stands on both sides is not one sum.
const CONNECTORS: [&str; 24] = [
    "and", "or", "if", "so", "since", "then", "is", "are", "the", "for", "when", "by", "to", "where", "with", "but",
    "not", "because", "thus", "hence", "as", "mod", "hoặc", "và",
];

/// A text as sums are looked for in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain<'a> {
    /// What is read.
    pub text: Cow<'a, str>,
    /// Source range of each byte; empty if the text is the source.
    places: Vec<(u32, u32)>,
}

impl<'a> Plain<'a> {
    /// Of a text in a language (`en`, `vi`). A text without LaTeX stays as it is, borrowed, if it is not Vietnamese.
    pub fn of(source: &'a str, language: &str) -> Self {
        let bytes = source.as_bytes();
        let holds_latex =
            || memchr::memchr3(b'\\', b'^', b'_', bytes).is_some() || memchr::memchr(b'{', bytes).is_some();
        let is_plain = language != "vi" && !holds_latex();
        if is_plain || source.len() > u32::MAX as usize {
            return Plain { text: Cow::Borrowed(source), places: Vec::new() };
        }
        let mut writer = Writer { source, text: String::new(), places: Vec::new(), vietnamese: language == "vi" };
        writer.part(0..source.len(), 0);
        Plain { text: Cow::Owned(writer.text), places: writer.places }
    }

    /// Where a range of [`Plain::text`] stands in the source.
    pub fn source_range(&self, range: Range<usize>) -> Range<usize> {
        let covered = self.places.get(range.clone()).unwrap_or_default();
        let start = covered.iter().map(|(start, _)| *start).min();
        let end = covered.iter().map(|(_, end)| *end).max();
        match (start, end) {
            (Some(start), Some(end)) => start as usize..end as usize,
            _ => range,
        }
    }
}

struct Writer<'a> {
    source: &'a str,
    text: String,
    places: Vec<(u32, u32)>,
    vietnamese: bool,
}

impl Writer<'_> {
    /// Writes `text` as standing at `place` of the source.
    fn put(&mut self, text: &str, place: Range<usize>) {
        self.text.push_str(text);
        self.places.extend(std::iter::repeat_n((place.start as u32, place.end as u32), text.len()));
    }

    fn put_other(&mut self, place: Range<usize>) {
        self.put(OTHER.encode_utf8(&mut [0; 4]), place);
    }

    fn part(&mut self, range: Range<usize>, depth: usize) {
        let mut at = range.start;
        while at < range.end {
            let rest = &self.source[at..range.end];
            let Some(character) = rest.chars().next() else { break };
            let used = match character {
                '\\' => self.command(at, range.end, depth),
                '^' => self.power(at, range.end),
                '_' => {
                    let length = 1 + argument(&rest[1..]).map_or(0, |(_, length)| length);
                    self.put_other(at..at + length);
                    length
                }
                '{' if rest.starts_with("{,}") => {
                    self.put(",", at..at + 3);
                    3
                }
                '{' | '}' | '&' => 1,
                '(' if self.text.ends_with(|c: char| c.is_ascii_digit() || c == ')') => {
                    self.put("*(", at..at + 1);
                    1
                }
                '\n' if continues(&rest[1..]) => {
                    self.put(" ", at..at + 1);
                    1
                }
                '0'..='9' if self.vietnamese => self.vietnamese_number(at, range.end),
                other => {
                    self.put(&rest[..other.len_utf8()], at..at + other.len_utf8());
                    other.len_utf8()
                }
            };
            at += used;
        }
    }

    /// A backslash and what belongs to it; returns how many bytes were used.
    fn command(&mut self, at: usize, end: usize, depth: usize) -> usize {
        let rest = &self.source[at..end];
        let letters = rest[1..].bytes().take_while(u8::is_ascii_alphabetic).count();
        if letters == 0 {
            let Some(symbol) = rest[1..].chars().next() else { return 1 };
            let length = 1 + symbol.len_utf8();
            match symbol {
                '\\' if continues(&rest[length..]) => self.put(" ", at..at + length),
                '\\' => self.put("\n", at..at + length),
                '!' => {}
                '$' | '%' => self.put(&rest[1..length], at..at + length),
                ',' | ';' | ':' | ' ' | '[' | ']' | '(' | ')' | '\n' => self.put(" ", at..at + length),
                _ => self.put_other(at..at + length),
            }
            return length;
        }
        let (name, mut used) = (&rest[1..1 + letters], 1 + letters);
        match name {
            "frac" | "dfrac" | "tfrac" => {
                let parts = argument(&rest[used..]).and_then(|(top, first)| {
                    let (bottom, second) = argument(&rest[used + first..])?;
                    let base = at + used;
                    let top = base + top.start..base + top.end;
                    let bottom = base + first + bottom.start..base + first + bottom.end;
                    Some((top, bottom, first + second))
                });
                match parts {
                    Some((top, bottom, length)) if depth < DEPTH_MAX => {
                        used += length;
                        self.fraction(at..at + used, top, bottom, depth);
                    }
                    _ => self.put_other(at..at + used),
                }
            }
            "times" | "cdot" | "ast" => self.put("*", at..at + used),
            "div" => self.put("/", at..at + used),
            "left" | "right" | "big" | "Big" | "bigl" | "bigr" | "displaystyle" | "boxed" | "fbox" | "degree" => {}
            "quad" | "qquad" => self.put(" ", at..at + used),
            "begin" | "end" => {
                used += argument(&rest[used..]).map_or(0, |(_, length)| length);
                self.put("\n", at..at + used);
            }
            "text" | "mbox" | "textrm" | "mathrm" | "textbf" => {
                let (inner, length) = argument(&rest[used..]).unwrap_or((0..0, 0));
                let words = rest[used + inner.start..used + inner.end].trim();
                let is_unit = words.starts_with(char::is_alphabetic)
                    && !words.split_whitespace().any(|word| CONNECTORS.contains(&word));
                used += length;
                if is_unit { self.put(" ", at..at + used) } else { self.put_other(at..at + used) }
            }
            _ => used = self.unknown(at, end, used, depth),
        }
        used
    }

    /// `\sqrt{a + b}`: sums in it count, but end at its brace.
    fn unknown(&mut self, at: usize, end: usize, mut used: usize, depth: usize) -> usize {
        self.put_other(at..at + used);
        if let Some(length) = self.source[at + used..end].strip_prefix('[').and_then(|rest| rest.find(']')) {
            used += length + 2;
        }
        while depth < DEPTH_MAX && self.source[at + used..end].starts_with('{') {
            let Some((inner, length)) = argument(&self.source[at + used..end]) else { break };
            self.part(at + used + inner.start..at + used + inner.end, depth + 1);
            used += length;
            self.put_other(at + used - 1..at + used);
        }
        used
    }

    /// `2\frac{1}{2}` is two and a half, `\frac{1}{2}` after anything else a quotient in brackets.
    fn fraction(&mut self, place: Range<usize>, top: Range<usize>, bottom: Range<usize>, depth: usize) {
        let digits = |range: &Range<usize>| self.source[range.clone()].bytes().all(|byte| byte.is_ascii_digit());
        let whole = self.text.len() - self.text.bytes().rev().take_while(u8::is_ascii_digit).count();
        let mixed = whole < self.text.len() && digits(&top) && digits(&bottom);
        if mixed {
            self.wrap(whole);
            self.put("+", place.clone());
        } else if self.text.ends_with(')') {
            self.put("*", place.clone());
        }
        self.put("((", place.clone());
        self.part(top, depth + 1);
        self.put(")/(", place.clone());
        self.part(bottom, depth + 1);
        self.put(if mixed { ")))" } else { "))" }, place);
    }

    /// An opening bracket before byte `start` of what is written.
    fn wrap(&mut self, start: usize) {
        let place = self.places[start];
        self.text.insert(start, '(');
        self.places.insert(start, place);
    }

    /// `^n` after a number or a bracket as a product.
    fn power(&mut self, at: usize, end: usize) -> usize {
        let rest = &self.source[at..end];
        if let Some(degrees) = ["^\\circ", "^\\degree"].iter().find(|degrees| rest.starts_with(**degrees)) {
            return degrees.len();
        }
        let Some((inner, length)) = argument(&rest[1..]) else {
            self.put_other(at..at + 1);
            return 1;
        };
        let exponent = rest[1 + inner.start..1 + inner.end].trim();
        let used = 1 + length;
        if matches!(exponent, "\\circ" | "\\degree") {
            return used;
        }
        let factors = exponent.parse().ok().filter(|factors| (1..=EXPONENT_MAX).contains(factors));
        let base = self.base().filter(|base| factors.unwrap_or(0) * (base.len() + 1) <= PRODUCT_MAX);
        let (Some(factors), Some(base)) = (factors, base) else {
            self.put_other(at..at + used);
            return used;
        };
        let (start, factor) = (base.start, self.text[base].to_owned());
        self.wrap(start);
        for _ in 1..factors {
            self.put("*", at..at + used);
            self.put(&factor, at..at + used);
        }
        self.put(")", at..at + used);
        used
    }

    /// The number or the brackets that end what is written, if no letter belongs to them.
    fn base(&self) -> Option<Range<usize>> {
        let bytes = self.text.as_bytes();
        let start = if self.text.ends_with(')') {
            let mut open = 0;
            let from = bytes.len().saturating_sub(PRODUCT_MAX);
            (from..bytes.len()).rev().find(|at| {
                open += i32::from(bytes[*at] == b')') - i32::from(bytes[*at] == b'(');
                open == 0
            })?
        } else {
            bytes.len() - bytes.iter().rev().take_while(|b| b.is_ascii_digit() || **b == b'.').count()
        };
        let stands_alone = !self.text.get(..start)?.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        (start < bytes.len() && stands_alone).then_some(start..bytes.len())
    }

    /// Digits with the commas and dots between them.
    fn vietnamese_number(&mut self, at: usize, end: usize) -> usize {
        let bytes = &self.source.as_bytes()[at..end];
        let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut used = digits(0);
        self.put(&self.source[at..at + used], at..at + used);
        let group = |from: usize| bytes.get(from) == Some(&b'.') && digits(from + 1) == 3;
        if used <= 3 {
            while group(used) {
                self.put(&self.source[at + used + 1..at + used + 4], at + used..at + used + 4);
                used += 4;
            }
        }
        let follows = |sign: u8, from: usize| bytes.get(from) == Some(&sign) && digits(from + 1) > 0;
        if follows(b',', used) {
            let places = digits(used + 1);
            self.put(".", at + used..at + used + 1);
            self.put(&self.source[at + used + 1..at + used + 1 + places], at + used + 1..at + used + 1 + places);
            used += 1 + places;
        }
        if follows(b'.', used) {
            self.put("*", at + used..at + used + 1);
            used += 1;
        }
        used
    }
}

/// `{…}` with matched braces, or one digit or letter; its inner range and its whole length with blanks in front.
fn argument(text: &str) -> Option<(Range<usize>, usize)> {
    let blanks = text.len() - text.trim_start_matches(' ').len();
    let rest = &text[blanks..];
    if !rest.starts_with('{') {
        let length = rest.chars().next().filter(|c| c.is_alphanumeric())?.len_utf8();
        return Some((blanks..blanks + length, blanks + length));
    }
    let mut depth = 0;
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 && !escaped && byte == b'}' {
            return Some((blanks + 1..blanks + at, blanks + at + 1));
        }
    }
    None
}

/// Whether the next line goes on with the sum: `&= 5`.
fn continues(rest: &str) -> bool {
    let next = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '&');
    next.starts_with('=') && rest.len() - next.len() < 40
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(text: &str, language: &str) -> String {
        Plain::of(text, language).text.into_owned()
    }

    #[test]
    fn latex_sums_become_plain_ones() {
        let cases = [
            (r"\frac{1}{2} + \frac34", "((1)/(2)) + ((3)/(4))"),
            (r"2\frac{1}{2}", "(2+((1)/(2)))"),
            (r"2^3 = 8", "(2*2*2) = 8"),
            (r"(1+2)^{2}", "((1+2)*(1+2))"),
            (r"x^2", "x\u{fffd}"),
            (r"3(4) \cdot 5", "3*(4) * 5"),
            (r"10{,}000 + 1,\!000", "10,000 + 1,000"),
            (r"3\text{ cm} \times 4", "3  * 4"),
            (r"3 \text{ or } 4", "3 \u{fffd} 4"),
            (r"\$5 + 20\%", "$5 + 20%"),
            (r"a_{12} + 3", "a\u{fffd} + 3"),
            ("1 + 2 \\\\\n&= 3", "1 + 2   = 3"),
            (r"90^\circ", "90"),
            (r"\boxed{255}.", "255."),
            (r"\sqrt{9 + 16} = 5", "\u{fffd}9 + 16\u{fffd} = 5"),
            (r"\sqrt[3]{8} + 1", "\u{fffd}8\u{fffd} + 1"),
            (r"2^{100}", "2\u{fffd}"),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text, "en"), expected, "{text}");
        }
        assert!(matches!(Plain::of("3 + 4 = 7", "en").text, Cow::Borrowed(_)));
    }

    #[test]
    fn vietnamese_numbers_become_plain_ones() {
        let cases = [
            ("2,5", "2.5"),
            ("1.500.000 đồng", "1500000 đồng"),
            ("2-2.5=-8", "2-2*5=-8"),
            ("4,45.1,35", "4.45*1.35"),
            ("1.500.000.0,5%", "1500000*0.5%"),
            ("(1;2;3)", "(1;2;3)"),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text, "vi"), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_plain_form_with_places_in_it(text in "(\\PC|[\\\\{}^_0-9.,()=&\n]|\\\\frac|\\\\text){0,60}") {
            for language in ["en", "vi"] {
                let plain = Plain::of(&text, language);
                let whole = plain.source_range(0..plain.text.len());
                prop_assert!(whole.end <= text.len().max(plain.text.len()));
                let whole_characters = plain.places.iter().all(|(start, end)| {
                    text.is_char_boundary(*start as usize) && text.is_char_boundary(*end as usize)
                });
                prop_assert!(whole_characters);
            }
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = r"\frac{".repeat(2_000) + "1" + &"}{2}".repeat(2_000);
        assert!(plain(&deep, "en").len() < 100_000);
        assert!(plain(&"2^9".repeat(5_000), "en").len() < 1_000_000);
    }
}
