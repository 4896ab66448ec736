//! Words in answers: functions, connectors, number words in English and Vietnamese.

use super::tokens::{Placed, Token};
use super::units;
use crate::arithmetic::{Exact, words};

const FUNCTIONS: [&str; 26] = [
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "asin", "acos", "atan", "sinh", "cosh",
    "tanh", "log", "ln", "lg", "exp", "gcd", "lcm", "max", "min", "floor", "ceil", "abs",
];

/// Whether a name is that of a function.
pub(super) fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

/// What a run of letters is. In prose (`\text{}`) several letters are a word; elsewhere short runs are products.
pub(super) fn classify(run: &str, prose: bool, after_number: bool) -> Vec<Token> {
    let letters = run.chars().count();
    if letters == 1 {
        let ideograph = run.chars().all(|c| c as u32 >= 0x2e80);
        if ideograph {
            return vec![Token::Word(run.to_owned())];
        }
        return vec![Token::Name(run.to_owned())];
    }
    let word = match run.to_lowercase().as_str() {
        "and" | "và" | "und" | "et" => Token::Connector(false),
        "or" | "hoặc" | "hay" => Token::Connector(true),
        "per" | "sq" => Token::Word(run.to_owned()),
        // `15 min` is no minimum.
        _ if (prose || after_number) && units::is_known(run) => Token::Word(run.to_owned()),
        "pi" if !prose => Token::Name("π".to_owned()),
        "infty" | "infinity" | "inf" | "oo" => Token::Infinity,
        "sqrt" => Token::Root,
        _ if is_function(run) => Token::Function(run.to_owned()),
        _ if prose => Token::Word(run.to_owned()),
        // A segment or an angle: `AB`, `ABC`.
        _ if letters <= 4 && run.chars().all(|c| c.is_ascii_uppercase()) => Token::Name(run.to_owned()),
        _ => match split_connector(run).filter(|_| after_number) {
            Some(tokens) => return tokens,
            None if letters <= 3 && run.chars().all(|c| c.is_ascii_alphabetic()) => {
                return run.chars().map(|c| Token::Name(c.to_string())).collect();
            }
            None => Token::Word(run.to_owned()),
        },
    };
    vec![word]
}

/// `1orW` lost its spaces: a connector with one letter after it.
fn split_connector(run: &str) -> Option<Vec<Token>> {
    let (word, or) = [("or", true), ("and", false)].into_iter().find(|(word, _)| run.starts_with(word))?;
    let rest = run.get(word.len()..)?;
    (rest.len() == 1).then(|| vec![Token::Connector(or), Token::Name(rest.to_owned())])
}

const VIETNAMESE: [(&str, i64); 19] = [
    ("không", 0),
    ("một", 1),
    ("mốt", 1),
    ("hai", 2),
    ("ba", 3),
    ("bốn", 4),
    ("tư", 4),
    ("năm", 5),
    ("lăm", 5),
    ("sáu", 6),
    ("bảy", 7),
    ("bẩy", 7),
    ("tám", 8),
    ("chín", 9),
    ("mười", 10),
    ("mươi", 10),
    ("trăm", 100),
    ("nghìn", 1000),
    ("ngàn", 1000),
];

fn in_vietnamese(word: &str) -> Option<i64> {
    VIETNAMESE.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
}

/// The letters of an answer that is nothing but words, joined by spaces; in lower case, unless they are initials.
pub(super) fn spelled(tokens: &[Placed]) -> Option<String> {
    let (mut words, mut begins) = (String::new(), true);
    for Placed { token, spaced } in tokens {
        let word = match token {
            Token::Word(word) => word.as_str(),
            Token::Name(name) if name.chars().all(char::is_alphabetic) && name != "π" => name.as_str(),
            Token::Connector(or) => {
                if *or {
                    "or"
                } else {
                    "and"
                }
            }
            Token::Mark('-') if !begins => " ",
            _ => return None,
        };
        if *spaced && !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
        begins = false;
    }
    let initials = words.chars().all(|c| c.is_ascii_uppercase()) && words.len() <= 4;
    let single = words.split_whitespace().all(|word| word.chars().count() == 1);
    let text = if initials || single { words.clone() } else { words.to_lowercase() };
    let spaced_letters = single && words.contains(' ');
    (!text.is_empty() && !spaced_letters).then_some(text)
}

/// A small number word alone: `six`.
pub(super) fn small(word: &str) -> Option<u32> {
    words::whole(word.trim()).filter(|value| *value <= 36).and_then(|value| value.try_into().ok())
}

/// The number that words make: `twenty-one`, `hai mươi lăm`. None for anything else.
pub(super) fn number(text: &str, vietnamese: bool) -> Option<Exact> {
    let text = text.trim().trim_end_matches('.').to_lowercase().replace('-', " ");
    let (mut total, mut part, mut last) = (0u64, 0u64, u64::MAX);
    let words: Vec<&str> =
        text.split_whitespace().filter(|word| *word != "and" && *word != "linh" && *word != "lẻ").collect();
    if words.is_empty() || words.len() > 12 {
        return None;
    }
    for word in words {
        let named = if vietnamese { in_vietnamese(word) } else { words::whole(word) };
        let value = u64::try_from(named?).ok()?;
        match (word, value) {
            (_, 1000) => {
                total += part.max(1) * 1000;
                (part, last) = (0, 1000);
            }
            (_, 100) => {
                (part, last) = (part.max(1) * 100, 100);
            }
            ("mươi", _) if (2..=9).contains(&(part % 10)) => {
                (part, last) = (part - part % 10 + part % 10 * 10, 10);
            }
            // A unit follows tens, tens follow hundreds: `two three` is no number.
            (_, value) if value < last && (last != 10 || value < 10) && (value < 10 || last >= 100) => {
                (part, last) = (part + value, if value >= 20 || value == 10 && vietnamese { 10 } else { value.min(1) });
            }
            _ => return None,
        }
    }
    Some(Exact::from_integer((total + part).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_words_have_their_value() {
        let cases = [
            ("seven", false, Some(7u64)),
            ("Twenty-one", false, Some(21)),
            ("three hundred and five", false, Some(305)),
            ("two thousand forty", false, Some(2040)),
            ("two three", false, None),
            ("even", false, None),
            ("", false, None),
            ("hai mươi lăm", true, Some(25)),
            ("mười hai", true, Some(12)),
            ("một trăm linh năm", true, Some(105)),
            ("ba nghìn", true, Some(3000)),
            ("một hai", true, None),
        ];
        for (text, vietnamese, expected) in cases {
            assert_eq!(number(text, vietnamese), expected.map(|n| Exact::from_integer(n.into())), "{text}");
        }
    }
}
