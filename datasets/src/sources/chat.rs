//! Plain chat data: `messages` of `role` and `content` (or `conversations` of `from` and `value`). The last user message
//! is the question, the assistant's after it the trace.
//!
//! A reply with the four stages keeps them; any other becomes EXECUTE, with the stages composed around it. The answer is
//! the record's `ground_truth` or `answer`, against which the reply is judged; without one the reply's own final answer.

use serde_json::{Map, Value};

use super::reasons::{Reason, Refusal};
use super::{At, headings, language_of, teacher};
use crate::arithmetic::calculation;
use crate::compose::{self, Problem};
use crate::scores::answer;
use crate::trajectory::Trajectory;

/// Changes when the same bytes would become other trajectories.
pub const VERSION: &str = "chat-3";

/// A record.
pub fn convert(record: &Value, at: &At<'_>) -> Result<Trajectory, Refusal> {
    let (question, reply) = exchange(record)?;
    let (question, reply) = (question.trim(), reply.trim());
    let language = record.get("language").and_then(Value::as_str).unwrap_or_else(|| language_of(question));
    let stated = answer::stated(reply, language);
    let truth = ["ground_truth", "answer"].iter().find_map(|name| teacher::plain(record.get(*name)?));
    let answer = match (truth, stated) {
        (Some(truth), stated) => {
            let predicted = stated.or_else(|| answer::extract(reply, language));
            let predicted = predicted.ok_or_else(|| Reason::NoFinalAnswer.because("no final answer in the reply"))?;
            if !answer::equal(&truth, &predicted, language) {
                return Err(Reason::WrongAnswer.because(format!("`{predicted}`, right is `{truth}`")));
            }
            truth
        }
        (None, Some(stated)) => stated,
        (None, None) => {
            return Err(Reason::NoFinalAnswer.because("the reply states no final answer, and no other is given"));
        }
    };
    if let Ok(stages) = headings::stages(reply) {
        return teacher::finish(record, at, question, stages, &answer, language, "chat");
    }
    let sums = calculation::find_in(reply, language);
    let exact = compose::reaches(&sums, &answer, language);
    let (id, meta) = (at.id(), Map::new());
    let problem =
        Problem { id: &id, source: "chat", split: at.split, question, language, answer: &answer, exact, meta: &meta };
    compose::prose(&problem, reply, &sums).map_err(|error| Reason::NotComposable.because(error.to_string()))
}

/// The last message of a user that an assistant answers, and the answer.
fn exchange<'a>(record: &'a Value) -> Result<(&'a str, &'a str), Refusal> {
    let (list, role, content) = match (record.get("messages"), record.get("conversations")) {
        (Some(list), _) => (list, "role", "content"),
        (None, Some(list)) => (list, "from", "value"),
        (None, None) => return Err(Reason::MissingField.because("no field `messages`")),
    };
    let messages = list.as_array().ok_or_else(|| Reason::NoMessages.because("`messages` is no list"))?;
    let of = |message: &'_ Value| -> Option<bool> {
        match message.get(role)?.as_str()? {
            "user" | "human" => Some(true),
            "assistant" | "gpt" => Some(false),
            _ => None,
        }
    };
    let pair = messages.windows(2).rfind(|pair| (of(&pair[0]), of(&pair[1])) == (Some(true), Some(false)));
    let pair = pair.ok_or_else(|| Reason::NoMessages.because("no user message with an assistant's after it"))?;
    let text = |message: &'a Value| message.get(content).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    match (text(&pair[0]), text(&pair[1])) {
        (Some(question), Some(reply)) => Ok((question, reply)),
        _ => Err(Reason::EmptyField.because(format!("a message without `{content}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn converted(reply: &str, extra: Value) -> Result<Trajectory, Refusal> {
        let mut record = json!({ "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": "4 boxes of 6 pens. How many pens?" },
            { "role": "assistant", "content": reply }
        ] });
        for (key, value) in extra.as_object().unwrap() {
            record[key] = value.clone();
        }
        convert(&record, &At { prefix: "chat/own", split: "own", index: 0, name: None })
    }

    #[test]
    fn a_plain_reply_becomes_execute() {
        let made = converted("4 * 6 = 24 pens.\nFinal Answer: 24", json!({})).unwrap();
        assert_eq!((made.answer.as_str(), made.execute.as_str()), ("24", "4 * 6 = 24 pens.\nFinal Answer: 24"));
        assert!(made.verify.starts_with("1. 24 / 6 = 4\n"));
    }

    #[test]
    fn a_reply_is_judged_by_the_truth_if_there_is_one() {
        assert!(converted("It is 24.", json!({ "answer": 24 })).is_ok());
        assert_eq!(converted("It is 25.", json!({ "answer": 24 })).unwrap_err().reason, Reason::WrongAnswer);
        assert_eq!(converted("Who knows", json!({})).unwrap_err().reason, Reason::NoFinalAnswer);
        assert_eq!(converted("x", json!({ "messages": [] })).unwrap_err().reason, Reason::NoMessages);
    }
}
