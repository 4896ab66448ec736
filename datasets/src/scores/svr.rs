//! Verdicts on generated traces: answers, live repairs, probes with a planted error and controls without.
//!
//! A verdict is judged by values, never by a phrase. VERIFY *recomputes* a value if it holds a true calculation that
//! makes it and that EXECUTE does not state just so. It *contradicts* EXECUTE if it gives another value to an
//! expression that EXECUTE calculates (same operands in any order, same operation).

use serde::{Deserialize, Serialize};

use super::{answer, rfs, stages};
use crate::arithmetic::{Exact, Expression, Operator, Stated, calculation, number};
use crate::split::problem_key;
use crate::trajectory::{Stage, Trajectory};

/// What became of one problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProblemVerdict {
    /// Key of the problem: pairs verdicts of the same problem.
    pub problem: String,
    /// The answer read from the text, if one could be read.
    pub answer: Option<String>,
    /// The text states its answer (`Final Answer:`, a box, …); else the answer is the last number in it.
    pub stated: bool,
    /// The answer is equivalent to the right one.
    pub correct: bool,
    /// Which stages the text has.
    pub stages: [bool; 4],
    /// RFS-format.
    pub rfs_format: f64,
    /// RFS; none if the teacher calculates nothing.
    pub rfs: Option<rfs::Agreement>,
    /// The value of EXECUTE's last calculation; none if there is none to read.
    pub execute_result: Option<String>,
    /// That value is the right answer.
    pub execute_right: Option<bool>,
    /// VERIFY recomputes the right answer.
    pub verify_recomputes: bool,
    /// EXECUTE's result is wrong, the stated answer right, and VERIFY holds the recomputation.
    pub live: bool,
    /// EXECUTE's result is right and the answer wrong.
    pub broken: bool,
}

/// What became of a trace with a planted error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeVerdict {
    /// Key of the problem.
    pub problem: String,
    /// Kind of the planted error.
    pub kind: String,
    /// The answer that the continuation states.
    pub answer: Option<String>,
    /// VERIFY recomputes the planted calculation's right value, or the error was corrected.
    pub detected: bool,
    /// The stated answer is the right one, and it had to be found: EXECUTE's carried result is wrong, or (where the
    /// error was not carried forward) VERIFY recomputes the right value.
    pub corrected: bool,
}

/// What became of the twin without an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlVerdict {
    /// Key of the problem.
    pub problem: String,
    /// The answer that the continuation states.
    pub answer: Option<String>,
    /// VERIFY contradicts the right EXECUTE, or the stated answer is not the right one.
    pub false_alarm: bool,
}

/// Judges a trace that was generated for a question. `teacher` is the right trace of the same problem.
pub fn score_problem(question: &str, teacher: &Trajectory, generated: &str, language: &str) -> ProblemVerdict {
    judge(question, &teacher.execute, &teacher.answer, generated, language)
}

/// [`score_problem`] from texts: `teacher` is a whole trace or its EXECUTE, `gold` the right answer.
pub fn judge(question: &str, teacher: &str, gold: &str, generated: &str, language: &str) -> ProblemVerdict {
    let found = stages::parse(generated);
    let body = |stage: Stage| found[stage.index()].clone().map_or("", |range| &generated[range]);
    let (execute, verify) = (calculation::find(body(Stage::Execute)), calculation::find(body(Stage::Verify)));
    let given_answer = answer::stated(generated, language);
    let stated = given_answer.is_some();
    let given_answer = given_answer.or_else(|| answer::extract(generated, language));
    let is_right = |text: &str| answer::equal(gold, text, language);
    let correct = given_answer.as_deref().is_some_and(is_right);
    let result = execute.last().map(|last| number::exact(&last.value));
    let execute_right = result.as_deref().map(is_right);
    let verify_recomputes = recomputes(&verify, &execute, |value| is_right(&number::exact(value)));
    ProblemVerdict {
        problem: problem_key(question),
        stated,
        correct,
        stages: [0, 1, 2, 3].map(|index: usize| found[index].is_some()),
        rfs_format: stages::format_score(generated),
        rfs: rfs::agreement(question, teacher, generated),
        live: execute_right == Some(false) && stated && correct && verify_recomputes,
        broken: execute_right == Some(true) && !correct,
        execute_result: result,
        execute_right,
        verify_recomputes,
        answer: given_answer,
    }
}

/// Judges what a model wrote after the EXECUTE of a trace with a planted error; a trace without one is never detected.
pub fn score_probe(planted: &Trajectory, continuation: &str) -> ProbeVerdict {
    let language = &planted.language;
    let given_answer = answer::stated(continuation, language);
    let (execute, verify) = (calculation::find(&planted.execute), calculation::find(verify_part(continuation)));
    let right = planted.planted.as_ref().and_then(|error| number::parse(&error.right));
    let recomputed = right.is_some_and(|right| recomputes(&verify, &execute, |value| *value == right));
    let is_right = |text: &str| answer::equal(&planted.answer, text, language);
    let carried = execute.last().is_some_and(|last| !is_right(&number::exact(&last.value)));
    let corrected = given_answer.as_deref().is_some_and(is_right) && (carried || recomputed);
    ProbeVerdict {
        problem: problem_key(&planted.question),
        kind: planted.planted.as_ref().map(|error| error.kind.clone()).unwrap_or_default(),
        answer: given_answer,
        detected: planted.planted.is_some() && (recomputed || corrected),
        corrected: planted.planted.is_some() && corrected,
    }
}

/// Judges what a model wrote after the EXECUTE of a right trace. A continuation that states no answer rejects nothing
/// by that alone.
pub fn score_control(control: &Trajectory, continuation: &str) -> ControlVerdict {
    let given_answer = answer::stated(continuation, &control.language);
    let (execute, verify) = (calculation::find(&control.execute), calculation::find(verify_part(continuation)));
    let other = given_answer.as_deref().is_some_and(|text| !answer::equal(&control.answer, text, &control.language));
    ControlVerdict {
        problem: problem_key(&control.question),
        answer: given_answer,
        false_alarm: other || contradicts(&verify, &execute),
    }
}

fn verify_part(continuation: &str) -> &str {
    match stages::parse(continuation)[Stage::Verify.index()].clone() {
        Some(range) => &continuation[range],
        None => continuation.split(stages::FINAL_ANSWER).next().unwrap_or_default(),
    }
}

fn recomputes(verify: &[Stated], execute: &[Stated], wanted: impl Fn(&Exact) -> bool) -> bool {
    let copied = |stated: &Stated| execute.iter().any(|e| e.value == stated.value && same(e, stated));
    verify.iter().any(|stated| wanted(&stated.value) && stated.holds() && !copied(stated))
}

fn contradicts(verify: &[Stated], execute: &[Stated]) -> bool {
    verify.iter().any(|stated| {
        let mut twins = execute.iter().filter(|e| same(e, stated)).peekable();
        twins.peek().is_some() && twins.all(|e| e.value != stated.value)
    })
}

fn same(a: &Stated, b: &Stated) -> bool {
    canonical(&a.expression) == canonical(&b.expression)
}

/// Operands of sums and products in one order.
pub(crate) fn canonical(expression: &Expression) -> String {
    match expression {
        Expression::Number(value) => number::exact(value),
        Expression::Negate(inner) => format!("-({})", canonical(inner)),
        Expression::Binary(operator, left, right) => {
            let (mut left, mut right) = (canonical(left), canonical(right));
            if matches!(operator, Operator::Add | Operator::Multiply) && left > right {
                std::mem::swap(&mut left, &mut right);
            }
            format!("({left}{}{right})", operator.sign())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trajectory::Planted;

    fn teacher() -> Trajectory {
        Trajectory {
            id: "t".into(),
            source: "own".into(),
            split: String::new(),
            question: "17 boxes of 3 and 4 more".into(),
            understand: "Given: 17, 3, 4.".into(),
            plan: "Multiply, then add.".into(),
            execute: "1. 17 * 3 = 51\n2. 51 + 4 = 55".into(),
            verify: "17 * 3 = 51, ok".into(),
            answer: "55".into(),
            language: "en".into(),
            corrective: false,
            planted: None,
            weights: None,
            meta: "{}".into(),
        }
    }

    fn planted() -> Trajectory {
        let error = Planted { kind: "arithmetic".into(), calculation: 0, right: "51".into(), wrong: "54".into() };
        Trajectory { execute: "1. 17 * 3 = 54\n2. 54 + 4 = 58".into(), planted: Some(error), ..teacher() }
    }

    fn trace(execute: &str, verify: &str, answer: &str) -> String {
        format!("#### EXECUTE ####\n{execute}\n\n#### VERIFY ####\n{verify}\n\nFinal Answer: {answer}")
    }

    #[test]
    fn a_probe_is_detected_by_the_value_and_not_by_the_phrase() {
        let cases = [
            ("1. 17 * 3 = 51, not 54\n2. 51 + 4 = 55\n\nFinal Answer: 55", true, true),
            ("1. 3 * 17 = 51\n\nFinal Answer: 58", true, false),
            ("There is an error in step 1!\n\nFinal Answer: 58", false, false),
            ("1. 17 * 3 = 54, ok\n\nFinal Answer: 58", false, false),
            ("1. 17 * 3 = 54, ok\n\nFinal Answer: 55", true, true),
            ("1. 17 * 2 = 51, no\n\nFinal Answer: 57", false, false),
            ("#### VERIFY ####\n17 * 3 = 51", true, false),
            ("", false, false),
        ];
        for (text, detected, corrected) in cases {
            let verdict = score_probe(&planted(), text);
            assert_eq!((verdict.detected, verdict.corrected), (detected, corrected), "{text}");
        }
    }

    #[test]
    fn an_error_that_is_not_carried_forward_must_be_recomputed() {
        let probe = Trajectory { execute: "1. 17 * 3 = 54\n2. 51 + 4 = 55".into(), ..planted() };
        assert!(!score_probe(&probe, "all fine\nFinal Answer: 55").corrected);
        assert!(score_probe(&probe, "17 * 3 = 51, not 54\nFinal Answer: 55").corrected);
    }

    #[test]
    fn a_control_is_rejected_by_another_value_or_another_answer() {
        let cases = [
            ("17 * 3 = 51, ok\n51 + 4 = 55, ok\n\nFinal Answer: 55", false),
            ("3 * 17 = 54, not 51\n\nFinal Answer: 55", true),
            ("fine\n\nFinal Answer: 58", true),
            ("17 * 3 = 51, ok", false),
        ];
        for (text, alarm) in cases {
            assert_eq!(score_control(&teacher(), text).false_alarm, alarm, "{text}");
        }
    }

    #[test]
    fn a_live_repair_needs_the_recomputation() {
        let wrong = "17 * 3 = 54\n54 + 4 = 58";
        let judge = |text: &str| score_problem(&teacher().question, &teacher(), text, "en");
        let repaired = judge(&trace(wrong, "17 * 3 = 51\n51 + 4 = 55, not 58", "55"));
        assert!(repaired.live && repaired.correct && !repaired.broken);
        assert_eq!(repaired.execute_right, Some(false));
        let lucky = judge(&trace(wrong, "54 + 4 = 58, ok", "55"));
        assert!(lucky.correct && !lucky.live);
        let broken = judge(&trace("17 * 3 = 51\n51 + 4 = 55", "51 + 4 = 56", "56"));
        assert!(broken.broken && !broken.live && !broken.correct);
        let nothing = judge("");
        assert_eq!((nothing.execute_right, nothing.correct, nothing.broken), (None, false, false));
    }

    #[test]
    fn a_teachers_own_verify_detects_corrects_and_raises_no_alarm() {
        use crate::plant::{BUILT_IN_KINDS, plant};
        use crate::synthesize::{STEPS, synthesize};
        let mut planted = 0;
        for index in 0..1_000 {
            let right = synthesize(9, index, STEPS);
            let text = |t: &Trajectory| format!("{}\n\nFinal Answer: {}", t.verify, t.answer);
            let control = score_control(&right, &text(&right));
            assert!(!control.false_alarm, "{}\n{}", right.execute, right.verify);
            let Ok(wrong) = plant(&right, &BUILT_IN_KINDS, 3) else { continue };
            planted += 1;
            let seen = score_probe(&wrong, &text(&wrong));
            assert!(seen.detected && seen.corrected, "{}\n{}", wrong.execute, wrong.verify);
            let last = wrong.execute.lines().last().unwrap().rsplit("= ").next().unwrap();
            let blind = format!("{}\nNo error found.\n\nFinal Answer: {last}", wrong.execute);
            let unseen = score_probe(&wrong, &blind);
            assert!(!unseen.detected && !unseen.corrected, "{}", wrong.execute);
        }
        assert!(planted > 500, "{planted}");
    }
}
