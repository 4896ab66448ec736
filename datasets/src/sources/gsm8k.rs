//! GSM8K (MIT): JSON Lines `{"question", "answer"}`; the answer's lines carry calculator annotations `<<48/2=24>>`
//! and end in `#### 72`.
//!
//! Annotations are evaluated exactly; a wrong one is reported, never corrected. Where the last annotation is the final
//! answer the derivation is *exact* (`meta`). Else the sums that stand in prose are read too, up to the one that makes
//! the final answer. A row whose answer no sum makes is rejected: four honest stages cannot be written from it.

use std::collections::BTreeSet;
use std::io::BufRead;

use serde_json::Value;

use super::lines::{LINE_MAX, Line, Lines};
use super::{Parsed, Reject};
use crate::arithmetic::{Expression, Operator, Stated, calculation, number};
use crate::compose::{self, Problem};
use crate::split::problem_key;
use crate::trajectory::Trajectory;

/// Changes when the same bytes would become other trajectories.
pub const VERSION: &str = "gsm8k-1";
/// Snippets of rejects are this long at most, in bytes.
const SNIPPET_MAX: usize = 80;

/// A reason code with its detail.
type Refusal = (&'static str, String);

/// Reads a whole file. `name` is said in rejects; `split` becomes part of the ids (`gsm8k/train/17`, rows from 0).
/// Errors are those of reading; no content is one.
pub fn parse(reader: impl BufRead, name: &str, split: &str) -> std::io::Result<Parsed> {
    let mut parsed = Parsed::default();
    let mut lines = Lines::new(reader);
    let mut seen = BTreeSet::new();
    while let Some(line) = lines.next_line()? {
        parsed.counts.read += 1;
        match record(&line, split) {
            Ok(trajectory) if !seen.insert(problem_key(&trajectory.question)) => parsed.counts.duplicates += 1,
            Ok(trajectory) => {
                parsed.counts.kept += 1;
                parsed.trajectories.push(trajectory);
            }
            Err((reason, detail)) => {
                *parsed.counts.rejected.entry(reason).or_default() += 1;
                let end = line.bytes.len().min(SNIPPET_MAX);
                let snippet = String::from_utf8_lossy(&line.bytes[..end]).into_owned();
                let (source, line, byte) = (name.to_owned(), line.number, line.byte);
                parsed.rejects.push(Reject { source, line, byte, reason, detail, snippet });
            }
        }
    }
    parsed.hash = lines.hash();
    Ok(parsed)
}

fn record(line: &Line, split: &str) -> Result<Trajectory, Refusal> {
    if line.length > LINE_MAX as u64 {
        return Err(("line_too_long", format!("{} bytes, {LINE_MAX} are the limit", line.length)));
    }
    let mut bytes = line.bytes.as_slice();
    if line.number == 1 {
        bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| ("not_utf8", format!("byte {} of the line", error.valid_up_to())))?;
    if text.trim().is_empty() {
        return Err(("blank_line", "no record on this line".to_owned()));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let cut = error.is_eof() && !line.ended;
        (if cut { "truncated" } else { "not_json" }, error.to_string())
    })?;
    let question = field(&value, "question")?;
    let answer = field(&value, "answer")?;
    trajectory(question.trim(), answer, &format!("gsm8k/{split}/{}", line.number - 1), split)
}

fn field<'a>(value: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    let text = match value.get(name) {
        None => return Err(("missing_field", format!("no field `{name}`"))),
        Some(Value::String(text)) => text,
        Some(_) => return Err(("not_a_string", format!("field `{name}` is no string"))),
    };
    if text.contains('\0') {
        return Err(("nul", format!("field `{name}` holds a NUL character")));
    }
    if text.trim().is_empty() {
        return Err(("empty_field", format!("field `{name}` is empty")));
    }
    Ok(text)
}

/// One row as a trajectory.
pub fn trajectory(question: &str, answer: &str, id: &str, split: &str) -> Result<Trajectory, Refusal> {
    let (solution, last) = answer.rsplit_once("####").ok_or(("no_final_answer", "no `####`".to_owned()))?;
    let digits = last.trim().trim_start_matches('$').replace(',', "");
    let value = number::parse(&digits).ok_or_else(|| {
        ("final_answer_is_no_number", format!("`{}`", last.trim().chars().take(40).collect::<String>()))
    })?;
    let annotations = annotations(solution)?;
    let has_annotations = !annotations.is_empty();
    let mut exact = true;
    let mut calculations: Vec<Stated> = annotations.into_iter().filter(|a| a.expression.operators() > 0).collect();
    if calculations.last().is_none_or(|last| last.value != value) {
        exact = false;
        calculations = with_prose(solution, &value, question).ok_or_else(|| {
            let reason = if has_annotations { "answer_not_derived" } else { "no_annotation_and_answer_not_derived" };
            (reason, format!("no sum of the solution makes {}", number::decimal(&value)))
        })?;
    }
    calculations.dedup_by(|a, b| a.value == b.value && a.expression == b.expression);
    let answer = number::decimal(&value);
    compose::compose(
        &Problem { id, source: "gsm8k", split, question, language: "en", answer: &answer, exact },
        &calculations,
    )
    .map_err(|error| ("not_composable", error.to_string()))
}

/// The annotations in order, each checked. `range` is in bytes of `solution`.
pub fn annotations(solution: &str) -> Result<Vec<Stated>, Refusal> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = solution[from..].find("<<").map(|at| from + at) {
        let end = solution[at..].find(">>").map(|length| at + length);
        let end = end.ok_or_else(|| ("open_annotation", format!("byte {at} of the answer: `<<` without `>>`")))?;
        let inner = &solution[at + 2..end];
        let bad = |why: String| ("bad_annotation", format!("byte {at} of the answer: `{inner}`: {why}"));
        let (expression, result) = inner.rsplit_once('=').ok_or_else(|| bad("no `=`".to_owned()))?;
        let expression = Expression::parse(expression).map_err(|error| bad(error.to_string()))?;
        let value =
            Expression::parse(result).and_then(|value| value.value()).map_err(|error| bad(error.to_string()))?;
        let makes = expression.value().map_err(|error| bad(error.to_string()))?;
        if makes != value {
            let detail = format!("byte {at} of the answer: `{inner}` makes {}", number::decimal(&makes));
            return Err(("wrong_annotation", detail));
        }
        found.push(Stated { expression, value, range: at..end + 2 });
        from = end + 2;
    }
    Ok(found)
}

/// All true sums of a solution, annotated or in prose, up to the last one that makes `wanted`: first as they stand, then
/// with the words between the numbers and percent signs left out (`8 feet / 50 feet * 100% = 16%`). If none makes it, a
/// last step times 100 may: percent and cents.
fn with_prose(solution: &str, wanted: &number::Exact, question: &str) -> Option<Vec<Stated>> {
    for wordless in [false, true] {
        let mut all = sums(solution, wordless)?;
        if let Some(last) = all.iter().rposition(|stated| stated.value == *wanted) {
            all.truncate(last + 1);
            return Some(all);
        }
        if let Some(step) = times_hundred(&all, wanted, question) {
            all.push(step);
            return Some(all);
        }
    }
    None
}

/// A sum in prose that an annotation of the same line repeats counts once.
fn sums(solution: &str, wordless: bool) -> Option<Vec<Stated>> {
    let mut all: Vec<Stated> = Vec::new();
    for line in solution.split('\n') {
        let mut of_line = annotations(line).ok()?;
        of_line.retain(|annotation| annotation.expression.operators() > 0);
        let (mut plain, places) = without_annotations(line);
        if wordless {
            plain = without_words(&plain);
        }
        for mut stated in calculation::find(&plain).into_iter().filter(Stated::holds) {
            let at = places.get(stated.range.start).copied().unwrap_or_default();
            stated.range = at..at;
            if of_line.iter().all(|other| other.value != stated.value) {
                of_line.push(stated);
            }
        }
        of_line.sort_by_key(|stated| stated.range.start);
        all.extend(of_line);
    }
    Some(all)
}

/// Words, percent signs and all else that is not ASCII become spaces, byte for byte.
fn without_words(line: &str) -> String {
    let keep = |byte: u8| byte.is_ascii() && !byte.is_ascii_alphabetic() && byte != b'%';
    line.bytes().map(|byte| if keep(byte) { char::from(byte) } else { ' ' }).collect()
}

fn times_hundred(all: &[Stated], wanted: &number::Exact, question: &str) -> Option<Stated> {
    let percent = question.contains('%') || question.contains("percent") || question.contains("cent");
    let (last, hundred) = (all.last()?.value.clone(), number::hundred());
    if !percent || &last * &hundred != *wanted {
        return None;
    }
    let [left, right] = [last, hundred].map(|value| Box::new(Expression::Number(value)));
    let expression = Expression::Binary(Operator::Multiply, left, right);
    Some(Stated { expression, value: wanted.clone(), range: 0..0 })
}

/// The line without its annotations, and where each of its bytes was.
fn without_annotations(line: &str) -> (String, Vec<usize>) {
    let (mut plain, mut places) = (String::with_capacity(line.len()), Vec::with_capacity(line.len()));
    let mut from = 0;
    while from < line.len() {
        let start = line[from..].find("<<").map_or(line.len(), |at| from + at);
        plain.push_str(&line[from..start]);
        places.extend(from..start);
        from = line[start..].find(">>").map_or(line.len(), |at| start + at + 2);
    }
    (plain, places)
}

#[cfg(test)]
mod tests;
