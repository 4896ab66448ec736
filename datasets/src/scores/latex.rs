//! LaTeX and typographic writing of answers, brought to one plain form.

use crate::arithmetic::{Exact, Expression, Operator, number};

/// Longer answers are compared as they stand.
pub const LENGTH_MAX: usize = 2_000;
/// No exponent is larger.
const EXPONENT_MAX: u32 = 400;

/// Plain form: macros for layout, currency, degrees and percent removed, `\frac` as `((a)/(b))`, text macros opened.
pub fn plain(text: &str) -> String {
    let mut text = text.trim().chars().take(LENGTH_MAX).collect::<String>();
    for (from, to) in REPLACED {
        if text.contains(from) {
            text = text.replace(from, to);
        }
    }
    for name in ["\\text", "\\textbf", "\\textit", "\\mathrm", "\\mathbf", "\\mbox", "\\boxed", "\\fbox", "\\textrm"] {
        text = open_macro(&text, name);
    }
    let text = fractions(&roots(&text));
    let text = text.trim().trim_end_matches(['.', '。']).trim();
    text.to_owned()
}

const REPLACED: [(&str, &str); 44] = [
    ("\\\\dfrac", "\\frac"),
    ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"),
    ("\\cfrac", "\\frac"),
    ("\\left", ""),
    ("\\right", ""),
    ("\\(", ""),
    ("\\)", ""),
    ("\\[", ""),
    ("\\]", ""),
    ("\\!", ""),
    ("\\,", ""),
    ("\\;", " "),
    ("\\:", " "),
    ("\\ ", " "),
    ("~", " "),
    ("\\quad", " "),
    ("{,}", ","),
    ("\\$", ""),
    ("$", ""),
    ("€", ""),
    ("£", ""),
    ("\\%", "%"),
    ("^{\\circ}", "°"),
    ("^\\circ", "°"),
    ("\\degree", "°"),
    ("\\cdot", "*"),
    ("\\times", "*"),
    ("×", "*"),
    ("\\div", "/"),
    ("÷", "/"),
    ("−", "-"),
    ("–", "-"),
    ("\u{a0}", " "),
    ("\u{202f}", " "),
    ("\u{200b}", ""),
    ("½", "\\frac12"),
    ("¼", "\\frac14"),
    ("¾", "\\frac34"),
    ("⅓", "\\frac13"),
    ("⅔", "\\frac23"),
    ("\\bf", ""),
    ("\\rm", ""),
    ("\\displaystyle", ""),
];

/// `\sqrt2` and `√2` become `\sqrt{2}`.
fn roots(text: &str) -> String {
    let mut parts = text.split("\\sqrt").flat_map(|part| part.split('√'));
    let mut joined = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let part = part.trim_start();
        match part.chars().next().filter(char::is_ascii_alphanumeric) {
            Some(first) => joined.push_str(&format!("\\sqrt{{{first}}}{}", &part[1..])),
            None => joined.push_str(&format!("\\sqrt{part}")),
        }
    }
    joined
}

/// `\name{inner}` becomes ` inner `.
fn open_macro(text: &str, name: &str) -> String {
    let mut rest = text;
    let mut opened = String::with_capacity(text.len());
    while let Some(at) = rest.find(name) {
        let after = &rest[at + name.len()..];
        match braced(after.trim_start()) {
            Some((inner, tail)) => {
                opened.push_str(&rest[..at]);
                opened.push(' ');
                opened.push_str(inner);
                opened.push(' ');
                rest = tail;
            }
            None => {
                opened.push_str(&rest[..at + name.len()]);
                rest = after;
            }
        }
    }
    opened + rest
}

/// The inside of braces that open at the start of `text`, and what follows. `\{` and `\}` are no braces.
pub fn braced(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('{')?;
    let (mut depth, mut escaped) = (1usize, false);
    for (at, character) in inner.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&inner[..at], &inner[at + 1..]));
        }
    }
    None
}

/// One `\frac` argument: braces or a single character.
fn argument(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    if text.starts_with('{') {
        return braced(text);
    }
    let first = text.chars().next().filter(char::is_ascii_alphanumeric)?;
    Some(text.split_at(first.len_utf8()))
}

/// `\frac{a}{b}` becomes `((a)/(b))`; after a whole number, `+` before it: a mixed number.
fn fractions(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..20 {
        // From the last on, so that inner fractions come first.
        let Some(at) = text.rfind("\\frac") else { break };
        let (before, after) = (&text[..at], &text[at + 5..]);
        let Some(((over, under), tail)) = argument(after).and_then(|(over, rest)| {
            let (under, tail) = argument(rest)?;
            Some(((over, under), tail))
        }) else {
            break;
        };
        let whole = before.trim_end();
        let digits = whole.len() - whole.bytes().rev().take_while(u8::is_ascii_digit).count();
        let plain_digits = |part: &str| !part.trim().is_empty() && part.trim().bytes().all(|b| b.is_ascii_digit());
        let mixed = digits < whole.len()
            && plain_digits(over)
            && plain_digits(under)
            && !whole[..digits].ends_with(['.', ',', '^', '_', '{']);
        text = if mixed {
            format!("{}({}+(({over})/({under}))){tail}", &whole[..digits], &whole[digits..])
        } else {
            format!("{before}(({over})/({under})){tail}")
        };
    }
    text
}

/// The value of a plain text that is a rational number: an expression, a mixed number, a power, scientific notation.
pub fn value(text: &str) -> Option<Exact> {
    let text = text.trim();
    if text.is_empty() || text.len() > LENGTH_MAX {
        return None;
    }
    scientific(text).or_else(|| mixed(text)).or_else(|| {
        let text = powers(text)?;
        Expression::parse(&text).ok()?.value().ok()
    })
}

/// `2 1/2`, `-2 1/2`.
fn mixed(text: &str) -> Option<Exact> {
    let (whole, part) = text.split_once(' ')?;
    let part = part.trim();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (over, under) = part.split_once('/')?;
    if !digits(whole.trim_start_matches('-')) || !digits(over) || !digits(under) {
        return None;
    }
    let (whole_value, part) = (number::parse(whole)?, number::parse(part)?);
    Some(if whole.starts_with('-') { whole_value - part } else { whole_value + part })
}

/// `1e3`, `6.02E-23`.
fn scientific(text: &str) -> Option<Exact> {
    let (mantissa, exponent) = text.split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let scale = Exact::from_integer(number::power_of_ten(bounded(exponent.unsigned_abs())?));
    let mantissa = number::parse(mantissa)?;
    Some(if exponent < 0 { mantissa / scale } else { mantissa * scale })
}

fn bounded(exponent: u32) -> Option<usize> {
    (exponent <= EXPONENT_MAX).then_some(exponent as usize)
}

/// Writes each `a^n`, `a^{n}` of whole numbers out, so that an expression is left.
fn powers(text: &str) -> Option<String> {
    let mut text = text.to_owned();
    for _ in 0..10 {
        let Some(at) = text.find('^') else { return Some(text) };
        let from = at - text[..at].bytes().rev().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let base = number::parse(&text[from..at])?;
        let (exponent, tail) = argument(&text[at + 1..])?;
        let exponent: i32 = exponent.trim().parse().ok()?;
        let mut product = Exact::from_integer(1.into());
        for _ in 0..bounded(exponent.unsigned_abs())? {
            product = Operator::Multiply.apply(&product, &base).ok()?;
        }
        if exponent < 0 {
            product = Operator::Divide.apply(&Exact::from_integer(1.into()), &product).ok()?;
        }
        if product.numer().bits().max(product.denom().bits()) > 600 {
            // Too long to be written out as a number that is read back; alone it still has its value elsewhere.
            return None;
        }
        text = format!("{}({}/{}){tail}", &text[..from], product.numer(), product.denom());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latex_numbers_have_their_exact_value() {
        let cases = [
            ("\\frac{9}{2}", "9/2"),
            ("\\frac92", "9/2"),
            ("-\\dfrac43", "-4/3"),
            ("8\\frac47", "60/7"),
            ("33 \\frac{1}{3}", "100/3"),
            ("2½", "5/2"),
            ("2 1/2", "5/2"),
            ("10{,}000", "10000"),
            ("3,\\!250", "3250"),
            ("\\$16386.17", "1638617/100"),
            ("1e3", "1000"),
            ("1.2 \\times 10^{3}", "1200"),
            ("1.2\\cdot10^4", "12000"),
            ("\\frac{\\frac12}{3}", "1/6"),
            ("\\text{3968}", "3968"),
        ];
        for (text, expected) in cases {
            assert_eq!(value(&plain(text)).map(|v| number::exact(&v)).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "x", "\\frac", "\\frac{1}", "2^{9999999999}", "9^9^9^9^9", "1e999999", "\\frac{1}{0}"] {
            assert_eq!(value(&plain(text)), None, "{text}");
        }
    }

    #[test]
    fn braces_are_matched() {
        assert_eq!(braced("{a{b}c}d"), Some(("a{b}c", "d")));
        assert_eq!(braced("{\\}}x"), Some(("\\}", "x")));
        assert_eq!(braced("{a"), None);
    }
}
