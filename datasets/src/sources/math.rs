//! MATH (Hendrycks et al. 2021): `problem`, `solution`, `level`, `type`; the answer stands in the solution's last box.
//! Where the problem asks for several (`separated by commas`, `all possible values`) all boxes that differ are the answer:
//! solutions box each of them.
//!
//! It travels as one JSON document a problem in a tree of folders, and as JSON Lines or Parquet with a few more fields
//! (`unique_id`, `subject`). A field `answer` is not read: published copies cut it at the first brace. EXECUTE is the
//! solution itself, without drawings; the box is opened, its content stays.

use serde_json::{Map, Value};

use super::reasons::{Reason, Refusal};
use super::{At, text};
use crate::arithmetic::calculation;
use crate::compose::{self, Problem};
use crate::trajectory::Trajectory;

/// Changes when the same bytes would become other trajectories.
pub const VERSION: &str = "math-5";

/// A record.
pub fn convert(record: &Value, at: &At<'_>) -> Result<Trajectory, Refusal> {
    let question = text(record, "problem")?.trim();
    let solution = text(record, "solution")?;
    let (last, boxes) = last_box(solution)?;
    let several = if boxes > 1 { separator(question).map(|between| all_boxes(solution, between)) } else { None };
    let answer = several.as_deref().unwrap_or(last);
    let execute = without_drawings(&without_boxes(solution));
    let mut meta = Map::new();
    for name in ["level", "type", "subject", "unique_id"] {
        if let Some(Value::String(value)) = record.get(name) {
            meta.insert(name.to_owned(), value.clone().into());
        }
    }
    if boxes > 1 {
        meta.insert("boxes".to_owned(), boxes.into());
    }
    let sums = calculation::find_in(&execute, "en");
    let exact = compose::reaches(&sums, answer, "en");
    let id = at.id();
    let problem =
        Problem { id: &id, source: "math", split: at.split, question, language: "en", answer, exact, meta: &meta };
    compose::prose(&problem, &execute, &sums).map_err(|error| Reason::NotComposable.because(error.to_string()))
}

/// The content of the last box without a full stop or blanks at its end, and how many boxes there are.
pub fn last_box(solution: &str) -> Result<(&str, usize), Refusal> {
    let starts: Vec<usize> = boxes(solution).map(|(at, _)| at).collect();
    let (Some(at), count) = (starts.last(), starts.len()) else {
        return Err(Reason::NoBox.because("no `\\boxed` in the solution"));
    };
    let inner = boxes(solution).last().and_then(|(_, inner)| inner);
    let inner = inner.ok_or_else(|| Reason::OpenBox.because(format!("byte {at} of the solution")))?;
    let answer = cleaned(&solution[inner]);
    if answer.is_empty() {
        return Err(Reason::EmptyBox.because(format!("byte {at} of the solution")));
    }
    Ok((answer, count))
}

fn cleaned(content: &str) -> &str {
    content.trim().trim_end_matches(['.', ' ']).trim()
}

/// What stands between the answers of a problem that asks for several.
fn separator(question: &str) -> Option<&'static str> {
    let asks = question.contains("separated by") || question.contains("all possible");
    asks.then_some(if question.contains("semicolon") { "; " } else { ", " })
}

/// The contents of all boxes, each once.
fn all_boxes(solution: &str, between: &str) -> String {
    let mut contents: Vec<&str> = Vec::new();
    let mut end = 0;
    for (_, inner) in boxes(solution).filter_map(|(at, inner)| Some((at, inner?))) {
        let content = cleaned(&solution[inner.clone()]);
        // A box in a box is a part of its content.
        if inner.start >= end && !content.is_empty() && !contents.contains(&content) {
            contents.push(content);
        }
        end = end.max(inner.end);
    }
    contents.join(between)
}

/// Each box: where its command begins, and the range of its content if its braces close.
fn boxes(text: &str) -> impl Iterator<Item = (usize, Option<std::ops::Range<usize>>)> + '_ {
    let starts = text.match_indices("\\boxed").map(|(at, name)| (at, name.len()));
    let framed = text.match_indices("\\fbox").map(|(at, name)| (at, name.len()));
    let mut all: Vec<(usize, usize)> = starts.chain(framed).collect();
    all.sort_unstable();
    all.into_iter().map(move |(at, length)| (at, content(text, at + length)))
}

/// `{…}` with matched braces (`\{` is none), or what stands up to `$` or a blank: `\boxed 2$`.
fn content(text: &str, from: usize) -> Option<std::ops::Range<usize>> {
    let rest = &text[from..];
    let start = from + rest.len() - rest.trim_start().len();
    let rest = &text[start..];
    if !rest.starts_with('{') {
        let length = rest.find(|c: char| c == '$' || c.is_whitespace()).unwrap_or(rest.len());
        return (length > 0).then_some(start..start + length);
    }
    let (mut depth, mut escaped) = (0usize, false);
    for (at, byte) in rest.bytes().enumerate() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match byte {
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(start + 1..start + at);
        }
    }
    None
}

/// The text with each box replaced by its content.
fn without_boxes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut from = 0;
    for (at, inner) in boxes(text) {
        let Some(inner) = inner.filter(|_| at >= from) else { continue };
        plain.push_str(&text[from..at]);
        plain.push_str(&text[inner.clone()]);
        from = inner.end + usize::from(text[inner.end..].starts_with('}'));
    }
    plain.push_str(&text[from..]);
    plain
}

/// Without `[asy]…[/asy]` and blank lines.
fn without_drawings(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, drawing)) = rest.split_once("[asy]") {
        plain.push_str(before);
        rest = drawing.split_once("[/asy]").map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    let lines = plain.lines().map(str::trim_end).filter(|line| !line.trim().is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_box_counts_and_braces_are_matched() {
        let cases = [
            (r"so $\boxed{\frac{1}{2}}$.", Ok(r"\frac{1}{2}")),
            (r"$\boxed{1}$ and $\boxed{2.}$", Ok("2")),
            (r"$\boxed 2$", Ok("2")),
            (r"$\fbox{7}$", Ok("7")),
            (r"$\boxed{\{1, 2\}}$", Ok(r"\{1, 2\}")),
            (r"$\boxed{\frac{1}{2}$", Err(Reason::OpenBox)),
            (r"$\boxed{ }$", Err(Reason::EmptyBox)),
            ("none", Err(Reason::NoBox)),
        ];
        for (solution, expected) in cases {
            let found = last_box(solution).map(|(answer, _)| answer).map_err(|refusal| refusal.reason);
            assert_eq!(found, expected, "{solution}");
        }
    }

    #[test]
    fn a_problem_that_asks_for_several_has_all_boxes_as_its_answer() {
        let answer = |problem: &str, solution: &str| {
            let at = At { prefix: "math/train", split: "train", index: 3, name: None };
            convert(&serde_json::json!({"problem": problem, "solution": solution}), &at).unwrap().answer
        };
        let two = r"So $\boxed{12.}$ and $\boxed{18}$ do. Or: $\boxed{18}$ and $\boxed{12}$.";
        assert_eq!(answer("Enter the two smallest, separated by commas.", two), "12, 18");
        assert_eq!(
            answer("List the points, separated by semicolons.", r"$\boxed{(0,1)}$, $\boxed{(2,3)}$"),
            "(0,1); (2,3)"
        );
        assert_eq!(answer("Find all possible values.", r"$\boxed{\{\boxed{1}, 2\}}$"), r"\{\boxed{1}, 2\}");
        assert_eq!(answer("Find the larger one.", two), "12");
    }

    #[test]
    fn a_record_becomes_a_trajectory() {
        let record = serde_json::json!({
            "problem": "What is $3 \\cdot 4 + 1$?\n", "level": "Level ?", "type": "Prealgebra",
            "solution": "[asy]draw(a);[/asy]\n\nFirst $3 \\cdot 4 = 12$, so $12 + 1 = \\boxed{13}$."
        });
        let at = At { prefix: "math/train", split: "train", index: 3, name: None };
        let made = convert(&record, &at).unwrap();
        assert_eq!((made.id.as_str(), made.answer.as_str()), ("math/train/3", "13"));
        assert_eq!(made.execute, "First $3 \\cdot 4 = 12$, so $12 + 1 = 13$.");
        assert!(made.meta.contains("\"exact\":true") && made.meta.contains("Level ?"), "{}", made.meta);
    }
}
