//! The figures of `evaluation/final.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::interval::{self, Figure};
use super::svr::{ControlVerdict, ProbeVerdict, ProblemVerdict};

/// Scores of one model, in the shape of `evaluation/final.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Number of problems.
    pub n: u64,
    /// Share of right answers.
    pub accuracy: Figure,
    /// Mean F1 of derivations shared with the teacher, over problems whose teacher calculates.
    pub rfs: Figure,
    /// Mean format score.
    pub rfs_format: Figure,
    /// Self-verification.
    pub svr: SvrFigures,
    /// Token accuracy by stage, on the holdout.
    pub per_stage_accuracy: StageFigures,
}

impl Summary {
    /// Every figure with its name for people, in the order of reports.
    pub fn figures(&self) -> [(&'static str, Figure); 14] {
        let (svr, stages) = (&self.svr, &self.per_stage_accuracy);
        [
            ("accuracy", self.accuracy),
            ("RFS (faithfulness)", self.rfs),
            ("RFS-format", self.rfs_format),
            ("SVR: correction", svr.correction),
            ("SVR: detection", svr.detection),
            ("SVR: false alarm", svr.false_alarm),
            ("J = detection - false alarm", svr.j),
            ("SVR-live: repaired", svr.live),
            ("SVR-live: broken", svr.broken),
            ("SVR-live: net gain", svr.net_gain),
            ("token accuracy UNDERSTAND", stages.understand),
            ("token accuracy PLAN", stages.plan),
            ("token accuracy EXECUTE", stages.execute),
            ("token accuracy VERIFY", stages.verify),
        ]
    }
}

/// Self-verification on probes, controls and free generation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SvrFigures {
    /// Share of probes whose error was seen.
    pub detection: Figure,
    /// Share of probes whose final answer is right: SVR.
    pub correction: Figure,
    /// Share of controls that were rejected.
    pub false_alarm: Figure,
    /// Detection minus false alarm; bootstrap by problem, probes and controls of a problem drawn together.
    pub j: Figure,
    /// Share of all problems repaired while generating freely.
    pub live: Figure,
    /// Share of all problems broken while verifying.
    pub broken: Figure,
    /// Mean of repaired minus broken over all problems.
    pub net_gain: Figure,
}

/// One figure a stage.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StageFigures {
    /// UNDERSTAND.
    pub understand: Figure,
    /// PLAN.
    pub plan: Figure,
    /// EXECUTE.
    pub execute: Figure,
    /// VERIFY.
    pub verify: Figure,
}

/// Tokens of one stage of the holdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TokenCount {
    /// Predicted right by the most probable token.
    pub correct: u64,
    /// All of them.
    pub tokens: u64,
}

/// Makes the figures. `tokens` in the stages' order. A function of its arguments: the seed drives the bootstrap.
pub fn summarise(
    problems: &[ProblemVerdict],
    probes: &[ProbeVerdict],
    controls: &[ControlVerdict],
    tokens: &[TokenCount; 4],
    seed: u64,
) -> Summary {
    let values = |of: fn(&ProblemVerdict) -> Option<f64>| problems.iter().filter_map(of).collect::<Vec<f64>>();
    let [understand, plan, execute, verify] = tokens.map(|count| interval::share(count.correct, count.tokens));
    Summary {
        n: problems.len() as u64,
        accuracy: interval::share_of(problems.iter().map(|p| p.correct)),
        rfs: interval::mean(&values(|p| p.rfs.map(|rfs| rfs.f1)), seed),
        rfs_format: interval::mean(&values(|p| Some(p.rfs_format)), seed),
        svr: SvrFigures {
            detection: interval::share_of(probes.iter().map(|p| p.detected)),
            correction: interval::share_of(probes.iter().map(|p| p.corrected)),
            false_alarm: interval::share_of(controls.iter().map(|c| c.false_alarm)),
            j: detection_minus_false_alarm(probes, controls, seed),
            live: interval::share_of(problems.iter().map(|p| p.live)),
            broken: interval::share_of(problems.iter().map(|p| p.broken)),
            net_gain: interval::mean(&values(|p| Some(f64::from(i8::from(p.live) - i8::from(p.broken)))), seed),
        },
        per_stage_accuracy: StageFigures { understand, plan, execute, verify },
    }
}

/// The change in accuracy from `base` to `trained` over the problems that both have, with its paired interval.
pub fn paired_accuracy(base: &[ProblemVerdict], trained: &[ProblemVerdict], seed: u64) -> Figure {
    let before: BTreeMap<&str, bool> = base.iter().map(|p| (p.problem.as_str(), p.correct)).collect();
    let number = |correct: bool| f64::from(u8::from(correct));
    let pair = |p: &ProblemVerdict| Some((number(*before.get(p.problem.as_str())?), number(p.correct)));
    interval::paired_difference(&trained.iter().filter_map(pair).collect::<Vec<_>>(), seed)
}

fn detection_minus_false_alarm(probes: &[ProbeVerdict], controls: &[ControlVerdict], seed: u64) -> Figure {
    /// Hits and number of a problem's probes, then of its controls.
    #[derive(Default)]
    struct Counts([u32; 4]);
    let mut by_problem: BTreeMap<&str, Counts> = BTreeMap::new();
    for probe in probes {
        let counts = &mut by_problem.entry(&probe.problem).or_default().0;
        counts[0] += u32::from(probe.detected);
        counts[1] += 1;
    }
    for control in controls {
        let counts = &mut by_problem.entry(&control.problem).or_default().0;
        counts[2] += u32::from(control.false_alarm);
        counts[3] += 1;
    }
    let problems: Vec<[u32; 4]> = by_problem.into_values().map(|counts| counts.0).collect();
    interval::bootstrap(problems.len(), seed, |picked| {
        let mut sum = [0u64; 4];
        for index in picked {
            for (total, count) in sum.iter_mut().zip(problems[*index]) {
                *total += u64::from(count);
            }
        }
        let [detected, probes, alarms, controls] = sum.map(|count| count as f64);
        (probes > 0.0 && controls > 0.0).then(|| detected / probes - alarms / controls)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(problem: usize, detected: bool) -> ProbeVerdict {
        ProbeVerdict { problem: problem.to_string(), kind: "k".into(), answer: None, detected, corrected: false }
    }

    fn control(problem: usize, false_alarm: bool) -> ControlVerdict {
        ControlVerdict { problem: problem.to_string(), answer: None, false_alarm }
    }

    #[test]
    fn a_model_that_always_rejects_has_no_j() {
        let probes: Vec<_> = (0..50).map(|i| probe(i, true)).collect();
        let controls: Vec<_> = (0..50).map(|i| control(i, true)).collect();
        let summary = summarise(&[], &probes, &controls, &Default::default(), 1);
        assert_eq!(summary.svr.detection.value, Some(1.0));
        assert_eq!((summary.svr.j.value, summary.svr.j.n), (Some(0.0), 50));
    }

    #[test]
    fn the_json_is_the_contracts() {
        let json = serde_json::to_value(Summary::default()).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(keys(&json), "n accuracy rfs rfs_format svr per_stage_accuracy");
        assert_eq!(keys(&json["svr"]), "detection correction false_alarm j live broken net_gain");
        assert_eq!(keys(&json["per_stage_accuracy"]), "understand plan execute verify");
        assert_eq!(keys(&json["svr"]["j"]), "value low high n");
        assert!(json["accuracy"]["value"].is_null());
    }

    #[test]
    fn the_paired_change_is_over_common_problems() {
        let verdict = |problem: &str, correct| ProblemVerdict {
            problem: problem.into(),
            answer: None,
            stated: true,
            correct,
            stages: [true; 4],
            rfs_format: 1.0,
            rfs: None,
            execute_result: None,
            execute_right: None,
            verify_recomputes: false,
            live: false,
            broken: false,
        };
        let base = [verdict("a", false), verdict("b", true)];
        let trained = [verdict("a", true), verdict("b", true), verdict("c", false)];
        let change = paired_accuracy(&base, &trained, 5);
        assert_eq!((change.value, change.n), (Some(0.5), 2));
    }
}
