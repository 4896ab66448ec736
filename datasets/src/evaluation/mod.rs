//! What a model is scored with, and its texts to verdicts. A *bench* is problems, solved from the question on, and
//! probes with their controls, continued from VERIFY on. Source: docs/architecture.md, "The scores".

mod rows;

use crate::plant::{kinds_of, plant, twin, verify_prompt};
use crate::prompt::{PromptError, PromptForm};
use crate::scores::{
    ControlVerdict, ProbeVerdict, ProblemVerdict, Summary, TokenCount, score_control, score_probe, score_problem,
    summarise,
};
use crate::trajectory::{Trajectory, prompt};

pub use rows::write_rows;

/// One set of prompts that are generated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PromptSet {
    /// Problems, from the question on.
    Problem,
    /// Probes, from VERIFY on.
    Probe,
    /// Controls, from VERIFY on.
    Control,
}

impl PromptSet {
    /// In the order in which they are generated.
    pub const ALL: [PromptSet; 3] = [PromptSet::Problem, PromptSet::Probe, PromptSet::Control];

    /// Name in files.
    pub fn name(self) -> &'static str {
        match self {
            PromptSet::Problem => "problem",
            PromptSet::Probe => "probe",
            PromptSet::Control => "control",
        }
    }
}

/// Problems and probes.
#[derive(Debug, Clone, Default)]
pub struct Bench {
    /// Problems to score.
    pub problems: Vec<Trajectory>,
    /// Planted probes and, at the same index, their controls.
    pub probes: Vec<(Trajectory, Trajectory)>,
}

impl Bench {
    /// The first `count` right traces as problems, and the first `count` that an error can be planted in as probes.
    pub fn of_holdout(holdout: &[Trajectory], count: usize, seed: u64) -> Self {
        let clean = || holdout.iter().filter(|trajectory| !trajectory.corrective);
        let pair = |t: &Trajectory| plant(t, kinds_of(t), seed).ok().map(|planted| (planted, twin(t)));
        let probes = if count == 0 { vec![] } else { clean().filter_map(pair).take(count).collect() };
        Bench { problems: clean().take(count).cloned().collect(), probes }
    }

    /// All prompts: set, index in the set, text.
    pub fn prompts(&self, form: &PromptForm) -> Result<Vec<(PromptSet, usize, String)>, PromptError> {
        let problems = self.problems.iter().enumerate().map(|(i, t)| (PromptSet::Problem, i, t, prompt(&t.question)));
        let probes = self.probes.iter().enumerate().map(|(i, (t, _))| (PromptSet::Probe, i, t, verify_prompt(t)));
        let controls = self.probes.iter().enumerate().map(|(i, (_, t))| (PromptSet::Control, i, t, verify_prompt(t)));
        let all = problems.chain(probes).chain(controls);
        all.map(|(set, index, t, text)| Ok((set, index, form.replace(&t.question, text)?))).collect()
    }
}

/// One generated text with its verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which set it belongs to.
    pub set: PromptSet,
    /// The trajectory's id.
    pub id: String,
    /// What the model was given.
    pub prompt: String,
    /// What it wrote.
    pub text: String,
    /// The answer read from the text.
    pub answer: Option<String>,
    /// Correct, corrected, or no false alarm.
    pub right: bool,
    /// The verdict, as JSON.
    pub verdict: serde_json::Value,
}

/// Verdicts on the texts of one model.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    /// One a problem.
    pub problems: Vec<ProblemVerdict>,
    /// One a probe.
    pub probes: Vec<ProbeVerdict>,
    /// One a control.
    pub controls: Vec<ControlVerdict>,
    /// All of them with their texts, in the order of judging.
    pub rows: Vec<Row>,
}

impl Verdicts {
    /// Judges what a model wrote behind a prompt of the bench.
    pub fn judge(&mut self, bench: &Bench, (set, index): (PromptSet, usize), prompt: &str, text: &str) {
        let (id, answer, right, verdict) = match set {
            PromptSet::Problem => {
                let teacher = &bench.problems[index];
                let verdict = score_problem(&teacher.question, teacher, text, &teacher.language);
                self.problems.push(verdict.clone());
                (&teacher.id, verdict.answer.clone(), verdict.correct, serde_json::to_value(&verdict))
            }
            PromptSet::Probe => {
                let planted = &bench.probes[index].0;
                let verdict = score_probe(planted, text);
                self.probes.push(verdict.clone());
                (&planted.id, verdict.answer.clone(), verdict.corrected, serde_json::to_value(&verdict))
            }
            PromptSet::Control => {
                let control = &bench.probes[index].1;
                let verdict = score_control(control, text);
                self.controls.push(verdict.clone());
                (&control.id, verdict.answer.clone(), !verdict.false_alarm, serde_json::to_value(&verdict))
            }
        };
        self.rows.push(Row {
            set,
            id: id.clone(),
            prompt: prompt.to_owned(),
            text: text.to_owned(),
            answer,
            right,
            verdict: verdict.unwrap_or_default(),
        });
    }

    /// The figures; `tokens` are those of the holdout, in the stages' order. Problems are put in the order of their keys,
    /// so that the order of judging does not count.
    pub fn summary(&mut self, tokens: &[TokenCount; 4], seed: u64) -> Summary {
        self.problems.sort_by(|a, b| a.problem.cmp(&b.problem));
        summarise(&self.problems, &self.probes, &self.controls, tokens, seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthesize::{STEPS, synthesize};

    #[test]
    fn the_teachers_own_traces_have_full_marks_and_no_false_alarm() {
        let holdout: Vec<Trajectory> = (0..12).map(|index| synthesize(3, index, STEPS)).collect();
        let bench = Bench::of_holdout(&holdout, 8, 1);
        assert_eq!((bench.problems.len(), bench.probes.len()), (8, 8));
        let mut verdicts = Verdicts::default();
        for (set, index, prompt) in bench.prompts(&PromptForm::Plain).unwrap() {
            let trace = match set {
                PromptSet::Problem => &bench.problems[index],
                PromptSet::Probe => &bench.probes[index].0,
                PromptSet::Control => &bench.probes[index].1,
            };
            let whole = trace.canonical().text;
            verdicts.judge(&bench, (set, index), &prompt, whole.strip_prefix(prompt.as_str()).unwrap());
        }
        let summary = verdicts.summary(&Default::default(), 1);
        let values = [summary.accuracy, summary.rfs, summary.svr.correction, summary.svr.j].map(|figure| figure.value);
        assert_eq!(values, [Some(1.0); 4]);
        assert_eq!((summary.n, verdicts.rows.len()), (8, 24));
        assert!(verdicts.rows.iter().all(|row| row.right));
    }

    #[test]
    fn a_count_of_none_scores_nothing() {
        let holdout = [synthesize(3, 1, STEPS)];
        assert!(Bench::of_holdout(&holdout, 0, 1).prompts(&PromptForm::Plain).unwrap().is_empty());
    }
}
