//! VNHSGE, mathematics: a JSON array of `ID, Image_Question, Question, Choice, Image_Answer, Explanation`, Vietnamese text
//! with LaTeX, four options in the question's text, a letter as key.
//!
//! The letter comes from `Choice` alone: explanations mention wrong options on the way. Options are lines that begin with
//! `A.` to `D.` in this order (`S.ABCD` in the text is none); a fifth line that repeats a letter says it again in other
//! writing and is left out. What needs an image cannot be solved from the text and is refused.

use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;

use super::reasons::{Reason, Refusal};
use super::{At, text};
use crate::arithmetic::calculation;
use crate::compose::{self, Problem};
use crate::trajectory::Trajectory;

/// Changes when the same bytes would become other trajectories.
pub const VERSION: &str = "vnhsge-4";
const LETTERS: [&str; 4] = ["A", "B", "C", "D"];
/// Words that point at a picture which no field names.
const PICTURE: [&str; 4] = ["hình bên", "hình vẽ", "hình dưới", "như hình"];

/// A record.
pub fn convert(record: &Value, at: &At<'_>) -> Result<Trajectory, Refusal> {
    let question: String = text(record, "Question")?.nfc().collect();
    let explanation: String = text(record, "Explanation")?.nfc().collect();
    let key = text(record, "Choice")?.trim().trim_end_matches('.').to_uppercase();
    if !LETTERS.contains(&key.as_str()) {
        return Err(Reason::BadKey.because(format!("`{}`", key.chars().take(20).collect::<String>())));
    }
    for field in ["Image_Question", "Image_Answer"] {
        if record.get(field).and_then(Value::as_str).is_some_and(|image| !image.trim().is_empty()) {
            return Err(Reason::NeedsImage.because(format!("`{field}`")));
        }
    }
    let (stem, options) = options(&question)?;
    let lower = stem.to_lowercase();
    if let Some(word) = PICTURE.iter().find(|word| lower.contains(**word)) {
        return Err(Reason::NeedsImage.because(format!("the question says `{word}`")));
    }
    let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '$' | '.')).collect::<String>();
    let right = LETTERS.iter().position(|letter| *letter == key).unwrap_or_default();
    let twins = options.iter().filter(|option| bare(option) == bare(&options[right])).count();
    if twins > 1 {
        return Err(Reason::EqualOptions.because(key));
    }
    let lines = LETTERS.iter().zip(&options).map(|(letter, option)| format!("\n{letter}. {option}"));
    let question = stem + &lines.collect::<String>();
    let lines = explanation.lines().map(tidy).filter(|line| !line.is_empty());
    let execute = lines.collect::<Vec<_>>().join("\n");
    let mut meta = Map::new();
    meta.insert("id".to_owned(), record.get("ID").cloned().unwrap_or_default());
    let sums = calculation::find_in(&execute, "vi");
    let exact = compose::reaches(&sums, &options[right], "vi");
    let (id, split) = (at.id(), at.split);
    let problem = Problem {
        id: &id,
        source: "vnhsge",
        split,
        question: &question,
        language: "vi",
        answer: &key,
        exact,
        meta: &meta,
    };
    compose::prose(&problem, &execute, &sums).map_err(|error| Reason::NotComposable.because(error.to_string()))
}

/// Blanks of all kinds to one, none at the ends.
fn tidy(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The question without `Câu 1)` and options, and the four options.
fn options(question: &str) -> Result<(String, Vec<String>), Refusal> {
    let mut stem: Vec<String> = Vec::new();
    let mut options: Vec<String> = Vec::new();
    for line in question.lines().map(tidy).filter(|line| !line.is_empty()) {
        let labelled = line.split_once('.').filter(|(label, _)| LETTERS.contains(label));
        match labelled {
            Some((label, option)) if LETTERS.get(options.len()) == Some(&label) => {
                options.push(option.trim().trim_end_matches('.').to_owned());
            }
            Some((label, _)) if LETTERS[..options.len()].contains(&label) => {}
            _ => match options.last_mut() {
                None => stem.push(line),
                Some(option) => {
                    option.push(' ');
                    option.push_str(&line);
                }
            },
        }
    }
    if options.len() != LETTERS.len() || options.iter().any(String::is_empty) {
        return Err(Reason::NoOptions.because(format!("{} of 4 options", options.len())));
    }
    let stem = stem.join("\n");
    let stem = without_label(&stem).trim().to_owned();
    if stem.is_empty() {
        return Err(Reason::EmptyField.because("`Question` holds options only"));
    }
    Ok((stem, options))
}

/// Without `Câu 12)`, `Câu 12.`, `Câu 12:`.
fn without_label(stem: &str) -> &str {
    let Some(rest) = stem.strip_prefix("Câu").map(str::trim_start) else { return stem };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    match rest[digits..].trim_start().strip_prefix([')', '.', ':']) {
        Some(rest) if digits > 0 => rest,
        _ => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(extra: Value) -> Value {
        let mut record = json!({
            "ID": "OWN_1", "Image_Question": "", "Image_Answer": "", "Choice": "B",
            "Question": "Câu 1) Giá 2,5 đồng một cái. Giá 4 cái bằng:\nA. 8. \nB.\u{a0}10.\t\nC. 6.   \nD. 12.",
            "Explanation": "Giá là 2,5.4=10 đồng."
        });
        for (key, value) in extra.as_object().unwrap() {
            record[key] = value.clone();
        }
        record
    }

    fn converted(extra: Value) -> Result<Trajectory, Refusal> {
        convert(&record(extra), &At { prefix: "vnhsge/2019", split: "2019", index: 0, name: None })
    }

    #[test]
    fn a_question_keeps_its_options_and_loses_its_number() {
        let made = converted(json!({})).unwrap();
        assert_eq!(made.question, "Giá 2,5 đồng một cái. Giá 4 cái bằng:\nA. 8\nB. 10\nC. 6\nD. 12");
        assert_eq!((made.answer.as_str(), made.language.as_str()), ("B", "vi"));
        assert!(made.verify.starts_with("1. 10 / 4 = 2,5\n"), "{}", made.verify);
        assert!(made.meta.contains("\"exact\":true"));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let cases = [
            (json!({ "Image_Question": "a.png" }), Reason::NeedsImage),
            (json!({ "Question": "Cho hình vẽ.\nA. 1\nB. 2\nC. 3\nD. 4" }), Reason::NeedsImage),
            (json!({ "Choice": "E" }), Reason::BadKey),
            (json!({ "Question": "Câu 2: x?\nA. 1\nB. 2\nC. 3" }), Reason::NoOptions),
            (json!({ "Question": "Câu 2: x?\nA. 1\nB. 2\nC. 3\nD. 2." }), Reason::EqualOptions),
            (json!({ "Explanation": "" }), Reason::EmptyField),
        ];
        for (extra, expected) in cases {
            assert_eq!(converted(extra.clone()).unwrap_err().reason, expected, "{extra}");
        }
        let repeated = json!({ "Question": "Câu 2. Chóp S.ABCD?\nA. 1\nB. 10\nC. 3\nD. $5$\nD. 5" });
        assert_eq!(converted(repeated).unwrap().question, "Chóp S.ABCD?\nA. 1\nB. 10\nC. 3\nD. $5$");
    }
}
