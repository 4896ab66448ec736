//! One plain form for the many characters that mean the same in answers.

use unicode_normalization::UnicodeNormalization;

/// Longer answers are compared as they stand.
pub(super) const LENGTH_MAX: usize = 2_000;

/// Characters that stand for LaTeX or ASCII.
const REPLACED: [(char, &str); 46] = [
    ('−', "-"),
    ('–', "-"),
    ('—', "-"),
    ('‐', "-"),
    ('‑', "-"),
    ('×', "*"),
    ('·', "*"),
    ('⋅', "*"),
    ('∙', "*"),
    ('÷', "/"),
    ('⁄', "/"),
    ('∕', "/"),
    ('≤', "\\le "),
    ('⩽', "\\le "),
    ('≥', "\\ge "),
    ('⩾', "\\ge "),
    ('≠', "\\ne "),
    ('∞', "\\infty "),
    ('π', "\\pi "),
    ('√', " sqrt "),
    ('∪', "\\cup "),
    ('∩', "\\cap "),
    ('∈', "\\in "),
    ('∅', "\\emptyset "),
    ('±', "\\pm "),
    ('∓', "\\mp "),
    ('≈', "\\approx "),
    ('º', "°"),
    ('˚', "°"),
    ('′', "'"),
    ('’', "'"),
    ('½', "\\frac12 "),
    ('⅓', "\\frac13 "),
    ('⅔', "\\frac23 "),
    ('¼', "\\frac14 "),
    ('¾', "\\frac34 "),
    ('⅕', "\\frac15 "),
    ('⅛', "\\frac18 "),
    ('ℝ', "\\mathbb{R}"),
    ('∠', "\\angle "),
    ('。', ". "),
    ('，', ", "),
    ('、', ", "),
    ('“', "\""),
    ('”', "\""),
    ('\u{200b}', ""),
];

const RAISED: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ";
const LOWERED: &str = "₀₁₂₃₄₅₆₇₈₉";
const PLAIN: &str = "0123456789-+n";

/// Composes letters (NFC), and writes typographic signs, full-width characters, raised and lowered digits plainly.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut script = None;
    for character in text.nfc() {
        let found = [(RAISED, '^'), (LOWERED, '_')].into_iter().find_map(|(all, mark)| {
            let index = all.chars().position(|c| c == character)?;
            Some((mark, PLAIN.chars().nth(index)?))
        });
        if script != found.map(|(mark, _)| mark) {
            if script.is_some() {
                out.push('}');
            }
            script = found.map(|(mark, _)| mark);
            if let Some(mark) = script {
                out.push(mark);
                out.push('{');
            }
        }
        if let Some((_, digit)) = found {
            out.push(digit);
        } else if let Some((_, to)) = REPLACED.iter().find(|(from, _)| *from == character) {
            out.push_str(to);
        } else {
            out.push(narrow(character));
        }
    }
    if script.is_some() {
        out.push('}');
    }
    doubled_backslashes(&out)
}

/// Full-width forms and odd spaces.
fn narrow(character: char) -> char {
    match character {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(character as u32 - 0xfee0).unwrap_or(character),
        c if c.is_whitespace() && c != '\n' => ' ',
        c => c,
    }
}

/// Macros that a doubled backslash (from an escaped string) may hide; after a row of a matrix none of them follows one.
const DOUBLED: [&str; 40] = [
    "frac", "dfrac", "tfrac", "left", "right", "boxed", "text", "sqrt", "le", "leq", "ge", "geq", "pi", "infty", "cup",
    "cap", "in", "cdot", "times", "ne", "neq", "pm", "circ", "mathrm", "mathbf", "mathbb", "textbf", "quad", "binom",
    "sin", "cos", "tan", "log", "ln", "degree", "begin", "end", "theta", "lt", "gt",
];

fn doubled_backslashes(text: &str) -> String {
    if !text.contains("\\\\") {
        return text.to_owned();
    }
    // Inside a matrix with single backslashes a doubled one is the end of a row.
    let rows = text.contains("\\begin{") && !text.contains("\\\\begin{");
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\\\") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        let name: String = after.chars().take_while(char::is_ascii_alphabetic).collect();
        let hidden =
            DOUBLED.contains(&name.as_str()) || name.is_empty() && after.starts_with(['%', '{', '}', '$', '(']);
        out.push_str(before);
        out.push_str(if hidden && !rows { "\\" } else { "\\\\" });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The text inside the braces at the start of `text`, and what follows. `\{` and `\}` are no braces.
pub(super) fn braced(text: &str) -> Option<(&str, &str)> {
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

/// Words without case, punctuation and layout: how answers that are no mathematics are compared.
pub(super) fn folded(text: &str) -> String {
    let is_words = !text.contains(['\\', '=', '^', '_', '<', '>', '+', '*', '/']) && text.chars().count() > 2;
    let kept = text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '$' | '"' | '.' | '`'));
    if is_words {
        kept.filter(|c| !matches!(c, '-' | ',' | '!' | '(' | ')')).flat_map(char::to_lowercase).collect()
    } else {
        kept.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_written_plainly() {
        let cases = [
            ("−5", "-5"),
            ("x²", "x^{2}"),
            ("10⁻³ m", "10^{-3} m"),
            ("１２", "12"),
            ("a₁₂", "a_{12}"),
            ("\\\\frac{1}{2}", "\\frac{1}{2}"),
            ("\\begin{pmatrix} 1 \\\\ 2", "\\begin{pmatrix} 1 \\\\ 2"),
            ("1 \\\\ 2", "1 \\\\ 2"),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn braces_are_matched() {
        assert_eq!(braced("{a{b}c}d"), Some(("a{b}c", "d")));
        assert_eq!(braced("{\\}}x"), Some(("\\}", "x")));
        assert_eq!(braced("{a"), None);
    }
}
