//! GSM8K (MIT): JSON Lines `{"question", "answer"}`; the answer's lines carry calculator annotations `<<48/2=24>>`
//! and end in `#### 72`.
//!
//! Annotations are evaluated exactly; a wrong one is reported, never corrected. Where the last annotation is not the final
//! answer the sums that stand in prose are read too, up to the one that makes
//! the final answer. Where no sum makes it EXECUTE is the solution's own text, and VERIFY undoes the sums that are in it.
//! A row is *exact* (`meta`) where the last annotation is the final answer; where EXECUTE is prose `meta.annotations` has
//! the source's own.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::reasons::{Reason, Refusal};
use super::record::Record;
use super::{At, flat, text};
use crate::arithmetic::calculation::Room;
use crate::arithmetic::reading::{Reader, true_equation};
use crate::arithmetic::{Exact, Expression, Operator, Stated, calculation, number};
use crate::compose::{self, Problem};
use crate::trajectory::Trajectory;

/// Changes when the same bytes would become other trajectories.
pub const VERSION: &str = "gsm8k-6";

/// A record with `question` and `answer`.
pub fn convert(record: &Value, at: &At<'_>) -> Result<Trajectory, Refusal> {
    let question = text(record, "question")?;
    trajectory(question.trim(), text(record, "answer")?, &at.id(), at.split)
}

/// The same of bytes that are nothing but these two texts, as nearly all records are; none for any other.
pub(super) fn convert_flat(record: &Record, at: &At<'_>) -> Option<Result<Trajectory, Refusal>> {
    if record.length != record.bytes.len() as u64 {
        return None;
    }
    let [question, answer] = flat::texts(&record.bytes, ["question", "answer"])?;
    let question = question.trim();
    if question.is_empty() || answer.trim().is_empty() {
        return None;
    }
    Some(trajectory(question, &answer, &at.id(), at.split))
}

/// One row as a trajectory.
pub fn trajectory(question: &str, answer: &str, id: &str, split: &str) -> Result<Trajectory, Refusal> {
    let mark = memchr::memchr_iter(b'#', answer.as_bytes()).rev().find(|at| answer[..=*at].ends_with("####"));
    let end = mark.ok_or_else(|| Reason::NoFinalAnswer.because("no `####`"))? + 1;
    let (solution, last) = (&answer[..end - "####".len()], &answer[end..]);
    let mut digits = Cow::Borrowed(last.trim().trim_start_matches('$'));
    if digits.contains(',') {
        digits = digits.replace(',', "").into();
    }
    let value = number::parse(&digits).ok_or_else(|| {
        let found: String = last.trim().chars().take(40).collect();
        Reason::FinalAnswerIsNoNumber.because(format!("`{found}`"))
    })?;
    let annotations = annotations(solution)?;
    let exact = annotations.last().is_some_and(|last| last.value == value);
    let is_calculated = |stated: &&Stated| stated.expression.operators() > 0;
    let reaches = annotations.iter().rev().find(is_calculated).is_some_and(|last| last.value == value);
    let in_prose = if reaches { Vec::new() } else { sums(solution, false).unwrap_or_default() };
    let with_prose = if reaches { None } else { with_prose(&in_prose, solution, &value, question) };
    let (answer, mut meta) = (number::decimal(&value), Map::new());
    if reaches || with_prose.is_some() {
        let mut calculations = with_prose.unwrap_or(annotations);
        calculations.retain(|stated| is_calculated(&stated));
        calculations.dedup_by(|a, b| a.value == b.value && a.expression == b.expression);
        let problem =
            Problem { id, source: "gsm8k", split, question, language: "en", answer: &answer, exact, meta: &meta };
        return compose::compose(&problem, &calculations)
            .map_err(|error| Reason::NotComposable.because(error.to_string()));
    }
    // The graph is the source's, not what a reader finds in the prose.
    meta.insert("annotations".to_owned(), annotations.iter().map(written).collect::<Vec<_>>().into());
    let problem = Problem { id, source: "gsm8k", split, question, language: "en", answer: &answer, exact, meta: &meta };
    let lines = solution.lines().map(|line| without_annotations(line).0.trim().to_owned());
    let prose = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    compose::prose(&problem, &prose, &in_prose).map_err(|error| Reason::NotComposable.because(error.to_string()))
}

fn written(stated: &Stated) -> String {
    format!("{} = {}", stated.expression.text(&mut number::exact), number::exact(&stated.value))
}

/// The annotations in order, each checked. `range` is in bytes of `solution`.
pub fn annotations(solution: &str) -> Result<Vec<Stated>, Refusal> {
    let (mut found, mut reader) = (Vec::with_capacity(4), Reader::default());
    let mut from = 0;
    while let Some(at) = find_twice(b'<', solution, from) {
        if let Some((expression, value, length)) = true_equation(&solution[at + 2..])
            && solution[at + 2 + length..].starts_with(">>")
        {
            from = at + 2 + length + 2;
            found.push(Stated { expression, value, range: at..from });
            continue;
        }
        let end = find_twice(b'>', solution, at);
        let end =
            end.ok_or_else(|| Reason::OpenAnnotation.because(format!("byte {at} of the answer: `<<` without `>>`")))?;
        let inner = &solution[at + 2..end];
        let bad = |why: String| Reason::BadAnnotation.because(format!("byte {at} of the answer: `{inner}`: {why}"));
        let (expression, result) = inner.rsplit_once('=').ok_or_else(|| bad("no `=`".to_owned()))?;
        let expression = reader.expression(expression).map_err(|error| bad(error.to_string()))?;
        let value = reader.value(result).map_err(|error| bad(error.to_string()))?;
        let makes = expression.value().map_err(|error| bad(error.to_string()))?;
        if makes != value {
            let detail = format!("byte {at} of the answer: `{inner}` makes {}", number::decimal(&makes));
            return Err(Reason::WrongAnnotation.because(detail));
        }
        found.push(Stated { expression, value, range: at..end + 2 });
        from = end + 2;
    }
    Ok(found)
}

/// Where a mark next stands twice: `<<`.
fn find_twice(mark: u8, text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    memchr::memchr_iter(mark, &bytes[from..]).map(|at| from + at).find(|at| bytes.get(at + 1) == Some(&mark))
}

/// All true sums of a solution, annotated or in prose, up to the last one that makes `wanted`: first as they stand, then
/// with the words between the numbers and percent signs left out (`8 feet / 50 feet * 100% = 16%`). If none makes it, a
/// last step times 100 may: percent and cents.
fn with_prose(in_prose: &[Stated], solution: &str, wanted: &Exact, question: &str) -> Option<Vec<Stated>> {
    for wordless in [false, true] {
        let mut all = if wordless { sums(solution, true)? } else { in_prose.to_vec() };
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
    let mut room = Room::default();
    for line in solution.split('\n') {
        let mut of_line = annotations(line).ok()?;
        of_line.retain(|annotation| annotation.expression.operators() > 0);
        let (mut plain, places) = without_annotations(line);
        if wordless {
            plain = without_words(&plain);
        }
        if memchr::memchr(b'=', plain.as_bytes()).is_none() {
            all.extend(of_line);
            continue;
        }
        for mut stated in calculation::find_with(&plain, "en", &mut room).into_iter().filter(Stated::holds) {
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

fn times_hundred(all: &[Stated], wanted: &Exact, question: &str) -> Option<Stated> {
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
        let start = find_twice(b'<', line, from).unwrap_or(line.len());
        plain.push_str(&line[from..start]);
        places.extend(from..start);
        from = find_twice(b'>', line, start).map_or(line.len(), |at| at + 2);
    }
    (plain, places)
}

#[cfg(test)]
mod tests;
