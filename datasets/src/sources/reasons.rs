//! Why a record is refused: the one table of reason codes.

/// Declares the codes with their meanings.
macro_rules! reasons {
    ($($name:ident $code:literal $meaning:literal,)*) => {
        /// A reason code, as it is counted and as it stands in the rejects file.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)*
        }

        impl Reason {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The code.
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$name => $code,)* }
            }

            /// What it means, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$name => $meaning,)* }
            }
        }
    };
}

reasons! {
    TooLong "too_long" "The record is longer than 1 MiB.",
    NotUtf8 "not_utf8" "The record holds bytes that are no UTF-8.",
    BlankLine "blank_line" "The line holds nothing but white space.",
    NotJson "not_json" "The record is no JSON document.",
    Truncated "truncated" "The file ends in the middle of the record.",
    NotAnObject "not_an_object" "The JSON document is no object.",
    MissingField "missing_field" "A field of this source is not there.",
    NotAString "not_a_string" "A field that is text in this source is something else.",
    EmptyField "empty_field" "A field that must say something is empty.",
    Nul "nul" "A text holds a NUL character.",
    HoldsATag "holds_a_tag" "The text holds a line `#### NAME ####` of its own, so that its stages could not be told apart.",
    NoFinalAnswer "no_final_answer" "GSM8K: there is no `####` with the final answer; others: no final answer can be read from the text.",
    FinalAnswerIsNoNumber "final_answer_is_no_number" "GSM8K: what follows `####` is no number.",
    OpenAnnotation "open_annotation" "GSM8K: `<<` without `>>`.",
    BadAnnotation "bad_annotation" "GSM8K: an annotation is not of the form `expression=value`.",
    WrongAnnotation "wrong_annotation" "GSM8K: an annotation is false: its expression makes another value.",
    NoBox "no_box" "MATH: the solution holds no `\\boxed{}`.",
    OpenBox "open_box" "MATH: the braces of the last `\\boxed{` do not close.",
    EmptyBox "empty_box" "MATH: the last `\\boxed{}` is empty.",
    NeedsImage "needs_image" "VNHSGE: the question or its explanation refers to an image, which is not part of the text.",
    NoOptions "no_options" "VNHSGE: the options A to D are not all there.",
    EqualOptions "equal_options" "VNHSGE: the right option's text is another option's text too.",
    BadKey "bad_key" "VNHSGE: `Choice` is no letter from A to D.",
    NoMessages "no_messages" "Chat: there is no user message followed by an assistant's.",
    StageMissing "stage_missing" "Teacher, syntax: one of the four stages is not there.",
    StageEmpty "stage_empty" "Teacher, syntax: a stage says nothing.",
    StagesOutOfOrder "stages_out_of_order" "Teacher, syntax: the stages stand in another order, or one of them twice.",
    NoGroundTruth "no_ground_truth" "Teacher, math: there is no right answer to compare with.",
    MarkedWrong "marked_wrong" "Teacher, math: the file itself says `is_correct: false`.",
    WrongAnswer "wrong_answer" "Teacher, math: the trace's final answer is not the right one.",
    PlanNotExecuted "plan_not_executed" "Teacher, consistency: PLAN names a number that EXECUTE does not use.",
    NothingToCheck "nothing_to_check" "Only with --checked-only: the solution holds no calculation that VERIFY could recompute.",
    NotComposable "not_composable" "Stages cannot be written from the solution, for example because it has more than 60 steps.",
    BadTrajectory "bad_trajectory" "Parquet or JSON Lines of trajectories: a stage is empty, or the text is not read back as the same stages.",
}

/// A reason with what exactly was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub reason: Reason,
    /// What exactly, and where in the record.
    pub detail: String,
}

impl Reason {
    /// This reason with its detail.
    pub fn because(self, detail: impl Into<String>) -> Refusal {
        Refusal { reason: self, detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_the_documentation() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
        let text = std::fs::read_to_string(path).unwrap();
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert!(Reason::ALL[..index].iter().all(|other| other.code() != reason.code()));
            let line = format!("| `{}` | {} |", reason.code(), reason.meaning());
            assert!(text.contains(&line), "docs/operations.md lacks the line\n{line}");
        }
    }
}
