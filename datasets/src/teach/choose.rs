//! From samples to at most one solution a question: the filters of a teacher file, a vote, a choice.
//!
//! Each sample goes through the parser of teacher files (syntax, math, consistency). Without a ground truth a sample is
//! judged by its own answer, and the samples that pass vote: the answer that most of them give is taken as the truth, a tie
//! has no winner. Among those that are left the best one is kept: first with a graph that makes the answer, then with the
//! fewest false calculations in EXECUTE, then with a VERIFY that calculates, then the shortest, then the first.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::journal::{Answered, Reply, SampleKey};
use super::questions::Question;
use crate::arithmetic::calculation;
use crate::graph;
use crate::scores::answer;
use crate::sources::reasons::{Reason, Refusal};
use crate::sources::{At, Source, headings};
use crate::trajectory::Trajectory;

/// Reasons beside those of the parser (`datasets parse --reasons`).
pub const REASONS: [(&str, &str); 4] = [
    ("refused", "The server refuses the question."),
    ("cut_off", "The reply was cut at --max-tokens."),
    ("outvoted", "More samples give another answer, and there is no ground truth."),
    ("no_majority", "As many samples give another answer, and there is no ground truth."),
];

/// A reply that was not good enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// The question's id.
    pub id: String,
    /// The question.
    pub question: String,
    /// The sample's number, from 0.
    pub sample: u32,
    /// A code of the parser's table or of [`REASONS`].
    pub reason: &'static str,
    /// What exactly was wrong.
    pub detail: String,
    /// The reply.
    pub reply: String,
}

/// What became of questions and samples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Questions with a solution.
    pub kept: u64,
    /// Questions of which no sample was good enough.
    pub rejected: u64,
    /// Questions without any sample.
    pub unanswered: u64,
    /// Samples that were good enough, beside the kept one.
    pub surplus_samples: u64,
    /// Samples that were not, by reason.
    pub rejected_samples: BTreeMap<&'static str, u64>,
}

/// The teacher file, and what did not get into it.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Rows of the teacher file, in the questions' order.
    pub rows: Vec<Value>,
    /// The rejected replies, in the same order.
    pub rejected: Vec<Rejected>,
    /// The sums.
    pub counts: Counts,
}

/// A sample that passed.
struct Candidate<'a> {
    sample: u32,
    reply: &'a Reply,
    predicted: String,
    trajectory: Trajectory,
}

/// Chooses for each question from all samples that there are.
pub fn choose(questions: &[Question], answers: &BTreeMap<SampleKey, Answered>) -> Chosen {
    let mut chosen = Chosen::default();
    for question in questions {
        let samples: Vec<(u32, &Answered)> = answers
            .range((question.key.clone(), 0)..=(question.key.clone(), u32::MAX))
            .map(|((_, sample), answered)| (*sample, answered))
            .collect();
        chosen.add(question, &samples);
    }
    chosen
}

impl Chosen {
    fn add(&mut self, question: &Question, samples: &[(u32, &Answered)]) {
        let mut candidates = Vec::new();
        for (sample, answered) in samples {
            match answered {
                Answered::Refused(why) => self.reject(question, *sample, ("refused", why.clone()), ""),
                Answered::Reply(reply) => match judge(question, reply) {
                    Ok((predicted, trajectory)) => {
                        candidates.push(Candidate { sample: *sample, reply, predicted, trajectory });
                    }
                    Err(why) => self.reject(question, *sample, why, &reply.text),
                },
            }
        }
        let mut votes = None;
        if question.truth.is_none() {
            votes = Some(candidates.len());
            let (winners, losers) = vote(candidates, &question.language);
            for (candidate, why) in losers {
                self.reject(question, candidate.sample, why, &candidate.reply.text);
            }
            candidates = winners;
        }
        let best = candidates.iter().max_by_key(|candidate| rank(candidate));
        match best {
            Some(best) => {
                self.counts.kept += 1;
                self.counts.surplus_samples += candidates.len() as u64 - 1;
                let votes = votes.map(|of| json!({ "for": candidates.len(), "of": of }));
                self.rows.push(row(question, best, &candidates[0].predicted, votes));
            }
            None if samples.is_empty() => self.counts.unanswered += 1,
            None => self.counts.rejected += 1,
        }
    }

    fn reject(&mut self, question: &Question, sample: u32, (reason, detail): (&'static str, String), reply: &str) {
        *self.counts.rejected_samples.entry(reason).or_default() += 1;
        let (id, text, reply) = (question.id.clone(), question.text.clone(), reply.to_owned());
        self.rejected.push(Rejected { id, question: text, sample, reason, detail, reply });
    }
}

/// The answer that a reply gives, and its trajectory; or why it is not good enough.
fn judge(question: &Question, reply: &Reply) -> Result<(String, Trajectory), (&'static str, String)> {
    if reply.finish == "length" {
        return Err(("cut_off", format!("after {} tokens", reply.usage.completion)));
    }
    let refused = |refusal: Refusal| (refusal.reason.code(), refusal.detail);
    let stages = headings::stages(&reply.text).map_err(refused)?;
    let predicted = answer::stated(&reply.text, &question.language)
        .or_else(|| answer::extract(&stages[3], &question.language))
        .ok_or_else(|| refused(Reason::NoFinalAnswer.because("no final answer in the reply")))?;
    let record = json!({
        "question": question.text, "full_response": reply.text, "language": question.language,
        "ground_truth": question.truth.as_ref().unwrap_or(&predicted),
    });
    let at = At { prefix: "teacher", split: "", index: 0, name: None };
    Source::Teacher.convert(&record, &at).map(|trajectory| (predicted, trajectory)).map_err(refused)
}

type Outvoted<'a> = Vec<(Candidate<'a>, (&'static str, String))>;

/// The candidates with the answer that most of them give, and the others. Of equal numbers none wins.
fn vote<'a>(candidates: Vec<Candidate<'a>>, language: &str) -> (Vec<Candidate<'a>>, Outvoted<'a>) {
    let mut parties: Vec<Vec<Candidate<'a>>> = Vec::new();
    for candidate in candidates {
        let same = |party: &&mut Vec<Candidate<'a>>| answer::equal(&party[0].predicted, &candidate.predicted, language);
        match parties.iter_mut().find(same) {
            Some(party) => party.push(candidate),
            None => parties.push(vec![candidate]),
        }
    }
    let most = parties.iter().map(Vec::len).max().unwrap_or(0);
    let tie = parties.iter().filter(|party| party.len() == most).count() > 1;
    let (mut winners, mut losers) = (Vec::new(), Vec::new());
    for party in parties {
        if party.len() == most && !tie {
            winners = party;
            continue;
        }
        let reason = if party.len() == most { "no_majority" } else { "outvoted" };
        let detail = format!("`{}` by {} of the samples, {most} at most agree", party[0].predicted, party.len());
        losers.extend(party.into_iter().map(|candidate| (candidate, (reason, detail.clone()))));
    }
    losers.sort_by_key(|(candidate, _)| candidate.sample);
    (winners, losers)
}

/// The greater, the better.
fn rank(candidate: &Candidate<'_>) -> impl Ord + use<> {
    let trajectory = &candidate.trajectory;
    let sums = |text: &str| calculation::find_in(text, &trajectory.language);
    let wrong = sums(&trajectory.execute).iter().filter(|sum| !sum.holds()).count();
    let checks = !sums(&trajectory.verify).is_empty();
    let length = candidate.reply.text.len();
    (graph::of(trajectory).exact, Reverse(wrong), checks, Reverse(length), Reverse(candidate.sample))
}

/// A row of the teacher file. `voted` is the truth where nobody knows it.
fn row(question: &Question, best: &Candidate<'_>, voted: &str, votes: Option<Value>) -> Value {
    let stages = &best.trajectory;
    let mut row = json!({ "id": question.id, "question": question.text });
    if let Some(solution) = &question.solution {
        row["original_solution"] = solution.clone().into();
    }
    row["cot_4steps"] = json!({
        "understand": stages.understand, "plan": stages.plan, "execute": stages.execute, "verify": stages.verify,
    });
    row["model_prediction"] = best.predicted.clone().into();
    row["ground_truth"] = question.truth.as_deref().unwrap_or(voted).into();
    match votes {
        None => row["is_correct"] = true.into(),
        Some(votes) => row["votes"] = votes,
    }
    row["full_response"] = best.reply.text.clone().into();
    row["language"] = question.language.clone().into();
    row["teacher"] = best.reply.model.clone().into();
    row["sample"] = best.sample.into();
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::teach::usage::Usage;

    fn question(truth: Option<&str>) -> Question {
        let text = "4 boxes of 6 pens. How many pens?".to_owned();
        let (key, id, language) = ("k".to_owned(), "own/0".to_owned(), "en".to_owned());
        Question { key, id, text, truth: truth.map(str::to_owned), language, solution: None }
    }

    fn solution(execute: &str, verify: &str, answer: &str) -> Answered {
        let text = format!(
            "#### UNDERSTAND ####\n4 boxes, 6 pens each.\n\n#### PLAN ####\n1. Multiply 4 by 6.\n\n\
             #### EXECUTE ####\n{execute}\n\n#### VERIFY ####\n{verify}\n\nFinal Answer: {answer}"
        );
        reply(&text, "stop")
    }

    fn reply(text: &str, finish: &str) -> Answered {
        let usage = Usage { prompt: 1, completion: 9, estimated: 0 };
        Answered::Reply(Reply { text: text.to_owned(), finish: finish.to_owned(), model: "m-1".to_owned(), usage })
    }

    fn chosen(truth: Option<&str>, samples: &[Answered]) -> Chosen {
        let answers =
            (0..).zip(samples).map(|(number, answered)| (("k".to_owned(), number), answered.clone())).collect();
        let chosen = choose(&[question(truth)], &answers);
        let counts = &chosen.counts;
        let judged = counts.kept + counts.surplus_samples + counts.rejected_samples.values().sum::<u64>();
        assert_eq!(judged, samples.len() as u64, "every sample is accounted for");
        assert_eq!(counts.kept + counts.rejected + counts.unanswered, 1);
        chosen
    }

    #[test]
    fn the_best_of_those_that_pass_is_kept_and_the_others_have_reasons() {
        let (good, check) = ("1. 4 * 6 = 24", "24 / 6 = 4, as given.");
        let samples = [
            solution(good, check, "25"),
            solution(good, "It is right, and this is long enough to be longer.", "24"),
            solution("1. 4 * 6 = 24 and 4 + 6 = 11", check, "24"),
            solution(good, check, "24"),
            reply("I cannot say.", "stop"),
            reply("#### UNDERSTAND ####\n4", "length"),
            Answered::Refused("HTTP 400: no".to_owned()),
        ];
        let chosen = chosen(Some("24"), &samples);
        assert_eq!((&chosen.rows[0]["sample"], &chosen.rows[0]["is_correct"]), (&json!(3), &json!(true)));
        assert_eq!(chosen.counts.surplus_samples, 2);
        let reasons: Vec<(u32, &str)> = chosen.rejected.iter().map(|reply| (reply.sample, reply.reason)).collect();
        assert_eq!(reasons, [(0, "wrong_answer"), (4, "stage_missing"), (5, "cut_off"), (6, "refused")]);
    }

    #[test]
    fn without_a_truth_the_majority_decides() {
        let of = |answer: &str| solution("1. 4 * 6 = 24", "24 / 6 = 4.", answer);
        let made = chosen(None, &[of("25"), of("24"), of("24.0"), reply("?", "stop")]);
        let row = &made.rows[0];
        assert_eq!((&row["ground_truth"], &row["votes"]), (&json!("24"), &json!({ "for": 2, "of": 3 })));
        assert_eq!(row.get("is_correct"), None, "nobody knows");
        let reasons: Vec<(u32, &str)> = made.rejected.iter().map(|reply| (reply.sample, reply.reason)).collect();
        assert_eq!(reasons, [(3, "stage_missing"), (0, "outvoted")]);
        let tie = chosen(None, &[of("25"), of("24")]);
        assert_eq!((tie.rows.len(), tie.counts.rejected), (0, 1));
        assert!(tie.rejected.iter().all(|reply| reply.reason == "no_majority"));
        assert_eq!(chosen(None, &[of("24")]).counts.kept, 1);
        assert_eq!(chosen(None, &[]).counts.unanswered, 1);
    }

    #[test]
    fn a_row_is_read_back_as_the_same_trajectory() {
        let made = chosen(Some("24"), &[solution("1. 4 * 6 = 24", "24 / 6 = 4.", "24")]);
        let at = At { prefix: "teacher/own", split: "own", index: 0, name: None };
        let read = Source::Teacher.convert(&made.rows[0], &at).unwrap();
        assert_eq!(
            (read.execute.as_str(), read.verify.as_str(), read.answer.as_str()),
            ("1. 4 * 6 = 24", "24 / 6 = 4.", "24")
        );
    }
}
