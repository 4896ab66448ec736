//! Which source a file is of, told by the names in its first records.

use serde_json::Value;

use super::Source;

/// Records that are looked at.
pub const RECORDS: usize = 20;

/// The source of the first record that is one, with what told it.
pub fn source(records: &[Value]) -> Option<(Source, &'static str)> {
    records.iter().find_map(of_record)
}

fn of_record(record: &Value) -> Option<(Source, &'static str)> {
    let has = |name: &str| record.get(name).is_some_and(|value| !value.is_null());
    if has("understand") && has("plan") && has("execute") && has("verify") {
        return Some((Source::Trajectories, "fields `understand`, `plan`, `execute`, `verify`"));
    }
    if has("cot_4steps") {
        return Some((Source::Teacher, "field `cot_4steps`"));
    }
    if has("full_response") && has("question") {
        return Some((Source::Teacher, "fields `question`, `full_response`"));
    }
    if has("messages") || has("conversations") {
        return Some((Source::Chat, "field `messages` or `conversations`"));
    }
    if has("Question") && has("Choice") && has("Explanation") {
        return Some((Source::Vnhsge, "fields `Question`, `Choice`, `Explanation`"));
    }
    if has("problem") && has("solution") {
        return Some((Source::Math, "fields `problem`, `solution`"));
    }
    let answer = record.get("answer").and_then(Value::as_str).unwrap_or_default();
    if has("question") && answer.contains("####") {
        return Some((Source::Gsm8k, "fields `question`, `answer`, and `####` in the answer"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_source_is_known_by_its_names() {
        let cases = [
            (json!({ "question": "q", "answer": "a\n#### 3" }), Some(Source::Gsm8k)),
            (json!({ "question": "q", "answer": "3" }), None),
            (json!({ "problem": "q", "solution": "a" }), Some(Source::Math)),
            (json!({ "Question": "q", "Choice": "A", "Explanation": "e" }), Some(Source::Vnhsge)),
            (json!({ "question": "q", "full_response": "a" }), Some(Source::Teacher)),
            (json!({ "question": "q", "cot_4steps": {} }), Some(Source::Teacher)),
            (json!({ "messages": [] }), Some(Source::Chat)),
            (json!([1]), None),
        ];
        for (record, expected) in cases {
            assert_eq!(source(&[Value::Null, record.clone()]).map(|(source, _)| source), expected, "{record}");
        }
    }
}
