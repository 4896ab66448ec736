//! A trajectory: one problem with its four-stage solution, and the canonical text that a model learns.
//!
//! Stages are byte ranges of the canonical text, never character counts: the text holds Vietnamese, LaTeX and emoji.
//! Source: docs/architecture.md, "A trajectory".

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The four stages, in the only order that a right trace has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// What is given and what is asked.
    Understand,
    /// The operations, without results.
    Plan,
    /// The calculations.
    Execute,
    /// The check, by another road, and the final answer.
    Verify,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Stage; 4] = [Stage::Understand, Stage::Plan, Stage::Execute, Stage::Verify];

    /// The name as it stands in the tag.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Understand => "UNDERSTAND",
            Stage::Plan => "PLAN",
            Stage::Execute => "EXECUTE",
            Stage::Verify => "VERIFY",
        }
    }

    /// Position in the order, 0 to 3.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The line that opens the stage, `#### NAME ####`, without a line break.
    pub const fn tag(self) -> &'static str {
        match self {
            Stage::Understand => "#### UNDERSTAND ####",
            Stage::Plan => "#### PLAN ####",
            Stage::Execute => "#### EXECUTE ####",
            Stage::Verify => "#### VERIFY ####",
        }
    }
}

/// An error that was planted in EXECUTE on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planted {
    /// What kind of slip, for example `arithmetic`; see `plant::Kind`.
    pub kind: String,
    /// Which calculation of the right EXECUTE, counted from 0. Where the kind is `dropped-step`, the planted EXECUTE has
    /// no line for it, and its later lines stand one place earlier.
    pub calculation: u32,
    /// The right value of that calculation.
    pub right: String,
    /// The value that was written instead; for `dropped-step` the operand that later calculations use in its place.
    pub wrong: String,
}

/// An explicit loss weight for a byte range of the canonical text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SpanWeight {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// Multiplies the token's weight.
    pub weight: f32,
}

/// One sample: a problem and its solution in four stages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trajectory {
    /// Unique in its file, for example `gsm8k/train/17`.
    pub id: String,
    /// Where it comes from: `gsm8k`, `synthetic`, ….
    pub source: String,
    /// The source's own split: `train`, `test`, or empty.
    pub split: String,
    /// The problem.
    pub question: String,
    /// Stage 1.
    pub understand: String,
    /// Stage 2.
    pub plan: String,
    /// Stage 3. May hold a planted error; then `planted` is set.
    pub execute: String,
    /// Stage 4, without the `Final Answer:` line.
    pub verify: String,
    /// The right final answer.
    pub answer: String,
    /// BCP 47 language tag, `en` or `vi`.
    pub language: String,
    /// EXECUTE is wrong and VERIFY corrects it: EXECUTE is context, not learned.
    pub corrective: bool,
    /// The planted error, if there is one.
    pub planted: Option<Planted>,
    /// Explicit weights, if there are any.
    pub weights: Option<Vec<SpanWeight>>,
    /// Free-form JSON object of the source (`{}` when empty).
    pub meta: String,
}

/// What begins every tag.
const TAG: &str = "####";
/// Ends VERIFY.
const ANSWER: &str = "\n\nFinal Answer: ";
/// What a canonical text has around its pieces is no longer.
const FRAME: usize = 160;

/// A trajectory's canonical text and where its stages lie in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// The whole text, from `Question:` to the answer, no line break at the end.
    pub text: String,
    /// Byte ranges of the stages in order; each begins with its tag, the last one ends with the text.
    pub stages: [Range<usize>; 4],
}

/// The prompt of a question: everything before the first tag. A model goes on from here.
pub fn prompt(question: &str) -> String {
    format!("Question: {question}\n\nSolution:\n")
}

impl Trajectory {
    /// The body of a stage, without its tag.
    pub fn stage(&self, stage: Stage) -> &str {
        match stage {
            Stage::Understand => &self.understand,
            Stage::Plan => &self.plan,
            Stage::Execute => &self.execute,
            Stage::Verify => &self.verify,
        }
    }

    /// The canonical text with the stages' byte ranges.
    ///
    /// The stages cover the text from the first tag to its end without a gap: the blank line after a stage's body
    /// belongs to that stage, and `Final Answer:` to VERIFY.
    pub fn canonical(&self) -> Canonical {
        let bodies: usize = Stage::ALL.iter().map(|stage| self.stage(*stage).len()).sum();
        let mut text = String::with_capacity(self.question.len() + bodies + self.answer.len() + FRAME);
        text.extend(["Question: ", &self.question, "\n\nSolution:\n"]);
        let mut starts = [0; 4];
        for stage in Stage::ALL {
            starts[stage.index()] = text.len();
            text.push_str(stage.tag());
            text.push('\n');
            text.push_str(self.stage(stage));
            text.push_str("\n\n");
        }
        text.push_str(ANSWER.trim_start());
        text.push_str(&self.answer);
        let end = text.len();
        let stages = [starts[0]..starts[1], starts[1]..starts[2], starts[2]..starts[3], starts[3]..end];
        Canonical { text, stages }
    }

    /// Whether [`read`] gives the stages back from the canonical text.
    ///
    /// Where no piece holds `####` the tags in that text are its own four, and only VERIFY could end too early: the text
    /// need not be written.
    pub fn is_read_back(&self) -> bool {
        let pieces = [&self.question, &self.understand, &self.plan, &self.execute, &self.verify, &self.answer];
        if pieces.iter().any(|piece| holds(piece, TAG, 0)) {
            return read(&self.canonical().text).is_some_and(|parts| parts.is_of(self));
        }
        self.verify_ends_late()
    }

    /// The same where it is known that no piece holds a `#`.
    pub(crate) fn verify_ends_late(&self) -> bool {
        !holds(&self.verify, ANSWER, "\n\n".len())
    }
}

/// Whether a text holds another one, of which the byte at `rare` seldom stands in texts.
fn holds(text: &str, what: &str, rare: usize) -> bool {
    let (text, what) = (text.as_bytes(), what.as_bytes());
    memchr::memchr_iter(what[rare], text).any(|at| at >= rare && text[at - rare..].starts_with(what))
}

/// The pieces of a canonical text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The problem.
    pub question: &'a str,
    /// The stages' bodies in order.
    pub stages: [&'a str; 4],
    /// The final answer.
    pub answer: &'a str,
}

impl Parts<'_> {
    /// Whether these are a trajectory's.
    pub fn is_of(&self, trajectory: &Trajectory) -> bool {
        self.question == trajectory.question
            && self.answer == trajectory.answer
            && Stage::ALL.iter().all(|stage| self.stages[stage.index()] == trajectory.stage(*stage))
    }
}

/// Reads a canonical text back; the inverse of [`Trajectory::canonical`]. None for any text that is not exactly of that
/// form, or holds more than one line with a stage's tag.
pub fn read(text: &str) -> Option<Parts<'_>> {
    let mut rest = text.strip_prefix("Question: ")?;
    let mut pieces = [""; 5];
    for stage in Stage::ALL {
        let opening = match stage {
            Stage::Understand => "\n\nSolution:\n#### UNDERSTAND ####\n",
            Stage::Plan => "\n\n#### PLAN ####\n",
            Stage::Execute => "\n\n#### EXECUTE ####\n",
            Stage::Verify => "\n\n#### VERIFY ####\n",
        };
        (pieces[stage.index()], rest) = rest.split_once(opening)?;
    }
    let (verify, answer) = rest.split_once(ANSWER)?;
    pieces[4] = verify;
    let is_tag = |line: &str| {
        let line = line.trim();
        line.starts_with("####") && Stage::ALL.iter().any(|stage| line == stage.tag())
    };
    if text.lines().filter(|line| is_tag(line)).count() != Stage::ALL.len() {
        return None;
    }
    let [question, stages @ ..] = pieces;
    Some(Parts { question, stages, answer })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::synthesize::{STEPS, synthesize};

    #[test]
    fn a_canonical_text_is_read_back() {
        for index in 0..200 {
            let trajectory = Trajectory { question: format!("Số 🍎 {index}?"), ..synthesize(4, index, STEPS) };
            assert!(read(&trajectory.canonical().text).unwrap().is_of(&trajectory));
        }
    }

    proptest! {
        #[test]
        fn what_is_read_back_is_known_without_reading(
            pieces in prop::array::uniform6("(a|#|####|\n|\n\n| |Final Answer: |Solution:|#### (UNDERSTAND|PLAN|VERIFY) ####){0,6}")
        ) {
            let [question, understand, plan, execute, verify, answer] = pieces;
            let made = Trajectory { question, understand, plan, execute, verify, answer, ..synthesize(4, 0, STEPS) };
            let text = made.canonical().text;
            prop_assert_eq!(made.is_read_back(), read(&text).is_some_and(|parts| parts.is_of(&made)), "{}", text);
        }
    }

    #[test]
    fn a_tag_inside_a_stage_is_not_read() {
        let inside = Trajectory { plan: "a\n #### VERIFY ####\nb".into(), ..synthesize(4, 0, STEPS) };
        assert_eq!(read(&inside.canonical().text), None);
        assert_eq!(read("Question: q"), None);
    }
}
