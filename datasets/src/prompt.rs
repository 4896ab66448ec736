//! What stands before a solution: the plain form, or what an instruct base's chat template makes of the question.
//!
//! The solution itself is the same text in both, so its stages are the same byte ranges, moved by what the forms differ
//! in length. Source of the templates' language: transformers, `utils/chat_template_utils.py`.

use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, context};
use tokenizers::Tokenizer;

use crate::tokens::{self, Tag, TokenError};
use crate::trajectory::{Canonical, Stage, Trajectory, prompt};

/// Name of the form in configurations and adapters.
pub const PLAIN: &str = "plain";
/// The same of the other one.
pub const CHAT: &str = "chat";

const TEMPLATE: &str = "chat_template.jinja";
const CONFIG: &str = "tokenizer_config.json";
/// Special tokens that a template may name.
const SPECIAL: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];

/// A base without a usable chat template; names the file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct PromptError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// How a question is asked.
#[derive(Debug)]
pub enum PromptForm {
    /// `Question: …`, `Solution:`.
    Plain,
    /// As the base was taught to be asked.
    Chat(Box<ChatTemplate>),
}

/// A base's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    environment: Environment<'static>,
    /// The token that ends a turn.
    end: Option<String>,
}

impl PromptForm {
    /// The form with a name, for the base in a folder: `plain` needs nothing of it.
    pub fn of_name(name: &str, base: &Path) -> Result<Self, PromptError> {
        match name {
            CHAT => Ok(PromptForm::Chat(Box::new(ChatTemplate::read(base)?))),
            _ => Ok(PromptForm::Plain),
        }
    }

    /// The prompt of a question: everything before the first tag.
    pub fn prompt(&self, question: &str) -> Result<String, PromptError> {
        match self {
            PromptForm::Plain => Ok(prompt(question)),
            PromptForm::Chat(template) => template.ask(question),
        }
    }

    /// A text that begins with the plain prompt of the question, with this form's instead.
    pub fn replace(&self, question: &str, text: String) -> Result<String, PromptError> {
        match self {
            PromptForm::Plain => Ok(text),
            PromptForm::Chat(template) => Ok(template.ask(question)? + &text[prompt(question).len()..]),
        }
    }

    /// A trajectory's text in this form with its stages, and by how many bytes it is longer than the canonical one.
    pub fn canonical(&self, trajectory: &Trajectory) -> Result<(Canonical, isize), PromptError> {
        let Canonical { text, stages } = trajectory.canonical();
        let before = text.len();
        let text = self.replace(&trajectory.question, text)?;
        let longer = text.len() as isize - before as isize;
        let moved = |byte: usize| byte.strict_add_signed(longer);
        let stages = stages.map(|stage| moved(stage.start)..moved(stage.end));
        Ok((Canonical { text, stages }, longer))
    }

    /// The token that ends a solution: the template's own, so that a base ends as it was taught to.
    pub fn end(&self, tokenizer: &Tokenizer) -> Result<u32, TokenError> {
        let named = match self {
            PromptForm::Plain => None,
            PromptForm::Chat(template) => template.end.as_deref().and_then(|text| tokenizer.token_to_id(text)),
        };
        named.map_or_else(|| tokens::end_of_text(tokenizer), Ok)
    }

    /// Refuses a template whose last characters become one token with the first tag.
    pub fn check(&self, tokenizer: &Tokenizer, first: &Tag) -> Result<(), PromptError> {
        let PromptForm::Chat(template) = self else { return Ok(()) };
        let refused = |reason: String| PromptError { path: template.path.clone(), reason };
        let before = self.prompt("How many?")?;
        let tag = format!("{}\n", Stage::Understand.tag());
        let alone = tokens::stands_alone(tokenizer, &before, &tag, "Given", &first.line);
        match alone.map_err(|error| refused(error.to_string()))? {
            true => Ok(()),
            false => Err(refused(format!("its prompt runs into the tag behind it; use data.prompt = \"{PLAIN}\""))),
        }
    }
}

impl ChatTemplate {
    /// Of a Hugging Face folder: `chat_template.jinja`, else what tokenizer_config.json says.
    fn read(base: &Path) -> Result<Self, PromptError> {
        let path = base.join(CONFIG);
        let wrong = |path: &Path, reason: String| PromptError { path: path.to_owned(), reason };
        let bytes = std::fs::read(&path).map_err(|error| wrong(&path, error.to_string()))?;
        let config: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| wrong(&path, error.to_string()))?;
        let text = |name: &str| config[name].as_str().or_else(|| config[name]["content"].as_str()).map(str::to_owned);
        let own = base.join(TEMPLATE);
        let (path, source) = match std::fs::read_to_string(&own) {
            Ok(source) => (own, Some(source)),
            Err(_) => (path, named_template(&config["chat_template"])),
        };
        let missing = || {
            wrong(&path, format!("the base has no `chat_template`; use data.prompt = \"{PLAIN}\", or an instruct base"))
        };
        let special = SPECIAL.iter().filter_map(|name| Some((*name, text(name)?)));
        let environment = environment(source.ok_or_else(missing)?, special);
        let environment = environment.map_err(|error| wrong(&path, told(&error)))?;
        Ok(ChatTemplate { environment, end: text("eos_token"), path })
    }

    /// What the base is asked: the question as the user's only message, and the beginning of the answer.
    fn ask(&self, question: &str) -> Result<String, PromptError> {
        let render = || {
            let messages: Value = [context! { role => "user", content => question }].into_iter().collect();
            // transformers names what it was not given: `tools is not none` must be false.
            let given = context! { messages, tools => (), documents => (), add_generation_prompt => true };
            self.environment.get_template(TEMPLATE)?.render(given)
        };
        let wrong = |reason: String| PromptError { path: self.path.clone(), reason };
        let text = render().map_err(|error| wrong(told(&error)))?;
        match text.contains(question) {
            true => Ok(text),
            false => Err(wrong("the template does not put the question into the prompt as it is".to_owned())),
        }
    }
}

/// `chat_template` is a text, or a list of named ones.
fn named_template(value: &serde_json::Value) -> Option<String> {
    let of_list = || value.as_array()?.iter().find(|entry| entry["name"] == "default")?["template"].as_str();
    value.as_str().or_else(of_list).map(str::to_owned)
}

/// As transformers renders: blocks take their line, methods of Python's texts work, and a template may refuse. There is no
/// clock: a prompt is a function of the question.
fn environment(
    source: String,
    special: impl Iterator<Item = (&'static str, String)>,
) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |reason: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, reason))
    });
    special.for_each(|(name, text)| environment.add_global(name, text));
    environment.add_template_owned(TEMPLATE, source)?;
    Ok(environment)
}

/// An error of the template with its place.
fn told(error: &Error) -> String {
    let place = error.line().map_or(String::new(), |line| format!("line {line} of the template: "));
    format!("{place}{}", error.detail().map_or_else(|| error.kind().to_string(), str::to_owned))
}

#[cfg(test)]
mod tests;
