//! Any bytes give a value or an error from every parser, never a panic: a corpus of ugly cases, mutated.
//!
//! `POLYA_FUZZ=5000000` sets the executions a parser (`make fuzz`); the seed is printed, and `POLYA_SEED` repeats it.

#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

mod fuzz;

use fuzz::fuzz;
use polya_datasets::arithmetic::{Expression, ExpressionError, calculation, number::exact};
use polya_datasets::scores::{answer, rfs, stages};
use polya_datasets::sources::record::{Framing, Records};
use polya_datasets::sources::{At, Source};
use polya_datasets::split::normalise;
use polya_datasets::trajectory;

/// What the real reader does with a file of this source. A kept record keeps the promises of a trajectory.
fn read_as(source: Source, bytes: &[u8]) {
    let mut records = Records::new(bytes, Framing::of(bytes));
    let at = At { prefix: "fuzz/train", split: "train", index: 0, name: None };
    while let Some(record) = records.next_record().unwrap() {
        let Ok(trajectory) = record.object().and_then(|value| source.convert(&value, &at)) else { continue };
        let canonical = trajectory.canonical();
        let parts = trajectory::read(&canonical.text).expect("a kept text is read back");
        assert!(parts.is_of(&trajectory), "the canonical text is read back as the same stages");
        let mut end = canonical.stages[0].start;
        for stage in &canonical.stages {
            assert!(stage.start == end && stage.end > stage.start, "stages follow each other, none empty");
            assert!(canonical.text.is_char_boundary(stage.end));
            end = stage.end;
        }
        assert!(!normalise(&trajectory.question).is_empty() || trajectory.question.trim().is_empty());
    }
}

#[test]
fn gsm8k_is_total() {
    fuzz("gsm8k", |bytes| read_as(Source::Gsm8k, bytes));
}

#[test]
fn math_is_total() {
    fuzz("math", |bytes| read_as(Source::Math, bytes));
}

#[test]
fn vnhsge_is_total() {
    fuzz("vnhsge", |bytes| read_as(Source::Vnhsge, bytes));
}

#[test]
fn teacher_is_total() {
    fuzz("teacher", |bytes| read_as(Source::Teacher, bytes));
}

#[test]
fn chat_is_total() {
    fuzz("chat", |bytes| read_as(Source::Chat, bytes));
}

#[test]
fn trajectories_are_total() {
    fuzz("trajectories", |bytes| read_as(Source::Trajectories, bytes));
}

#[test]
fn answers_are_total() {
    fuzz("answers", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let language = if bytes.len().is_multiple_of(2) { "en" } else { "vi" };
        answer::extract(&text, language);
        answer::equal("(1, 2]", &text, language);
        answer::equal(&text, "1/2", language);
    });
}

#[test]
fn calculations_are_total() {
    fuzz("calculations", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        for language in ["en", "vi"] {
            for stated in calculation::find_in(&text, language) {
                stated.holds();
            }
        }
        if let Ok(expression) = Expression::parse(&text) {
            // A value or an error; a parsed expression is printed and read back as itself.
            let printed = expression.text(&mut |number| format!("({})", exact(number)));
            match Expression::parse(&printed) {
                Ok(again) => assert_eq!(again.value().ok(), expression.value().ok(), "{printed}"),
                // The brackets around each number are tokens too.
                Err(error) => assert_eq!(error, ExpressionError::TooComplex, "{printed}"),
            }
        }
        stages::format_score(&text);
        rfs::agreement("Lan has 3 pens and buys 4.", "3 + 4 = 7", &text);
    });
}
