//! The questions to ask: the records of any source that `parse` reads, or plain ones, `{"question", "ground_truth"?}`.
//!
//! Of a source's records the question is what its parser makes of it, and the ground truth its answer. A plain record may
//! have `ground_truth` or `answer`, `id` and `language`; without a ground truth the teacher's samples vote.

use std::collections::{HashSet, VecDeque};

use serde_json::Value;

use crate::sources::files::Input;
use crate::sources::parse::{ParseError, Reader};
use crate::sources::reasons::{Reason, Refusal};
use crate::sources::{At, Counts, Place, Reject, Source, detect, language_of, teacher, text};
use crate::split::normalise;
use crate::trajectory::Stage;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Identifies it in the journal: a hash of the normalised text, hexadecimal.
    pub key: String,
    /// The source's id.
    pub id: String,
    /// The text.
    pub text: String,
    /// The right answer, where it is known.
    pub truth: Option<String>,
    /// Language tag.
    pub language: String,
    /// The source's own solution.
    pub solution: Option<String>,
}

/// What the files hold.
#[derive(Debug, Default)]
pub struct Questions {
    /// In the files' order, each problem once.
    pub list: Vec<Question>,
    /// `kept` are the questions.
    pub counts: Counts,
    /// The refused ones.
    pub rejects: Vec<Reject>,
    /// What each file was read as.
    pub files: Vec<(Input, &'static str)>,
}

/// Reads all files; the format is told from each one's first records if it is not given.
///
/// # Errors
/// A file that cannot be read on, and one of which nothing tells what it is.
pub fn read(inputs: &[Input], source: Option<Source>) -> Result<Questions, ParseError> {
    let mut questions = Questions::default();
    let mut seen = HashSet::new();
    for input in inputs {
        read_file(input, source, &mut seen, &mut questions)?;
    }
    Ok(questions)
}

fn read_file(
    input: &Input,
    source: Option<Source>,
    seen: &mut HashSet<String>,
    questions: &mut Questions,
) -> Result<(), ParseError> {
    let unreadable = |reason| ParseError::Unreadable { path: input.path.clone(), reason };
    let mut reader = Reader::open(&input.path).map_err(unreadable)?;
    let mut first = VecDeque::new();
    while first.len() < detect::RECORDS {
        let Some(raw) = reader.next().map_err(unreadable)? else { break };
        first.push_back(raw);
    }
    let values: Vec<Value> = first.iter().filter_map(|raw| raw.value().ok()).collect();
    let found = source.or_else(|| detect::source(&values).map(|(source, _)| source));
    if found.is_none() && !values.iter().any(|value| value.get("question").is_some_and(Value::is_string)) {
        return Err(ParseError::UnknownSource(input.path.clone()));
    }
    questions.files.push((input.clone(), found.map_or("plain questions", Source::name)));
    let split = input.split();
    let name = input.name().filter(|name| *name != split);
    let prefix = format!("{}/{split}", found.map_or("questions", Source::name));
    while let Some(raw) = match first.pop_front() {
        Some(raw) => Some(raw),
        None => reader.next().map_err(unreadable)?,
    } {
        let (line, byte, index) = raw.place();
        let at = At { prefix: &prefix, split: &split, index, name: name.as_deref() };
        questions.counts.read += 1;
        match raw.value().and_then(|value| question(&value, found, &at)) {
            Ok(question) if seen.contains(&question.key) => questions.counts.duplicates += 1,
            Ok(question) => {
                questions.counts.kept += 1;
                seen.insert(question.key.clone());
                questions.list.push(question);
            }
            Err(Refusal { reason, detail }) => {
                *questions.counts.rejected.entry(reason.code()).or_default() += 1;
                let place = Place { source: input.path.display().to_string(), line, byte };
                let reject = Reject { place, reason: reason.code(), detail, snippet: raw.snippet() };
                questions.rejects.push(reject);
            }
        }
    }
    Ok(())
}

/// One record. What a teacher once answered, and what no source claims, is read as a plain question.
fn question(record: &Value, source: Option<Source>, at: &At<'_>) -> Result<Question, Refusal> {
    let made = match source.filter(|source| *source != Source::Teacher) {
        Some(source) => {
            let trajectory = source.convert(record, at)?;
            let solution = match source {
                Source::Gsm8k => "answer",
                Source::Math => "solution",
                Source::Vnhsge => "Explanation",
                Source::Teacher | Source::Chat | Source::Trajectories => "original_solution",
            };
            Question {
                key: key(&trajectory.question),
                id: trajectory.id,
                text: trajectory.question,
                truth: Some(trajectory.answer),
                language: trajectory.language,
                solution: record.get(solution).and_then(Value::as_str).map(str::to_owned),
            }
        }
        None => {
            let text = text(record, "question")?.trim();
            let language = record.get("language").and_then(Value::as_str).unwrap_or_else(|| language_of(text));
            Question {
                key: key(text),
                id: record.get("id").and_then(teacher::plain).unwrap_or_else(|| at.id()),
                text: text.to_owned(),
                truth: ["ground_truth", "answer"].iter().find_map(|name| teacher::plain(record.get(*name)?)),
                language: language.to_owned(),
                solution: record.get("original_solution").and_then(Value::as_str).map(str::to_owned),
            }
        }
    };
    let tags = Stage::ALL.map(Stage::tag);
    match made.text.lines().find(|line| tags.contains(&line.trim())) {
        Some(line) => Err(Reason::HoldsATag.because(line)),
        None => Ok(made),
    }
}

fn key(question: &str) -> String {
    blake3::hash(normalise(question).as_bytes()).to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(name: &str, text: &str) -> Result<Questions, ParseError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&[Input { path, below: None }], None)
    }

    #[test]
    fn sources_give_their_answers_and_plain_questions_what_they_have() {
        let rows = r#"{"question": "Lan has 2 pens and buys 3. How many?", "answer": "2+3=<<2+3=5>>5\n#### 5"}"#;
        let gsm8k = read_text("train.jsonl", rows).unwrap();
        let question = &gsm8k.list[0];
        assert_eq!((question.id.as_str(), question.truth.as_deref()), ("gsm8k/train/0", Some("5")));
        assert!(question.solution.as_ref().unwrap().ends_with("#### 5"));
        let rows = "{\"question\": \"Có bao nhiêu số chẵn dưới 10?\"}\n{\"id\": 7, \"question\": \"1+1?\", \"answer\": 2}\n\
                    {\"question\": \" 1+1? \"}\n{\"question\": \"\"}\n{\"question\": \"a\\n#### PLAN ####\\nb\"}\noops\n";
        let plain = read_text("mine.jsonl", rows).unwrap();
        let told: Vec<_> =
            plain.list.iter().map(|q| (q.id.as_str(), q.truth.as_deref(), q.language.as_str())).collect();
        assert_eq!(told, [("questions/mine/0", None, "vi"), ("7", Some("2"), "en")]);
        assert!(plain.counts.add_up());
        let reasons: Vec<_> = plain.rejects.iter().map(|reject| (reject.place.line, reject.reason)).collect();
        assert_eq!(
            (plain.counts.duplicates, reasons),
            (1, vec![(4, "empty_field"), (5, "holds_a_tag"), (6, "not_json")])
        );
    }

    #[test]
    fn a_file_without_questions_is_named() {
        assert!(matches!(read_text("a.jsonl", "{\"a\": 1}\n"), Err(ParseError::UnknownSource(_))));
    }
}
