//! Tokenizers that stages are cut with: the built-in base's, and one of the Qwen family where its file is at hand.

#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

use std::path::{Path, PathBuf};
use std::process::Command;

use polya_datasets::prompt::{CHAT, PromptForm};
use polya_datasets::synthesize::{STEPS, corrective_wordings, synthesize};
use polya_datasets::trajectory::Stage;
use polya_datasets::{plant, tokenizer, tokens};
use tokenizers::Tokenizer;

/// What `worker pretrain` gives the tokenizer's trainer for the committed base (base/README.md has the command).
const BASE: (u64, u64, usize) = (2026, 4_000, 1_024);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn base() -> Tokenizer {
    Tokenizer::from_file(repository().join("base/tokenizer.json")).unwrap()
}

/// A file of the data folder beside the checkout; the test passes by without it, but not in CI.
fn shared(name: &str) -> Option<PathBuf> {
    let path = repository().join("../shared/data/tokenizers").join(name);
    if path.exists() {
        return Some(path);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{} is missing", path.display());
    println!("passed by: {} is not here", path.display());
    None
}

fn qwen() -> Option<Tokenizer> {
    let path = shared("qwen3-tokenizer.json.gz")?;
    let unpacked = Command::new("gzip").arg("-dc").arg(path).output().unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    Some(Tokenizer::from_bytes(unpacked.stdout).unwrap())
}

/// Right and corrective traces keep their stages, their tags and their text.
fn carries_stages(tokenizer: &Tokenizer) {
    let tags = tokens::tags(tokenizer).unwrap();
    let end = tokens::end_of_text(tokenizer).unwrap();
    for index in 0..100 {
        let right = synthesize(11, index, STEPS);
        let wrong = plant::plant(&right, &plant::BUILT_IN_KINDS, 3).ok();
        for trajectory in std::iter::once(&right).chain(&wrong) {
            let sample = tokens::encode(tokenizer, &tags[3], end, trajectory).unwrap();
            let text = tokenizer.decode(&sample.ids[..sample.ids.len() - 1], false).unwrap();
            assert_eq!(text, trajectory.canonical().text);
            for stage in Stage::ALL {
                let first = sample.stages.iter().position(|of| *of == Some(stage)).unwrap();
                let line = &tags[stage.index()].line;
                assert_eq!(&sample.ids[first..first + line.len()], line.as_slice(), "{}", stage.name());
            }
            let prompt = tokens::ids(tokenizer, &plant::verify_prompt(trajectory)).unwrap();
            assert_eq!(sample.ids[..sample.verify_tag.end], prompt, "a probe is what training saw up to the tag");
        }
    }
}

#[test]
fn the_committed_tokenizer_is_what_the_command_makes() {
    let (seed, count, vocabulary) = BASE;
    let made = tokenizer::train(seed, count, vocabulary, &corrective_wordings()).unwrap();
    let committed: serde_json::Value =
        serde_json::from_slice(&std::fs::read(repository().join("base/tokenizer.json")).unwrap()).unwrap();
    let made: serde_json::Value = serde_json::from_str(&made.to_string(true).unwrap()).unwrap();
    assert!(
        made == committed,
        "base/tokenizer.json is not what the wordings of today make: run `worker pretrain` again"
    );
}

#[test]
fn the_base_s_tokenizer_carries_stages() {
    carries_stages(&base());
}

#[test]
fn qwen_s_tokenizer_carries_stages() {
    if let Some(qwen) = qwen() {
        carries_stages(&qwen);
    }
}

#[test]
fn qwen_s_tokenizer_gives_the_ids_of_the_reference_and_the_text_back() {
    let (Some(qwen), Some(path)) = (qwen(), shared("qwen3-encodings.jsonl")) else { return };
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = row["text"].as_str().unwrap();
        let expected: Vec<u32> = row["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let ids = tokens::ids(&qwen, text).unwrap();
        assert_eq!(ids, expected, "{text:?}");
        assert_eq!(qwen.decode(&ids, false).unwrap() == text, row["decoded_equal"].as_bool().unwrap(), "{text:?}");
    }
}

#[test]
fn qwen_s_chat_template_asks_as_its_own_stack_does_and_stages_stay_exact() {
    let (Some(qwen), Some(config)) = (qwen(), shared("qwen3-tokenizer_config.json")) else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(config, folder.path().join("tokenizer_config.json")).unwrap();
    let form = PromptForm::of_name(CHAT, folder.path()).unwrap();
    // What transformers' apply_chat_template(…, add_generation_prompt=True) gives.
    let asked = form.prompt("Số táo 🍎: 3 + 4?").unwrap();
    assert_eq!(asked, "<|im_start|>user\nSố táo 🍎: 3 + 4?<|im_end|>\n<|im_start|>assistant\n");
    let tags = tokens::tags(&qwen).unwrap();
    form.check(&qwen, &tags[0]).unwrap();
    let end = form.end(&qwen).unwrap();
    assert_eq!(qwen.id_to_token(end).as_deref(), Some("<|im_end|>"));
    for index in 0..50 {
        let trajectory = synthesize(11, index, STEPS);
        let sample = tokens::encode_as(&form, &qwen, &tags[3], end, &trajectory).unwrap();
        let (canonical, _) = form.canonical(&trajectory).unwrap();
        assert_eq!(qwen.decode(&sample.ids[..sample.ids.len() - 1], false).unwrap(), canonical.text);
        for stage in Stage::ALL {
            let first = sample.stages.iter().position(|of| *of == Some(stage)).unwrap();
            let line = &tags[stage.index()].line;
            assert_eq!(&sample.ids[first..first + line.len()], line.as_slice(), "{}", stage.name());
            let text = qwen.decode(&sample.ids[..first], false).unwrap();
            assert_eq!(text.len(), canonical.stages[stage.index()].start, "{}", stage.name());
        }
    }
}
