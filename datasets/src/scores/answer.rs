//! Final answers: reading them from a text, and whether two mean the same.
//!
//! In doubt two answers are *not* equal: a false equal flatters a model, a missed one only hides its merit.

use std::sync::LazyLock;

use regex::Regex;

use super::latex;
use super::stages::FINAL_ANSWER;
use crate::arithmetic::Exact;
use crate::trajectory::Stage;

/// Of longer texts the end is read.
pub const TEXT_MAX: usize = 40_000;

/// What an answer is, read from its text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// A rational number, with the unit if one is written (percent, degrees and currency signs are not units).
    Number(Vec<Exact>, String),
    /// A letter of a multiple choice.
    Letter(char),
    /// Elements in brackets (kept) or bare, separated by commas or semicolons.
    Tuple(Option<char>, Vec<Answer>, Option<char>),
    /// `name = answer`.
    Named(String, Box<Answer>),
    /// Anything else, white space removed.
    Text(String),
}

/// Whether `prediction` means the same as `gold`. `language` (`en`, `vi`) decides what a comma between digits is.
///
/// `prediction` may be a bare answer or a text that holds one. Never panics; long texts are bounded.
pub fn equal(gold: &str, prediction: &str, language: &str) -> bool {
    if gold.trim().is_empty() || gold.len() > TEXT_MAX {
        return false;
    }
    let wanted = read(gold, language, true);
    if same(&wanted, &read(prediction, language, false)) {
        return true;
    }
    if let Answer::Letter(letter) = wanted {
        return chosen_letter(prediction) == Some(letter);
    }
    let words = prediction.split_whitespace().count() >= 4 && prediction.chars().any(char::is_alphabetic);
    let is_prose = words || prediction.chars().filter(|c| c.is_alphabetic() && !c.is_ascii()).count() >= 4;
    if !is_prose && stated(prediction, language).is_none() {
        return false;
    }
    extract(prediction, language).is_some_and(|found| same(&wanted, &read(&found, language, false)))
}

/// The answer that a text states: after `Final Answer:`, in the last `\boxed{}`, after `####` (that is no stage's tag),
/// after `the answer is`, `Answer:`, `Đáp số:`, `Đáp án`. None if it states none.
pub fn stated(text: &str, _language: &str) -> Option<String> {
    let text = tail(text);
    let line_after = |at: usize| {
        let line = text[at..].trim_start_matches([' ', '\t', ':', '*']).lines().next().unwrap_or_default();
        Some(clean(line)).filter(|line| !line.is_empty())
    };
    if let Some(at) = text.rfind(FINAL_ANSWER) {
        let after = &text[at + FINAL_ANSWER.len()..];
        let line = clean(after.trim_start().lines().next().unwrap_or_default());
        return if line.is_empty() { None } else { Some(boxed(&line).unwrap_or(line)) };
    }
    if let Some(found) = boxed(text) {
        return Some(found);
    }
    let is_tag = |line: &str| Stage::ALL.iter().any(|stage| line.contains(stage.name()));
    let marked = text.rmatch_indices("####").find_map(|(at, mark)| {
        let line = text[at + mark.len()..].lines().next().unwrap_or_default();
        (!is_tag(line) && !line.trim().is_empty()).then(|| clean(line))
    });
    marked.or_else(|| STATES.find_iter(text).last().and_then(|found| line_after(found.end())).map(|l| sentence(&l)))
}

/// The answer in a text: [`stated`], else the last number in it.
pub fn extract(text: &str, language: &str) -> Option<String> {
    let Some(found) = stated(text, language) else { return last_number(tail(text)) };
    // `The largest n is 34`: a sentence is stated, its number is meant.
    let is_prose = found.split_whitespace().count() > 3 && found.chars().filter(|c| c.is_alphabetic()).count() > 8;
    match read(&found, language, false) {
        Answer::Text(_) if is_prose => last_number(&found).or(Some(found)),
        _ => Some(found),
    }
}

static STATES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(the (final |correct )?answer is|answer\s*:|đáp số\s*:?|đáp án( là)?\s*:?|answer)")
        .expect("a constant pattern")
});
static NUMBER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"-?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?(/\d+)?|-?\.\d+").expect("a constant pattern"));
static LETTER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i:answer is|it's|chọn( đáp án)?|đáp án( là)?|answer:|option)\s*\(?([A-E])\)?([^\p{L}]|$)")
        .expect("a constant pattern")
});
static UNIT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(.*[0-9)%°])(\s*)(\p{L}[\p{L}\s./²³^]*)$").expect("a constant pattern"));

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(TEXT_MAX);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// The inside of the last `\boxed{}`.
fn boxed(text: &str) -> Option<String> {
    let at = text.rfind("\\boxed")?;
    let after = text[at + 6..].trim_start();
    let inner = match latex::braced(after) {
        Some((inner, _)) => inner,
        None => after.trim_start_matches('{').split(['$', '\n']).next()?,
    };
    Some(inner.trim().to_owned()).filter(|inner| !inner.is_empty())
}

fn clean(line: &str) -> String {
    line.trim().trim_matches(['*', '`']).trim().trim_end_matches(['.', ';', ',']).trim().to_owned()
}

fn sentence(line: &str) -> String {
    clean(line.split(". ").next().unwrap_or_default())
}

fn last_number(text: &str) -> Option<String> {
    NUMBER.find_iter(text).last().map(|found| {
        // A minus sign right after a digit or a bracket is an operation.
        let before = text[..found.start()].trim_end().chars().next_back();
        let operation = before.is_some_and(|c| c.is_alphanumeric() || c == ')');
        let number = found.as_str();
        (if operation { number.trim_start_matches('-') } else { number }).to_owned()
    })
}

fn chosen_letter(text: &str) -> Option<char> {
    let first: Vec<char> = text.trim().chars().take(2).collect();
    if let [letter @ 'A'..='E', '.' | ')' | '。' | ':'] = first[..] {
        return Some(letter);
    }
    LETTER.captures_iter(tail(text)).last()?.get(3)?.as_str().chars().next().filter(|c| matches!(c, 'A'..='E'))
}

fn read(text: &str, language: &str, gold: bool) -> Answer {
    let text = tail(text);
    match read_plain(&latex::plain(text), language, gold, 0) {
        Answer::Number(values, unit) if unit.is_empty() => Answer::Number(values, currency(text).to_owned()),
        other => other,
    }
}

/// The currency of a sign, as a unit. A pair of `$` is LaTeX, not money.
fn currency(text: &str) -> &'static str {
    if text.contains("\\$") || text.matches('$').count() == 1 {
        return "dollar";
    }
    if text.contains('€') {
        return "euro";
    }
    if text.contains('£') { "pound" } else { "" }
}

fn read_plain(text: &str, language: &str, gold: bool, depth: u32) -> Answer {
    let text = text.trim();
    if let Some(letter) = letter(text) {
        return Answer::Letter(letter);
    }
    if let Some((name, rest)) = text.split_once('=') {
        let name = name.trim();
        let is_name = name.chars().count() <= 6 && name.chars().next().is_some_and(char::is_alphabetic);
        let is_name = is_name && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '(' | ')' | '_'));
        if is_name && !rest.contains('=') && depth == 0 {
            return Answer::Named(name.to_owned(), Box::new(read_plain(rest, language, gold, 1)));
        }
    }
    let values = numbers(text, language, gold);
    if !values.is_empty() {
        return Answer::Number(values, String::new());
    }
    if let Some(parts) = UNIT.captures(text) {
        let (amount, space, unit) = (&parts[1], &parts[2], parts[3].trim().trim_end_matches('.').to_lowercase());
        let values = numbers(amount, language, gold);
        // `5x`, `3i`, `2 pi` are no units, `5 million` is no five.
        let is_unit = !UNLIKE.contains(&unit.as_str())
            && (unit.chars().count() > 1
                || (!space.is_empty() && matches!(unit.as_str(), "m" | "g" | "l" | "h" | "s")))
            && !unit.split_whitespace().any(|word| UNLIKE.contains(&word));
        if is_unit && !values.is_empty() {
            let unit =
                if matches!(unit.as_str(), "percent" | "pct" | "degrees" | "degree") { String::new() } else { unit };
            return Answer::Number(values, unit);
        }
    }
    if let Some(tuple) = tuple(text, language, gold, depth) {
        return tuple;
    }
    let squeezed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let words = squeezed.chars().all(char::is_alphabetic) && squeezed.chars().count() > 2;
    Answer::Text(if words { squeezed.to_lowercase() } else { squeezed })
}

const UNLIKE: [&str; 26] = [
    "pi", "i", "e", "million", "millions", "thousand", "billion", "trillion", "hundred", "dozen", "dozens", "half",
    "triệu", "nghìn", "ngàn", "tỷ", "tỉ", "trăm", "k", "or", "and", "to", "hoặc", "và", "x", "sqrt",
];

fn letter(text: &str) -> Option<char> {
    let text = text.trim();
    let inner = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(text);
    let inner = inner.trim().trim_end_matches(['.', ')']);
    match inner.chars().collect::<Vec<char>>()[..] {
        [letter @ 'A'..='Z'] => Some(letter),
        _ => None,
    }
}

/// The values that a text may have as a number: one, but in Vietnamese a dot before three digits may be either sign.
fn numbers(text: &str, language: &str, gold: bool) -> Vec<Exact> {
    let text = text.trim().trim_end_matches(['%', '°']).trim();
    if text.is_empty() || !text.contains(|c: char| c.is_ascii_digit()) {
        return Vec::new();
    }
    let grouped = |text: &str, mark: char| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let mut groups = digits.split(mark);
        let is_digits = |group: &str| group.bytes().all(|b| b.is_ascii_digit());
        let first = groups.next().is_some_and(|group| (1..=3).contains(&group.len()) && is_digits(group));
        let rest: Vec<&str> = groups.collect();
        first && !rest.is_empty() && rest.iter().all(|group| group.len() == 3 && is_digits(group))
    };
    let mut found = Vec::new();
    if grouped(text, ' ') {
        found.extend(latex::value(&text.replace(' ', "")));
    } else if language == "vi" {
        let (whole, fraction) = text.split_once(',').unwrap_or((text, ""));
        let thousands = grouped(whole, '.');
        if thousands || text.matches(',').count() == 1 && !text.contains('.') {
            let whole = if thousands { whole.replace('.', "") } else { whole.to_owned() };
            let text = if fraction.is_empty() { whole } else { format!("{whole}.{fraction}") };
            found.extend(latex::value(&text));
        }
        if found.is_empty() || !gold && thousands {
            found.extend(latex::value(text));
        }
    } else {
        found.extend(latex::value(text));
    }
    found
}

fn tuple(text: &str, language: &str, gold: bool, depth: u32) -> Option<Answer> {
    if depth > 3 {
        return None;
    }
    let open = text.chars().next().filter(|c| matches!(c, '(' | '['));
    let close = text.chars().next_back().filter(|c| matches!(c, ')' | ']'));
    let (open, close, inner) = match (open, close) {
        (Some(open), Some(close)) => (Some(open), Some(close), text.get(1..text.len() - 1)?),
        _ => (None, None, text),
    };
    let separator = if inner.contains(';') { ';' } else { ',' };
    let (mut parts, mut level, mut from) = (Vec::new(), 0i32, 0);
    for (at, character) in inner.char_indices() {
        match character {
            '(' | '[' | '{' => level += 1,
            ')' | ']' | '}' => level -= 1,
            c if c == separator && level == 0 => {
                parts.push(&inner[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[from..]);
    if parts.len() < 2 || parts.len() > 64 || level != 0 {
        return None;
    }
    Some(Answer::Tuple(open, parts.iter().map(|part| read_plain(part, language, gold, depth + 1)).collect(), close))
}

fn same(gold: &Answer, found: &Answer) -> bool {
    match (gold, found) {
        (Answer::Number(a, a_unit), Answer::Number(b, b_unit)) => {
            let units = a_unit.is_empty() || b_unit.is_empty() || singular(a_unit) == singular(b_unit);
            units && a.iter().any(|value| b.contains(value))
        }
        (Answer::Tuple(o1, a, c1), Answer::Tuple(o2, b, c2)) => {
            o1 == o2 && c1 == c2 && a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Answer::Named(a_name, a), Answer::Named(b_name, b)) => a_name == b_name && same(a, b),
        (Answer::Number(..), Answer::Named(_, b)) => same(gold, b),
        (Answer::Named(_, a), Answer::Number(..)) => same(a, found),
        (a, b) => a == b && *a != Answer::Text(String::new()),
    }
}

fn singular(unit: &str) -> String {
    unit.split_whitespace().map(|word| word.strip_suffix('s').unwrap_or(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
