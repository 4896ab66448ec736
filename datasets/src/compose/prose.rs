//! Stages for a solution in its own words: EXECUTE is the solution, the other three come from the calculations in it.
//!
//! VERIFY undoes each true calculation that was found, so it checks the numbers and not the reasoning between them;
//! `meta.checked` says how many. Where there are none, PLAN names the terms that the solution works out and VERIFY says
//! that nothing could be recomputed.

use super::words::Words;
use super::{ComposeError, Pen, Problem, STEPS_MAX, Step, plan, push_steps, trajectory, understand};
use crate::arithmetic::Stated;
use crate::trajectory::Trajectory;

/// No more terms are named in a PLAN without calculations.
const TERMS_MAX: usize = 8;
/// Longer terms are not named.
const TERM_MAX: usize = 60;

/// Writes the stages around `solution`, whose true calculations are among `calculations`. `problem.exact` is what the source says; without a source's word the caller may
/// ask [`reaches`].
pub fn prose(problem: &Problem<'_>, solution: &str, calculations: &[Stated]) -> Result<Trajectory, ComposeError> {
    let words = Words::of(problem.language);
    let mut steps: Vec<Step> = Vec::new();
    let (mut checks, mut pen) = (Vec::new(), Pen::new(problem.language));
    for stated in calculations.iter().filter(|stated| stated.holds()) {
        let mut of_one = Vec::new();
        let undone = |step: &Step| {
            let mut line = String::new();
            pen.undone(&mut line, step).map(|()| line)
        };
        let lines = push_steps(&stated.expression, &mut of_one)
            .and_then(|()| of_one.iter().map(undone).collect::<Result<Vec<_>, _>>());
        // What cannot be written so that it is read back is not recomputed.
        let Ok(lines) = lines else { continue };
        if steps.len() + of_one.len() > STEPS_MAX {
            break;
        }
        for (step, line) in of_one.into_iter().zip(lines) {
            if !checks.contains(&line) {
                steps.push(step);
                checks.push(line);
            }
        }
    }
    let (plan, verify) = if steps.is_empty() {
        let terms = terms(solution);
        let lines = terms.iter().map(|term| words.work_out(term));
        let lines = if terms.is_empty() { vec![words.reason().to_owned()] } else { numbered(lines.map(|l| l + ".")) };
        (lines.join("\n"), words.nothing_to_recompute().to_owned())
    } else {
        let checked = steps.len();
        let mut verify = numbered(checks.into_iter());
        verify.push(words.undone().to_owned());
        debug_assert_eq!(verify.len(), checked + 1);
        (plan(&steps, words), verify.join("\n"))
    };
    let mut meta = problem.meta.clone();
    meta.insert("checked".to_owned(), steps.len().into());
    meta.insert("prose".to_owned(), true.into());
    let problem = Problem { meta: &meta, ..*problem };
    let understand = understand(&problem, &steps, words);
    Ok(trajectory(&problem, [understand, plan, solution.to_owned(), verify], steps.len()))
}

/// Whether all calculations of a solution are true and the last one makes the answer.
pub fn reaches(found: &[Stated], answer: &str, language: &str) -> bool {
    let last = found.last().map(|last| crate::arithmetic::number::exact(&last.value));
    found.iter().all(Stated::holds) && last.is_some_and(|last| crate::scores::answer::equal(answer, &last, language))
}

fn numbered(lines: impl Iterator<Item = String>) -> Vec<String> {
    lines.enumerate().map(|(index, line)| format!("{}. {line}", index + 1)).collect()
}

/// What stands left of the first `=` in each formula, in order, each once.
fn terms(solution: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for formula in solution.split('$').skip(1).step_by(2) {
        let Some((left, _)) = formula.split_once('=') else { continue };
        let left = left.trim().trim_end_matches(['&', ' ']);
        let whole = !left.is_empty() && left.len() <= TERM_MAX && !left.contains(['\n', '<', '>', ',']);
        let balanced = left.matches('{').count() == left.matches('}').count();
        let term = format!("${left}$");
        if whole && balanced && !left.ends_with(['\\', '!', '/']) && !found.contains(&term) {
            found.push(term);
        }
        if found.len() == TERMS_MAX {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arithmetic::calculation;
    use serde_json::{Map, json};

    fn written(question: &str, solution: &str, language: &str) -> Trajectory {
        let meta = Map::new();
        let problem = Problem {
            id: "own/0",
            source: "own",
            split: "",
            question,
            language,
            answer: "7",
            exact: false,
            meta: &meta,
        };
        prose(&problem, solution, &calculation::find_in(solution, language)).unwrap()
    }

    #[test]
    fn the_solution_is_execute_and_its_sums_are_undone() {
        let made = written("What is $3 + 2^2$?", "First $2^2 = 4$, then $3 + 4 = 7$.", "en");
        assert_eq!(made.understand, "Given: 3, 2.\nGoal: What is $3 + 2^2$?");
        assert_eq!(made.plan, "1. Multiply 2 by 2.\n2. Add step 1 to 3.");
        assert_eq!(made.execute, "First $2^2 = 4$, then $3 + 4 = 7$.");
        assert_eq!(made.verify, "1. 4 / 2 = 2\n2. 7 - 4 = 3\nEach step undone gives back what it began with.");
        let meta: serde_json::Value = serde_json::from_str(&made.meta).unwrap();
        assert_eq!(meta, json!({"exact": false, "steps": 2, "checked": 2, "prose": true}));
    }

    #[test]
    fn a_solution_without_sums_says_so() {
        let made = written("Factor it.", "We have $x^2 - 1 = (x-1)(x+1)$ so $y = x$.", "en");
        assert_eq!(made.plan, "1. Work out $x^2 - 1$.\n2. Work out $y$.");
        assert!(made.verify.contains("no sum"));
        assert_eq!(written("Factor it.", "It is plain.", "en").plan, "Go from what is given to the goal.");
    }

    #[test]
    fn vietnamese_numbers_are_written_as_they_are_read() {
        let made = written("Giá 2,5 đồng, 3 cái. Hỏi giá?", "Giá là 2,5.3=7,5 đồng.", "vi");
        assert_eq!(made.plan, "1. Nhân 2,5 với 3.");
        assert!(made.verify.starts_with("1. 7,5 / 3 = 2,5\n"));
        assert!(calculation::find_in(&made.verify, "vi")[0].holds());
    }
}
