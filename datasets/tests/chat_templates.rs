//! Chat templates against transformers' `apply_chat_template`: the same text, the same tokens, the same stages.
//!
//! scripts/interop/chat.py makes the file with the real package, and `make interop` compares it again.

#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

use std::path::Path;

use polya_datasets::prompt::{CHAT, PromptForm};
use polya_datasets::tokens;
use polya_datasets::trajectory::{Stage, Trajectory};
use serde::Deserialize;
use tokenizers::{AddedToken, Tokenizer};

#[derive(Deserialize)]
struct Made {
    special: Vec<String>,
    solution: Solution,
    templates: Vec<Template>,
}

#[derive(Deserialize)]
struct Solution {
    understand: String,
    plan: String,
    execute: String,
    verify: String,
    answer: String,
}

#[derive(Deserialize)]
struct Template {
    name: String,
    config: serde_json::Value,
    asked: Vec<Asked>,
}

/// A question's prompt, its ids, those of the prompt with the solution, and the first token of each stage.
#[derive(Deserialize)]
struct Asked {
    question: String,
    prompt: String,
    ids: Vec<u32>,
    whole: Vec<u32>,
    stages: [usize; 4],
}

fn made() -> Made {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The built-in base's tokenizer with the special tokens behind its own.
fn tokenizer(special: &[String]) -> Tokenizer {
    let mut tokenizer =
        Tokenizer::from_file(Path::new(env!("CARGO_MANIFEST_DIR")).join("../base/tokenizer.json")).unwrap();
    tokenizer.add_special_tokens(special.iter().map(|text| AddedToken::from(text.as_str(), true))).unwrap();
    tokenizer
}

fn form(template: &Template) -> PromptForm {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), template.config.to_string()).unwrap();
    PromptForm::of_name(CHAT, folder.path()).unwrap()
}

fn trajectory(question: &str, solution: &Solution) -> Trajectory {
    Trajectory {
        id: "chat/0".to_owned(),
        source: "chat".to_owned(),
        split: String::new(),
        question: question.to_owned(),
        understand: solution.understand.clone(),
        plan: solution.plan.clone(),
        execute: solution.execute.clone(),
        verify: solution.verify.clone(),
        answer: solution.answer.clone(),
        language: "vi".to_owned(),
        corrective: false,
        planted: None,
        weights: None,
        meta: "{}".to_owned(),
    }
}

#[test]
fn prompts_are_those_of_transformers_letter_for_letter_and_token_for_token() {
    let made = made();
    let tokenizer = tokenizer(&made.special);
    for template in &made.templates {
        let form = form(template);
        form.check(&tokenizer, &tokens::tags(&tokenizer).unwrap()[0]).unwrap();
        for asked in &template.asked {
            let prompt = form.prompt(&asked.question).unwrap();
            assert_eq!(prompt, asked.prompt, "{}", template.name);
            assert_eq!(tokens::ids(&tokenizer, &prompt).unwrap(), asked.ids, "{}: {prompt}", template.name);
        }
    }
}

#[test]
fn behind_a_chat_prompt_the_tokens_are_those_of_transformers_and_stages_begin_at_their_bytes() {
    let made = made();
    let tokenizer = tokenizer(&made.special);
    let tags = tokens::tags(&tokenizer).unwrap();
    for template in &made.templates {
        let form = form(template);
        let end = form.end(&tokenizer).unwrap();
        assert_eq!(tokenizer.id_to_token(end).as_deref(), template.config["eos_token"].as_str());
        for asked in &template.asked {
            let trajectory = trajectory(&asked.question, &made.solution);
            let sample = tokens::encode_as(&form, &tokenizer, &tags[3], end, &trajectory).unwrap();
            let (last, text) = sample.ids.split_last().unwrap();
            assert_eq!((text, *last), (asked.whole.as_slice(), end), "{}: {}", template.name, asked.question);
            assert_eq!(text[..asked.ids.len()], asked.ids, "generation begins where the learned text does");
            let (canonical, _) = form.canonical(&trajectory).unwrap();
            for stage in Stage::ALL {
                let first = sample.stages.iter().position(|of| *of == Some(stage)).unwrap();
                assert_eq!(first, asked.stages[stage.index()], "{}, {}", template.name, stage.name());
                let before = tokenizer.decode(&text[..first], false).unwrap();
                assert_eq!(before, canonical.text[..canonical.stages[stage.index()].start], "{}", stage.name());
            }
        }
    }
}
