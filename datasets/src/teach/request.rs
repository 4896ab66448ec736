//! One request to `/chat/completions`, and what its response means.
//!
//! The key goes into a header and nowhere else: it is in no error, no log and no file, also where a server repeats it.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::TeachError;
use super::journal::Reply;
use super::prompt;
use super::questions::Question;
use super::usage::{Usage, estimate};
use crate::network::backoff::retry_after;

/// No response may be longer; a long reply has some hundred thousand bytes.
const RESPONSE_MAX: u64 = 8 << 20;
/// So much of what a server says is told.
const TOLD_MAX: usize = 300;
/// Codes and types of errors that are about one question and not about the request, in the words of several servers.
const OF_ONE_QUESTION: [&str; 6] = [
    "content_filter",
    "content_policy_violation",
    "context_length_exceeded",
    "string_above_max_length",
    "data_inspection_failed",
    "invalid_prompt",
];

/// Which name the limit of a reply's length has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LengthField {
    /// What nearly all servers understand.
    #[value(name = "max_tokens")]
    MaxTokens,
    /// What OpenAI's reasoning models want.
    #[value(name = "max_completion_tokens")]
    MaxCompletionTokens,
}

/// A teacher, and how it is asked.
pub struct Teacher {
    /// The client.
    pub client: ureq::Agent,
    /// `…/chat/completions`.
    pub url: String,
    /// The model's name.
    pub model: String,
    /// The key, if there is one.
    pub key: Option<String>,
    /// The environment variable that it comes from.
    pub key_env: String,
    /// The sampling temperature; the server's own if none.
    pub temperature: Option<f64>,
    /// No reply has more tokens.
    pub max_tokens: u32,
    /// How that is said.
    pub length_field: LengthField,
}

/// What a response means.
#[derive(Debug)]
pub enum Outcome {
    /// A reply.
    Reply(Reply),
    /// Nothing usable; another attempt may bring something, after so long at least if the server says so.
    Trouble {
        /// What went wrong.
        why: String,
        /// What the server asks for.
        retry_after: Option<Duration>,
    },
    /// This question is refused.
    Refused(String),
    /// The server does not accept the request. Whether that is about the question, only others can tell.
    Unclear {
        /// The status.
        status: u16,
        /// What the server said.
        why: String,
    },
    /// No question will get through.
    Fatal(TeachError),
}

impl Teacher {
    /// Asks once.
    pub fn ask(&self, question: &Question) -> Outcome {
        let body = self.body(question).to_string();
        let mut request = self.client.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let trouble = |why: String| Outcome::Trouble { why: self.told(&why), retry_after: None };
        let mut response = match request.send(body.as_bytes()) {
            Ok(response) => response,
            Err(error) => return trouble(error.to_string()),
        };
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let after = header("retry-after").and_then(|value| retry_after(value, SystemTime::now()));
        let location = header("location").unwrap_or("another address").to_owned();
        match response.body_mut().with_config().limit(RESPONSE_MAX).read_to_vec() {
            Err(error) if status < 400 => trouble(error.to_string()),
            _ if matches!(status, 300..=399) => {
                let why = format!("it has moved to {location}");
                Outcome::Fatal(self.address(status, &why))
            }
            body => self.read(question, status, after, &body.unwrap_or_default()),
        }
    }

    /// The request's body.
    pub fn body(&self, question: &Question) -> Value {
        let mut body = json!({ "model": self.model, "messages": prompt::messages(&question.text, &question.language) });
        let length = match self.length_field {
            LengthField::MaxTokens => "max_tokens",
            LengthField::MaxCompletionTokens => "max_completion_tokens",
        };
        body[length] = self.max_tokens.into();
        if let Some(temperature) = self.temperature {
            body["temperature"] = temperature.into();
        }
        body
    }

    /// Tokens that a request may cost, about.
    pub fn reserve(&self, question: &Question) -> u64 {
        estimate(prompt::length(&question.text, &question.language)) + u64::from(self.max_tokens)
    }

    /// What status and body mean.
    fn read(&self, question: &Question, status: u16, retry_after: Option<Duration>, body: &[u8]) -> Outcome {
        let value: Option<Value> = serde_json::from_slice(body).ok();
        let said = value.as_ref().map(|value| &value["error"]).filter(|error| !error.is_null());
        let why = match said {
            Some(error) => {
                error["message"].as_str().or(error.as_str()).map_or_else(|| error.to_string(), str::to_owned)
            }
            None => String::from_utf8_lossy(&body[..body.len().min(TOLD_MAX)]).into_owned(),
        };
        let why = self.told(&why);
        let codes: Vec<&str> =
            said.iter().flat_map(|error| [&error["code"], &error["type"]]).filter_map(Value::as_str).collect();
        let url = self.url.clone();
        match status {
            200..=299 => match (value.as_ref().and_then(|value| self.reply(question, value)), said) {
                (Some(reply), _) => Outcome::Reply(reply),
                (None, Some(_)) => Outcome::Trouble { why: format!("an error with HTTP {status}: {why}"), retry_after },
                (None, None) => {
                    let shape = if value.is_some() { "no choices[0].message" } else { "no JSON" };
                    Outcome::Trouble { why: format!("{shape} in the response: {why}"), retry_after }
                }
            },
            401 | 403 => Outcome::Fatal(TeachError::Key { url, status, why, key_env: self.key_env.clone() }),
            402 => Outcome::Fatal(TeachError::Quota { url, status, why }),
            429 if codes.contains(&"insufficient_quota") => Outcome::Fatal(TeachError::Quota { url, status, why }),
            404 | 405 => Outcome::Fatal(self.address(status, &why)),
            400..=499 if codes.iter().any(|code| OF_ONE_QUESTION.contains(code)) => {
                Outcome::Refused(format!("HTTP {status}: {why}"))
            }
            413 => Outcome::Refused(format!("HTTP {status}: {why}")),
            408 | 409 | 425 | 429 | 500.. => Outcome::Trouble { why: format!("HTTP {status}: {why}"), retry_after },
            _ => Outcome::Unclear { status, why },
        }
    }

    /// The first choice; further ones are not asked for, and not looked at.
    fn reply(&self, question: &Question, value: &Value) -> Option<Reply> {
        let choice = value["choices"].get(0)?;
        let message = choice["message"].as_object()?;
        let text = match message.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            None | Some(Value::Null) => String::new(),
            Some(_) => return None,
        };
        let count = |name: &str| value["usage"][name].as_u64();
        let usage = match (count("prompt_tokens"), count("completion_tokens")) {
            (Some(prompt), Some(completion)) => Usage { prompt, completion, estimated: 0 },
            _ => Usage {
                prompt: estimate(prompt::length(&question.text, &question.language)),
                completion: estimate(text.len()),
                estimated: 1,
            },
        };
        let finish = choice["finish_reason"].as_str().unwrap_or_default().to_owned();
        let model = value["model"].as_str().unwrap_or(&self.model).to_owned();
        Some(Reply { text, finish, model, usage })
    }

    fn address(&self, status: u16, why: &str) -> TeachError {
        TeachError::Address { url: self.url.clone(), status, why: why.to_owned(), model: self.model.clone() }
    }

    /// What a server said, on one line, short, and without the key.
    fn told(&self, text: &str) -> String {
        let text = match &self.key {
            Some(key) if !key.is_empty() => text.replace(key.as_str(), "***"),
            _ => text.to_owned(),
        };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        text.chars().take(TOLD_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{TimeLimits, client};

    fn teacher() -> Teacher {
        Teacher {
            client: client(TimeLimits { whole: None, silence: Duration::from_secs(1) }, 0),
            url: "http://localhost/v1/chat/completions".to_owned(),
            model: "m".to_owned(),
            key: Some("sk-secret".to_owned()),
            key_env: "KEY".to_owned(),
            temperature: Some(0.5),
            max_tokens: 100,
            length_field: LengthField::MaxCompletionTokens,
        }
    }

    fn question() -> Question {
        let (key, id, text, language) = ("k".to_owned(), "own/0".to_owned(), "1+1?".to_owned(), "en".to_owned());
        Question { key, id, text, truth: None, language, solution: None }
    }

    fn read(status: u16, body: &Value) -> Outcome {
        teacher().read(&question(), status, None, body.to_string().as_bytes())
    }

    #[test]
    fn the_body_says_what_was_chosen_and_nothing_else() {
        let body = teacher().body(&question());
        let names: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(names, ["model", "messages", "max_completion_tokens", "temperature"]);
        assert_eq!((&body["max_completion_tokens"], &body["temperature"]), (&json!(100), &json!(0.5)));
    }

    #[test]
    fn a_reply_is_the_first_choice_in_any_of_its_forms() {
        for content in [json!("a b"), json!([{ "type": "text", "text": "a " }, { "type": "text", "text": "b" }])] {
            let choice = json!({ "message": { "content": content }, "finish_reason": "stop" });
            let usage = json!({ "prompt_tokens": 7, "completion_tokens": 2 });
            let Outcome::Reply(reply) = read(200, &json!({ "choices": [choice, choice], "usage": usage })) else {
                panic!()
            };
            assert_eq!((reply.text.as_str(), reply.finish.as_str()), ("a b", "stop"));
            assert_eq!(reply.usage, Usage { prompt: 7, completion: 2, estimated: 0 });
        }
        let silent = json!({ "choices": [{ "message": { "content": null }, "finish_reason": "content_filter" }] });
        let Outcome::Reply(reply) = read(200, &silent) else { panic!() };
        assert_eq!((reply.text.as_str(), reply.usage.estimated), ("", 1));
    }

    #[test]
    fn each_status_has_its_meaning() {
        let error = |code: &str| json!({ "error": { "message": "no: sk-secret\n is wrong", "code": code } });
        for status in [408, 409, 425, 429, 500, 502, 503, 529] {
            assert!(matches!(read(status, &error("x")), Outcome::Trouble { .. }), "{status}");
        }
        for body in
            [json!({}), json!([]), json!("x"), json!({ "choices": [] }), json!({ "choices": [{ "text": "a" }] })]
        {
            assert!(matches!(read(200, &body), Outcome::Trouble { .. }), "{body}");
        }
        assert!(matches!(read(200, &error("overloaded")), Outcome::Trouble { .. }));
        assert!(matches!(read(400, &error("context_length_exceeded")), Outcome::Refused(_)));
        assert!(matches!(read(400, &error("x")), Outcome::Unclear { status: 400, .. }));
        assert!(matches!(read(404, &error("model_not_found")), Outcome::Fatal(TeachError::Address { .. })));
        assert!(matches!(read(429, &error("insufficient_quota")), Outcome::Fatal(TeachError::Quota { .. })));
        let Outcome::Fatal(failure) = read(401, &error("invalid_api_key")) else { panic!() };
        let text = failure.to_string();
        assert!(text.contains("no: *** is wrong") && text.contains("KEY") && failure.code() == 2, "{text}");
    }
}
