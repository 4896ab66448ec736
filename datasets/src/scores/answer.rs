//! Final answers: reading them from a text, and whether two mean the same.
//!
//! In doubt two answers are *not* equal: a false equal flatters a model, a missed one only hides its merit. Equality of
//! numbers and expressions is exact: both are brought to quotients of polynomials over roots of primes, π, e, i,
//! variables and functions of such, and multiplied out. Floats serve for the order of interval ends and for signs only.
//!
//! An answer goes `text` (one writing) → `tokens` (with `numeral`, `words`, `macros`) → `parse` → `structure` (its
//! kind) → `compare` (with `value`, `fraction`, `polynomial`, `spans`, `units`). What none of them understands is
//! compared as text. Everything is bounded: length, depth, terms, digits, steps.
//!
//! Policies, where graders differ:
//! - **Units** may be left out on one side, never contradict (`5 cm` is `5` and `50 mm`, not `5 m`). Number words are
//!   part of the number (`5 million` is not 5). Currencies are units, with cents.
//! - **Percent and degree signs** may be left out too, and count with their value: `25%` is `25` and `1/4`, `60°` is `60`
//!   and `π/3`. Two percentages are compared as such.
//! - **No tolerance**, but one: a decimal of ten digits or more may stand for a number that has no finite decimal.
//! - **Order**: tuples, vectors and matrices have one; sets, values joined by `or` and the values of one name (`x = 1, 2`)
//!   have none. A bare gold list is one of all solutions, in any order, unless its numbers neither rise nor fall (`0.1, 4,
//!   2`): then they stand in the order that the question asks for. Lists count repeats, sets do not.
//! - **Names** (`x =`, `f(x) =`, `AB =`, `x ∈`) may be left out on one side; two different ones are not equal. Values of
//!   several names are then taken in order. An equation that names nothing (`2x + z = 1`) is not its right side.
//! - **Equations** are equal up to a factor, inequalities up to a positive one. A gold inequality accepts its solution
//!   set; a gold set does not accept an inequality.
//! - **Brackets** of intervals count, at infinity too. A tuple is no set.
//! - Bases (`10000_2` is `16`), ratios (`3:4` is `3/4`), unreduced fractions, repeating decimals: by value.
//! - A decimal comma is read in Vietnamese; in English only where it can be nothing else (`0,25`).

mod compare;
mod extract;
mod fraction;
mod macros;
mod node;
mod numeral;
mod parse;
mod polynomial;
mod spans;
mod structure;
mod text;
mod tokens;
mod units;
mod value;
mod words;

use node::Node;
use polynomial::Field;
use structure::Answer;
use tokens::{Reading, Token};

/// Of longer texts the end is read.
pub const TEXT_MAX: usize = 40_000;

/// Whether `prediction` means the same as `gold`. `language` (`en`, `vi`) decides what a comma between digits is.
///
/// `prediction` may be a bare answer or a text that holds one. Never panics; long texts are bounded.
pub fn equal(gold: &str, prediction: &str, language: &str) -> bool {
    if gold.trim().is_empty() || prediction.trim().is_empty() || gold.len() > TEXT_MAX {
        return false;
    }
    let gold = extract::stated(gold, language).unwrap_or_else(|| gold.to_owned());
    let wanted = Written::read(&gold, language, false);
    let stated = extract::stated(prediction, language);
    let found = stated.as_deref().unwrap_or_else(|| extract::tail(prediction)).trim_matches(['*', '`', ' ', '\n']);
    if let Some(letter) = wanted.letter().or_else(|| extract::choice_letter(&gold)) {
        let named = Written::read(found, language, false).letter();
        let chosen = extract::chosen_letter(found).or_else(|| extract::chosen_letter(prediction));
        return named.or(chosen) == Some(letter);
    }
    let prose = extract::is_prose(found);
    if !prose || matches!(wanted.answer, Answer::Text(_)) {
        return wanted.means(found, language);
    }
    let last = extract::last(found, language);
    if last.as_deref().is_some_and(|text| wanted.means(text, language)) {
        return true;
    }
    // A structure is not to be overlooked for a number after it.
    let plain = matches!(wanted.answer, Answer::Value(Node::Number { .. }) | Answer::Measured(_));
    !plain && extract::last_formula(found).is_some_and(|(formula, _)| wanted.means(formula, language))
}

/// The answer that a text states: after `Final Answer:`, in the last `\boxed{}` (joined ones together), after `####`
/// (that is no stage's tag), after `the answer is`, `Answer:`, `Đáp số:`, `Đáp án`. None if it states none.
pub fn stated(text: &str, language: &str) -> Option<String> {
    extract::stated(text, language)
}

/// The answer in a text: [`stated`], else the last formula or number in it. Of a stated sentence its number is meant.
pub fn extract(text: &str, language: &str) -> Option<String> {
    let Some(found) = stated(text, language) else { return extract::last(extract::tail(text), language) };
    if extract::is_prose(&found) { extract::last(&found, language).or(Some(found)) } else { Some(found) }
}

/// An answer as it was read.
struct Written {
    answer: Answer,
    /// The second reading of a Vietnamese prediction, whose dot may be a decimal sign.
    other: Option<Answer>,
    /// The letters, if it is nothing but a word.
    word: Option<String>,
}

impl Written {
    fn read(text: &str, language: &str, both: bool) -> Self {
        let plain = text::plain(text.trim());
        let vietnamese = language == "vi";
        let reading = Reading { vietnamese, dot_is_decimal: false };
        let (answer, word) = Written::of(&plain, reading);
        let second = both && vietnamese && plain.contains('.');
        let other = second.then(|| Written::of(&plain, Reading { vietnamese, dot_is_decimal: true }).0);
        Written { answer, other, word }
    }

    fn of(plain: &str, reading: Reading) -> (Answer, Option<String>) {
        let Some(tokens) = tokens::read(plain, reading) else { return (Answer::Text(text::folded(plain)), None) };
        let word = words::spelled(&tokens);
        if let Some(value) = word.as_ref().and_then(|words| words::number(words, reading.vietnamese)) {
            return (Answer::Value(Node::Number { value, significant: 0 }), None);
        }
        let is_word = word.as_ref().is_some_and(|word| word.chars().count() > 2);
        let constant = tokens.len() == 1 && !matches!(tokens[0].token, Token::Word(_));
        if is_word && !constant {
            return (Answer::Text(word.clone().unwrap_or_default()), word);
        }
        match parse::parse(&tokens) {
            Some(node) => (structure::arrange(node), word),
            None => (Answer::Text(text::folded(plain)), word),
        }
    }

    /// The capital letter that it is.
    fn letter(&self) -> Option<char> {
        match &self.answer {
            Answer::Value(Node::Name(name)) => {
                name.chars().next().filter(|c| matches!(c, 'A'..='J') && name.len() == 1)
            }
            _ => None,
        }
    }

    fn means(&self, text: &str, language: &str) -> bool {
        let found = Written::read(text, language, true);
        if self.word.is_some() && self.word == found.word {
            return true;
        }
        let same = |answer| Field::default().same(&self.answer, answer);
        same(&found.answer) || found.other.as_ref().is_some_and(same)
    }
}

#[cfg(test)]
mod tests;
