//! The final answer in a text: what it states, and what is meant where it states nothing.

use std::sync::LazyLock;

use regex::Regex;

use super::text::braced;
use super::{units, words};
use crate::scores::stages::FINAL_ANSWER;
use crate::trajectory::Stage;

/// Boxes are one answer if no more words stand between them, one of which (or a comma) joins.
const JOINING_WORDS_MAX: usize = 4;

/// Where a chat template ends the turn.
const TURN_ENDS: [&str; 5] = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "</s>", "<|eot_id|>"];

#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static STATES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)((answer|result|solution)\s+(is|are|=)\s*:?|(final\s+)?answer\s*:|réponse\s*(est\s*)?:?|đáp số( là)?\s*:?|",
        r"đáp án( đúng)?( là)?\s*:?|kết quả( là)?\s*:|answer\s*=?)"
    ))
    .expect("a constant pattern")
});
#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"-?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?(\s?/\s?\d+)?%?|-?\.\d+").expect("a constant pattern")
});
#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static VIETNAMESE_NUMBER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"-?(\d{1,3}(\.\d{3})+|\d+)([.,]\d+)?(\s?/\s?\d+)?%?").expect("a constant pattern"));
#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static LETTER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i:(answer|choice|option|solution)\s*(choice\s*)?(is|:|=)?|it's|it is|choose|pick|chọn|phương án|đáp án)",
        r"(?i:\s*(đáp án|phương án|câu|option|choice|answer|đúng|là|is|:)){0,3}",
        r"[\s*$]*(?:\\boxed\{|\\text\{|\\textbf\{|\\mathrm\{|\\mathbf\{)*\s*\(?([A-J])(?:[^\p{L}\d'’]|$)"
    ))
    .expect("a constant pattern")
});
#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static SEGMENT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?s)\$\$(.+?)\$\$|\$([^$]+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]|\*\*(.+?)\*\*").expect("a constant pattern")
});
#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\\?[\p{L}\p{M}]+").expect("a constant pattern"));

/// The end of a long text, without what follows the turn.
pub(super) fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(super::TEXT_MAX);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let text = &text[from..];
    let end = TURN_ENDS.iter().filter_map(|mark| text.find(mark)).filter(|at| !text[..*at].trim().is_empty()).min();
    &text[..end.unwrap_or(text.len())]
}

/// The answer that a text states, or None.
pub(super) fn stated(text: &str, language: &str) -> Option<String> {
    let text = tail(text);
    if let Some(at) = text.rfind(FINAL_ANSWER) {
        let after = text[at + FINAL_ANSWER.len()..].trim_start();
        let line = clean(first_line(after));
        return if line.is_empty() { None } else { Some(boxed(&line).unwrap_or_else(|| announced(&line, language))) };
    }
    if let Some(found) = boxed(text) {
        return Some(found);
    }
    let is_tag = |line: &str| Stage::ALL.iter().any(|stage| line.contains(stage.name()));
    let marked = text.rmatch_indices("####").find_map(|(at, mark)| {
        let line = text[at + mark.len()..].lines().next().unwrap_or_default();
        (!is_tag(line) && !line.trim().is_empty()).then(|| clean(line))
    });
    marked.or_else(|| announcement(text, language))
}

/// The first line, or the formula that a displayed one holds.
fn first_line(text: &str) -> &str {
    for (open, close) in [("$$", "$$"), ("\\[", "\\]")] {
        let inner = text.strip_prefix(open).and_then(|rest| rest.split_once(close));
        if let Some((inner, _)) = inner {
            return inner.trim();
        }
    }
    text.lines().next().unwrap_or_default()
}

/// What follows the last `the answer is`, to the end of the sentence.
fn announcement(text: &str, language: &str) -> Option<String> {
    let matches: Vec<_> = STATES.find_iter(text).collect();
    matches.iter().rev().take(50).find_map(|found| {
        let bare = found.as_str().trim().to_lowercase() == "answer";
        let after = text[found.end()..].trim_start_matches([' ', '\t', '\n', ':', '*', '=']);
        let formula = after.starts_with(['$', '\\', '(', '-']) || after.starts_with(|c: char| c.is_ascii_digit());
        if bare && !formula {
            return None;
        }
        let line = sentence(first_line(after));
        (!line.is_empty()).then(|| meant(&line, language))
    })
}

/// The line after `Final Answer:`, which may announce it once more.
fn announced(line: &str, language: &str) -> String {
    announcement(line, language).unwrap_or_else(|| sentence(line))
}

/// Of a sentence that begins with its answer, or holds one amount of money, that; else the sentence.
fn meant(line: &str, language: &str) -> String {
    if !is_prose(line) {
        return line.to_owned();
    }
    let number = if language == "vi" { &VIETNAMESE_NUMBER } else { &NUMBER };
    if let Some(first) = number.find(line).filter(|found| found.start() == 0) {
        return first.as_str().to_owned();
    }
    let near_sign = |found: &regex::Match| {
        let after = line[found.end()..].trim_start().starts_with(['$', '€', '£']);
        let paired = line.matches('$').count() > 1;
        after && !paired
    };
    let mut money = number.find_iter(line).filter(near_sign);
    match (money.next(), money.next()) {
        (Some(only), None) => only.as_str().to_owned(),
        _ => line.to_owned(),
    }
}

/// The inside of the last `\boxed{}`; of several that are joined, all, with commas.
fn boxed(text: &str) -> Option<String> {
    let mut boxes: Vec<(usize, usize, &str)> = Vec::new();
    for (at, _) in text.match_indices("\\boxed").chain(text.match_indices("\\fbox")).take(2_000) {
        if boxes.last().is_some_and(|(_, end, _)| at < *end) {
            continue; // A box in a box.
        }
        let from = at + text[at..].find(['d', 'x']).unwrap_or(0);
        let from = from + text[from..].find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len() - from);
        let after = text[from..].trim_start();
        let (inner, end) = match braced(after) {
            Some((inner, rest)) => (inner, text.len() - rest.len()),
            None => {
                let rest = after.trim_start_matches('{');
                let inner = rest.split(['$', '\n']).next().unwrap_or_default();
                (inner, text.len() - rest.len() + inner.len())
            }
        };
        boxes.push((at, end, inner.trim()));
    }
    let (mut from, _, last) = *boxes.last()?;
    let mut found = vec![last];
    for (at, end, inner) in boxes.iter().rev().skip(1) {
        if *end > from || !joins(&text[*end..from]) || found.contains(inner) || found.len() >= 40 {
            break;
        }
        found.push(inner);
        from = *at;
    }
    found.reverse();
    Some(found.join(", ")).filter(|joined| !joined.trim_matches([',', ' ']).is_empty())
}

/// Whether the text between two boxes makes them one answer.
fn joins(between: &str) -> bool {
    if between.len() > 120 || between.contains(". ") || between.contains(['<', '>']) {
        return false;
    }
    let all: Vec<&str> =
        WORD.find_iter(between).map(|word| word.as_str()).filter(|word| !word.starts_with('\\')).collect();
    let connector = |word: &&str| matches!(word.to_lowercase().as_str(), "and" | "or" | "và" | "hoặc");
    // Names of what is boxed (`y_2 =`) do not count.
    let spoken = all.iter().filter(|word| word.chars().count() > 1).count();
    let is_chain = spoken == 0 && between.contains('=') && !between.contains([',', ';']);
    let joined = all.iter().any(connector) || between.contains([',', ';']) || spoken == 0;
    joined && !is_chain && spoken <= JOINING_WORDS_MAX
}

fn clean(line: &str) -> String {
    line.trim().trim_matches(['*', '`']).trim().trim_end_matches(['.', ';', ',', '。']).trim().to_owned()
}

/// Up to the full stop.
fn sentence(line: &str) -> String {
    let end = [". ", ".\t", "。", ".$ "].iter().filter_map(|mark| line.find(mark)).min().unwrap_or(line.len());
    // `4:30 p.m. in the evening`: a stop after one letter ends no sentence.
    let abbreviation = line[..end].ends_with(".m") || line[..end].ends_with("p.m");
    clean(if abbreviation { line } else { &line[..end] })
}

/// Whether a text is a sentence that holds an answer rather than one: four words, one before a formula, or a script
/// that no answer is written in.
pub(super) fn is_prose(text: &str) -> bool {
    let foreign = |c: char| matches!(c as u32, 0x0590..=0x08ff | 0x0900..=0x0dff | 0x3040..=0x30ff | 0x4e00..=0x9fff | 0xac00..=0xd7af);
    if text.chars().any(foreign) {
        return true;
    }
    let outside = without_text_macros(text);
    let is_word = |word: &regex::Match| {
        let name = word.as_str();
        let connector = matches!(name.to_lowercase().as_str(), "and" | "or" | "và" | "hoặc" | "per");
        !name.starts_with('\\')
            && name.chars().count() > 1
            && !connector
            && !units::is_known(name)
            && !words::is_function(name)
    };
    let spoken: Vec<_> = WORD.find_iter(&outside).filter(is_word).collect();
    let named =
        WORD.find_iter(&outside).filter(|word| units::is_known(word.as_str()) && word.as_str().len() > 1).count();
    let formula = SEGMENT.find(&outside).map(|segment| segment.start());
    spoken.len() >= 2 && spoken.len() + named >= 4
        || formula.is_some_and(|at| spoken.first().is_some_and(|word| word.end() <= at))
}

/// The text without the insides of `\text{}` and its like, and of formulas' environments.
fn without_text_macros(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = ["\\text", "\\mathrm", "\\mbox", "\\begin", "\\end", "\\operatorname"]
        .iter()
        .filter_map(|name| rest.find(name))
        .min()
    {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let name = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        rest = match braced(after[name..].trim_start()) {
            Some((_, after)) => after,
            None => &after[name..],
        };
        out.push(' ');
    }
    out.push_str(rest);
    out
}

/// What a text without a statement means: its last formula, or the last number if that comes later.
pub(super) fn last(text: &str, language: &str) -> Option<String> {
    match last_formula(text) {
        Some((formula, end)) if last_number(&text[end..], language).is_none() => Some(formula.to_owned()),
        _ => last_number(text, language),
    }
}

/// The last formula that says more than a name, and where it ends.
pub(super) fn last_formula(text: &str) -> Option<(&str, usize)> {
    let says = |formula: &str| {
        let words = WORD
            .find_iter(formula)
            .filter(|word| word.as_str().chars().count() > 3 && !word.as_str().starts_with('\\'));
        let worded = words.count() > 0
            && !formula.contains("\\text")
            && !formula.contains("\\begin")
            && !formula.contains("\\mathrm");
        formula.contains(|c: char| c.is_ascii_digit() || matches!(c, '=' | '<' | '>')) && !worded
            || formula.contains("\\infty")
    };
    let found = SEGMENT.captures_iter(text).filter_map(|captures| {
        let whole = captures.get(0)?;
        let inner = captures.iter().skip(1).flatten().next()?;
        says(inner.as_str()).then_some((inner.as_str(), whole.end()))
    });
    found.last()
}

fn last_number(text: &str, language: &str) -> Option<String> {
    let number = if language == "vi" { &VIETNAMESE_NUMBER } else { &NUMBER };
    number.find_iter(text).last().map(|found| {
        // A minus sign right after a digit or a bracket is an operation.
        let (touching, before) = (text[..found.start()].chars().next_back(), text[..found.start()].trim_end());
        let operand = |c: char| c.is_numeric() || c == ')';
        let operation = touching.is_some_and(char::is_alphabetic) || before.chars().next_back().is_some_and(operand);
        let number = found.as_str();
        (if operation { number.trim_start_matches('-') } else { number }).to_owned()
    })
}

/// A text without the macros and marks that open it.
fn opened(text: &str) -> &str {
    let mut text = text.trim();
    for _ in 0..4 {
        let marks = text.trim_start_matches(['$', '*', '{', ' ']);
        let inner = ["\\textbf", "\\text", "\\mathrm", "\\mathbf"].iter().find_map(|name| marks.strip_prefix(name));
        text = inner.unwrap_or(marks);
    }
    text.trim_start_matches(['{', ' '])
}

/// The letter that a text chooses: at its start (`B. …`), or after `the answer is`, `chọn`.
pub(super) fn chosen_letter(text: &str) -> Option<char> {
    let first: Vec<char> = opened(text).trim_start_matches('(').chars().take(2).collect();
    if let [letter @ 'A'..='J', '.' | ')' | '。' | ':' | '．'] = first[..] {
        return Some(letter);
    }
    let text = tail(text);
    let chosen = LETTER.captures_iter(text).filter_map(|captures| {
        let before = text[..captures.get(0)?.start()].trim_end().to_lowercase();
        let denied = ["không", "not", "n't", "never"].iter().any(|word| before.ends_with(word));
        if denied { None } else { captures.iter().flatten().last()?.as_str().chars().next() }
    });
    chosen.last()
}

/// The letter of a choice with its text: `C Cecile`, `(D) Alina`.
pub(super) fn choice_letter(text: &str) -> Option<char> {
    let inner = opened(text).trim_start_matches('(');
    let letter = inner.chars().next().filter(|c| matches!(c, 'A'..='J'))?;
    let rest = &inner[1..];
    let closed = rest.strip_prefix([')', '.', ':']);
    let after = closed.unwrap_or(rest);
    let spaced = after.starts_with(char::is_whitespace);
    let word = after.trim_start().chars().next().is_some_and(char::is_alphanumeric);
    let capital = after.trim_start().chars().next().is_some_and(char::is_uppercase);
    (spaced && word && (closed.is_some() || capital)).then_some(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_that_belong_together_are_one_answer() {
        let cases = [
            ("\\boxed{2}, \\boxed{3}", "2, 3"),
            ("\\boxed{2} and \\boxed{3}", "2, 3"),
            ("\\boxed{7} so then we must check it once more and get \\boxed{3}", "3"),
            ("\\boxed{7} = \\boxed{3}", "3"),
            ("\\boxed{\\frac{\\boxed{1}}{2}}", "\\frac{\\boxed{1}}{2}"),
            ("\\boxed 2", "2"),
            ("$\\boxed{\\frac{1}{2}$", "\\frac{1}{2}"),
        ];
        for (text, expected) in cases {
            assert_eq!(boxed(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(boxed("\\boxed{}"), None);
    }

    #[test]
    fn sentences_are_told_from_answers() {
        for text in ["Therefore $x > 5$", "so that is what we find here", "答案是 5"] {
            assert!(is_prose(text), "{text}");
        }
        for text in ["5 miles per hour", "$5$ apples", "x = 2 or x = 3", "\\text{the points form a line}", "2 x + 3 y"]
        {
            assert!(!is_prose(text), "{text}");
        }
    }

    #[test]
    fn letters_are_found_where_they_are_chosen() {
        let cases = [
            ("B. since 2 is even", Some('B')),
            ("(D) all of them", Some('D')),
            ("I would say the correct choice is (C).", Some('C')),
            ("Vậy chọn đáp án A.", Some('A')),
            ("The answer is Apple", None),
            ("Answer: $\\boxed{\\text{E}}$", Some('E')),
        ];
        for (text, expected) in cases {
            assert_eq!(chosen_letter(text), expected, "{text}");
        }
    }
}
