//! A teacher model's JSON Lines: `{"id", "question", "cot_4steps": {…}, "ground_truth", "is_correct", "full_response"}`,
//! or the trace as text in `full_response` with tags or headings (recipe: the published loader's three forms).
//!
//! Three filters in this order. *Syntax*: four stages, in order, none empty. *Math*: the trace's final answer equals
//! `ground_truth`. *Consistency*: every number that PLAN names (list marks and `step 2` aside) stands in EXECUTE, as it
//! is or as a percentage of it.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::reasons::{Reason, Refusal};
use super::{At, headings, language_of, text};
use crate::arithmetic::{Exact, calculation, number};
use crate::compose;
use crate::scores::answer;
use crate::trajectory::Trajectory;

/// Changes when the same bytes would become other trajectories.
pub const VERSION: &str = "teacher-1";
/// Names of the stages in `cot_4steps`.
const KEYS: [&str; 4] = ["understand", "plan", "execute", "verify"];
/// Fields that hold the trace as text, the first that is there counts.
const RESPONSES: [&str; 4] = ["full_response", "response", "solution", "output"];

/// A record.
pub fn convert(record: &Value, at: &At<'_>) -> Result<Trajectory, Refusal> {
    let question = text(record, "question")?.trim();
    let response = RESPONSES.iter().find_map(|name| record.get(*name)?.as_str());
    let stages = match record.get("cot_4steps") {
        Some(Value::Object(object)) => from_object(object)?,
        _ => {
            let response = response.ok_or_else(|| {
                Reason::MissingField.because(format!("neither `cot_4steps` nor one of {}", RESPONSES.join(", ")))
            })?;
            headings::stages(response)?
        }
    };
    let truth = ["ground_truth", "answer"].iter().find_map(|name| plain(record.get(*name)?));
    let truth = truth.ok_or_else(|| Reason::NoGroundTruth.because("no `ground_truth`"))?;
    if record.get("is_correct") == Some(&Value::Bool(false)) {
        return Err(Reason::MarkedWrong.because("`is_correct` is false"));
    }
    let language = record.get("language").and_then(Value::as_str).unwrap_or_else(|| language_of(question));
    let predicted = response
        .and_then(|response| answer::stated(response, language))
        .or_else(|| record.get("model_prediction").and_then(plain))
        .or_else(|| answer::extract(&stages[3], language))
        .ok_or_else(|| Reason::NoFinalAnswer.because("no final answer in the trace"))?;
    if !answer::equal(&truth, &predicted, language) {
        return Err(Reason::WrongAnswer.because(format!("`{predicted}`, right is `{truth}`")));
    }
    finish(record, at, question, stages, &truth, language, "teacher")
}

/// The consistency filter, and the trajectory.
pub(super) fn finish(
    record: &Value,
    at: &At<'_>,
    question: &str,
    stages: [String; 4],
    truth: &str,
    language: &str,
    source: &str,
) -> Result<Trajectory, Refusal> {
    let [understand, plan, execute, verify] = stages;
    let verify = without_answer(&verify);
    for (stage, body) in KEYS.iter().zip([&understand, &plan, &execute, &verify]) {
        if body.trim().is_empty() {
            return Err(Reason::StageEmpty.because(*stage));
        }
    }
    consistent(&plan, &execute)?;
    let exact = compose::reaches(&calculation::find_in(&execute, language), truth, language);
    let mut meta = Map::new();
    meta.insert("exact".to_owned(), exact.into());
    if let Some(id) = record.get("id").and_then(plain) {
        meta.insert("id".to_owned(), id.into());
    }
    Ok(Trajectory {
        id: at.id(),
        source: source.to_owned(),
        split: at.split.to_owned(),
        question: question.to_owned(),
        understand: understand.trim().to_owned(),
        plan: plan.trim().to_owned(),
        execute: execute.trim().to_owned(),
        verify,
        answer: truth.trim().to_owned(),
        language: language.to_owned(),
        corrective: false,
        planted: None,
        weights: None,
        meta: Value::Object(meta).to_string(),
    })
}

/// A text or a number as text; nothing if it says nothing.
pub(crate) fn plain(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn from_object(object: &Map<String, Value>) -> Result<[String; 4], Refusal> {
    let body = |name: &str| match object.get(name) {
        None => Err(Reason::StageMissing.because(format!("`cot_4steps.{name}`"))),
        Some(Value::String(text)) if text.trim().is_empty() => Err(Reason::StageEmpty.because(name)),
        Some(Value::String(text)) => Ok(text.trim().to_owned()),
        Some(_) => Err(Reason::NotAString.because(format!("`cot_4steps.{name}`"))),
    };
    let [a, b, c, d] = KEYS.map(body);
    Ok([a?, b?, c?, d?])
}

/// VERIFY without the line that states the answer in the canonical form: it is written again.
fn without_answer(verify: &str) -> String {
    let lines: Vec<&str> = verify.lines().filter(|line| !line.trim_start().starts_with("Final Answer:")).collect();
    lines.join("\n").trim().to_owned()
}

fn consistent(plan: &str, execute: &str) -> Result<(), Refusal> {
    let used = numbers(execute);
    let hundred = number::hundred();
    for named in numbers(plan) {
        let as_percent = [&named / &hundred, &named * &hundred];
        if !used.contains(&named) && as_percent.iter().all(|other| !used.contains(other)) {
            return Err(Reason::PlanNotExecuted.because(number::decimal(&named)));
        }
    }
    Ok(())
}

/// The numbers of a text, without list marks and the numbers of steps.
fn numbers(text: &str) -> BTreeSet<Exact> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let line = line.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '-' | '*' | '•'));
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        let mark =
            digits > 0 && matches!(&line.as_bytes()[digits..], [b'.' | b')' | b':'] | [b'.' | b')' | b':', b' ', ..]);
        let mut at = if mark { digits } else { 0 };
        while at < line.len() {
            let Some(rest) = line.get(at..).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) else {
                at += 1;
                continue;
            };
            let Some((value, length)) = number::scan(rest) else {
                at += rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count().max(1);
                continue;
            };
            let before = line[..at].trim_end().to_lowercase();
            if !["step", "steps", "bước", "stage"].iter().any(|word| before.ends_with(word)) {
                found.insert(value);
            }
            at += length;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at() -> At<'static> {
        At { prefix: "teacher/own", split: "own", index: 0, name: None }
    }

    fn record(extra: Value) -> Value {
        let mut record = json!({
            "question": "4 boxes of 6 pens. How many pens?",
            "cot_4steps": {
                "understand": "4 boxes, 6 pens each.", "plan": "1. Multiply 4 by 6.",
                "execute": "1. 4 * 6 = 24", "verify": "24 / 6 = 4.\nFinal Answer: 24"
            },
            "ground_truth": 24, "model_prediction": "24", "is_correct": true
        });
        for (key, value) in extra.as_object().unwrap() {
            record[key] = value.clone();
        }
        record
    }

    #[test]
    fn a_record_with_four_stages_is_kept_as_it_is() {
        let made = convert(&record(json!({})), &at()).unwrap();
        assert_eq!((made.verify.as_str(), made.answer.as_str()), ("24 / 6 = 4.", "24"));
        assert!(made.meta.contains("\"exact\":true"));
    }

    #[test]
    fn text_in_headings_is_the_same_record() {
        let response = "**Understand**\n4 boxes, 6 pens each.\n**Plan**\n1. Multiply 4 by 6.\n**Execute**\n1. 4 * 6 = 24\n\
                        **Verify**\n24 / 6 = 4.\nFinal Answer: 24";
        let of_text = convert(&record(json!({ "cot_4steps": null, "full_response": response })), &at()).unwrap();
        assert_eq!(of_text.canonical(), convert(&record(json!({})), &at()).unwrap().canonical());
    }

    #[test]
    fn each_filter_has_its_reasons() {
        let stages = |name: &str, body: &str| {
            let mut stages = record(json!({}))["cot_4steps"].clone();
            stages[name] = body.into();
            json!({ "cot_4steps": stages })
        };
        let cases = [
            (stages("plan", " "), Reason::StageEmpty),
            (stages("verify", "Final Answer: 24"), Reason::StageEmpty),
            (stages("plan", "1. Multiply 4 by 7."), Reason::PlanNotExecuted),
            (json!({ "cot_4steps": { "plan": "x" } }), Reason::StageMissing),
            (json!({ "is_correct": false }), Reason::MarkedWrong),
            (json!({ "ground_truth": null }), Reason::NoGroundTruth),
            (json!({ "model_prediction": "25" }), Reason::WrongAnswer),
            (json!({ "cot_4steps": null }), Reason::MissingField),
            (json!({ "question": 3 }), Reason::NotAString),
        ];
        for (extra, expected) in cases {
            assert_eq!(convert(&record(extra.clone()), &at()).unwrap_err().reason, expected, "{extra}");
        }
    }

    #[test]
    fn percentages_and_step_numbers_are_no_contradiction() {
        assert!(consistent("Step 1: take 20% of 50\n2. double step 1", "0.2 * 50 = 10\n10 * 2 = 20").is_ok());
        assert!(consistent("1. Divide 9 by 2.", "9 / 3 = 3").is_err());
    }
}
