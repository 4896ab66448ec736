//! The sentences of VERIFY about a planted error. `{k}` is the step's number, counted from 1, `{w}` what EXECUTE wrote.
//!
//! Those that built-in problems use stand in `synthesize::wording`: the built-in tokenizer is made from them.

use super::kinds::Kind;

/// Between the check that fails and the calculation done again; `{u}` what should have come back.
pub(super) const SO: [&str; 4] = [", not {u}: ", " and not {u}, so ", ", but it should be {u}: ", " instead of {u}: "];

/// After the calculation that EXECUTE leaves out.
pub(super) const LEFT_OUT: [&str; 4] = [
    ", EXECUTE leaves it out",
    " is missing in EXECUTE",
    ", and EXECUTE skips this step",
    ", which was never calculated",
];

/// The verdict on a trace with a missing step.
pub(super) const ONE_MISSING: [&str; 4] = [
    "Step {k} is missing.",
    "EXECUTE left out step {k}.",
    "The error is the missing step {k}.",
    "So step {k} is put back.",
];

/// What was wrong in a step, beside `ONE_WRONG`.
pub(super) const fn what_was_wrong(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Arithmetic => &["Step {k} was calculated wrongly.", "The result of step {k} was wrong."],
        Kind::OffByOne => &["Step {k} was off by one.", "The result of step {k} was one away from the right one."],
        Kind::Operation => &["Step {k} used the wrong operation.", "The plan has another operation in step {k}."],
        Kind::Operand => &["Step {k} took the wrong number.", "The plan has another number in step {k}."],
        Kind::CopiedNumber => {
            &["A number was copied wrongly in step {k}.", "Step {k} misread a number of the question."]
        }
        Kind::Unit => &["Step {k} got the scale wrong.", "The units were mixed up in step {k}."],
        Kind::Sign => &["Step {k} had a sign error.", "The sign was wrong in step {k}."],
        Kind::DroppedStep => &[],
    }
}
