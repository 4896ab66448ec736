//! A small template of our own, and what is refused. tests/tokenizers.rs has a published one.

use super::*;
use crate::synthesize::{STEPS, synthesize};
use crate::tokenizer;
use crate::tokens::{encode, encode_as, tags};
use crate::trajectory::SpanWeight;

/// A loop with a namespace, methods of Python's texts, blocks on lines of their own.
const OWN: &str = "{{ bos_token }}{% set ns = namespace(turns=0) %}
{% for message in messages %}
    {% if message['role'] == 'user' and not message.content.startswith('!') %}
<{{ message.role }}>{{ message.content | trim }}</{{ message.role }}>
    {% else %}
        {{ raise_exception('only questions') }}
    {% endif %}
    {% set ns.turns = ns.turns + 1 %}
{% endfor %}
{% if add_generation_prompt %}
<turn {{ ns.turns }}>
{% endif %}
";

fn folder(config: serde_json::Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
    folder
}

fn own() -> (tempfile::TempDir, PromptForm) {
    let end = serde_json::json!({ "content": tokenizer::END_OF_TEXT, "special": true });
    let folder = folder(serde_json::json!({ "bos_token": "<s>", "eos_token": end, "chat_template": OWN }));
    let form = PromptForm::of_name(CHAT, folder.path()).unwrap();
    (folder, form)
}

#[test]
fn a_template_is_rendered_as_transformers_does() {
    let (_folder, form) = own();
    assert_eq!(form.prompt("2 + 2 🍎?").unwrap(), "<s><user>2 + 2 🍎?</user>\n<turn 1>\n");
    let said = form.prompt("!no").unwrap_err().to_string();
    assert!(said.contains("only questions") && said.contains("line 6"), "{said}");
    let said = form.prompt(" trimmed ").unwrap_err().to_string();
    assert!(said.contains("as it is"), "{said}");
}

#[test]
fn stages_are_the_same_bytes_behind_another_prompt() {
    let (_folder, form) = own();
    let tokenizer = tokenizer::train(1, 500, 1024, &[]).unwrap();
    let tags = tags(&tokenizer).unwrap();
    form.check(&tokenizer, &tags[0]).unwrap();
    let end = form.end(&tokenizer).unwrap();
    for index in 0..50 {
        let mut trajectory = synthesize(2, index, STEPS);
        trajectory.question.push_str(" e\u{302}\u{309} 🍎");
        let plan = trajectory.canonical().stages[1].clone();
        trajectory.weights = Some(vec![SpanWeight { start: plan.start as u32, end: plan.end as u32, weight: 0.25 }]);
        let (plain, (canonical, longer)) = (trajectory.canonical(), form.canonical(&trajectory).unwrap());
        for (stage, of_plain) in canonical.stages.iter().zip(&plain.stages) {
            assert_eq!(canonical.text[stage.clone()], plain.text[of_plain.clone()]);
        }
        assert_eq!(canonical.text.len() as isize - plain.text.len() as isize, longer);
        let plain = encode(&tokenizer, &tags[3], end, &trajectory).unwrap();
        let chat = encode_as(&form, &tokenizer, &tags[3], end, &trajectory).unwrap();
        let learned = |sample: &tokens::Sample| {
            let first = sample.stages.iter().position(Option::is_some).unwrap();
            (sample.ids[first..].to_vec(), sample.stages[first..].to_vec(), sample.weights[first..].to_vec())
        };
        assert_eq!(learned(&chat), learned(&plain));
        assert!(chat.weights.contains(&0.25) && chat.verify_tag != plain.verify_tag);
    }
}

#[test]
fn a_base_that_cannot_be_asked_is_refused_with_what_to_do() {
    let refused = |config: serde_json::Value| PromptForm::of_name(CHAT, folder(config).path()).unwrap_err().to_string();
    let said = refused(serde_json::json!({ "eos_token": "</s>" }));
    assert!(said.contains("no `chat_template`") && said.contains("data.prompt"), "{said}");
    let said = refused(serde_json::json!({ "chat_template": "{% for %}" }));
    assert!(said.contains("line 1"), "{said}");
    let said = PromptForm::of_name(CHAT, Path::new("/no/such/base")).unwrap_err().to_string();
    assert!(said.contains("/no/such/base/tokenizer_config.json"), "{said}");
    // The tag's signs would become one token with those before it.
    let folder = folder(serde_json::json!({ "chat_template": [
        { "name": "tools", "template": "" }, { "name": "default", "template": "{{ messages[0].content }}##" }] }));
    let form = PromptForm::of_name(CHAT, folder.path()).unwrap();
    let tokenizer = tokenizer::train(1, 500, 1024, &[]).unwrap();
    let said = form.check(&tokenizer, &tags(&tokenizer).unwrap()[0]).unwrap_err().to_string();
    assert!(said.contains("runs into the tag"), "{said}");
}

#[test]
fn a_file_of_its_own_goes_before_the_configuration() {
    let folder = folder(serde_json::json!({ "chat_template": "old {{ messages[0].content }}" }));
    std::fs::write(folder.path().join(TEMPLATE), "new {{ messages[0].content }}").unwrap();
    assert_eq!(PromptForm::of_name(CHAT, folder.path()).unwrap().prompt("q").unwrap(), "new q");
    assert_eq!(PromptForm::of_name(PLAIN, folder.path()).unwrap().prompt("q").unwrap(), prompt("q"));
}
