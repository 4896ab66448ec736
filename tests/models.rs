//! Models in and out through the real commands: a run's adapters are exported, compared, scored and trained on.

use std::path::{Path, PathBuf};

use polya_tests::process::{Coordinator, audit, run_texts, stderr};
use serde_json::Value;

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let dir = folder.path().join("run");
    (folder, dir)
}

fn worker(arguments: &[&str]) -> std::process::Output {
    let output = run_texts("worker", arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    output
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder has a plain name")
}

#[test]
fn a_run_is_exported_compared_scored_and_goes_on_as_the_start_of_another() {
    let (folder, dir) = fresh();
    assert_eq!(Coordinator::start(&dir, 1, &[]).wait(), Some(0));
    let at = |name: &str| folder.path().join(name);
    let adapters = dir.join("checkpoints/step-000008");

    let output = worker(&[
        "export",
        "--run",
        text(&dir),
        "--format",
        "merged",
        "--dtype",
        "f32",
        "--json",
        "--output",
        text(&at("merged")),
    ]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("--json prints one document");
    assert_eq!(report["step"], 8);
    assert!(report["reload_error"].as_f64() < Some(1e-4), "{report}");
    let card = std::fs::read_to_string(at("merged/README.md")).expect("an export has a card");
    assert!(card.contains("| accuracy |") && card.contains("n=3"), "{card}");

    // The same logits from base and adapters as from the merged model and its verification adapter, gradients beside them.
    std::fs::write(at("ids.json"), "[5, 9, 33, 12, 7, 80, 41, 3]").expect("a temporary folder can be written");
    let ids = at("ids.json");
    let base = at("base.safetensors");
    worker(&[
        "logits",
        "--model",
        "builtin",
        "--adapters",
        text(&adapters),
        "--ids",
        text(&ids),
        "--verify-from",
        "4",
        "--grads",
        "--output",
        text(&base),
    ]);
    let merged = at("merged.safetensors");
    worker(&[
        "logits",
        "--model",
        text(&at("merged")),
        "--adapters",
        text(&at("merged/verification")),
        "--ids",
        text(&ids),
        "--verify-from",
        "4",
        "--output",
        text(&merged),
    ]);
    let (base, header) = numbers(&base);
    let (merged, _) = numbers(&merged);
    assert!(
        header.contains("grad.verification.base_model.model.model.layers.4.mlp.down_proj.lora_B.weight"),
        "{header}"
    );
    let error =
        base.iter().zip(&merged).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / base.iter().map(|a| a * a).sum::<f32>();
    assert!(base.len() == 8 * 834 && error.sqrt() < 2e-5, "{} numbers, {:.1e} off", base.len(), error.sqrt());

    let data = at("data.parquet");
    let made = run_texts("datasets", &["synthesize", "--output", text(&data), "--count", "4", "--seed", "77"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let texts = at("texts.parquet");
    let output = worker(&[
        "evaluate",
        "--model",
        "builtin",
        "--adapters",
        text(&adapters),
        "--data",
        text(&data),
        "--max-tokens",
        "200",
        "--json",
        "--output",
        text(&texts),
    ]);
    let scores: Value = serde_json::from_slice(&output.stdout).expect("--json prints one document");
    assert_eq!((&scores["n"], &scores["svr"]["correction"]["n"]), (&4.into(), &4.into()), "{scores}");
    assert!(scores["per_stage_accuracy"]["execute"]["value"].as_f64() > Some(0.5), "{scores}");
    assert!(texts.is_file());

    let next = at("next");
    let path = format!("adapter.path={}", adapters.display());
    assert_eq!(Coordinator::start(&next, 1, &[&path, "train.steps=2", "evaluation.samples=0"]).wait(), Some(0));
    assert_eq!(audit(&next).1, Some(0));
    let file = adapters.join("reasoning/adapter_model.safetensors");
    let mut bytes = std::fs::read(&file).expect("a checkpoint can be read");
    *bytes.last_mut().expect("it is not empty") ^= 1;
    std::fs::write(&file, bytes).expect("a temporary folder can be written");
    let (report, code) = audit(&next);
    assert!(code == Some(1) && report["faults"].to_string().contains("adapters"), "{report}");
}

#[test]
fn a_run_asks_through_its_base_s_chat_template_and_the_adapters_say_so() {
    let (folder, dir) = fresh();
    let base = folder.path().join("instruct");
    std::fs::create_dir(&base).expect("a temporary folder can be written");
    for name in
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../base").join(name);
        std::fs::copy(from, base.join(name)).expect("the built-in base is in the checkout");
    }
    let path = format!("base.path={}", base.display());
    let small = [path.as_str(), "data.prompt=chat", "train.steps=2", "evaluation.samples=1"];
    let refused = Coordinator::start(&folder.path().join("refused"), 1, &small).wait();
    assert_eq!(refused, Some(2), "the base has no template");
    let template = "{% for message in messages %}{{ message.role }}:\n{{ message.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}assistant:\n\n{% endif %}";
    std::fs::write(base.join("chat_template.jinja"), template).expect("a temporary folder can be written");
    assert_eq!(Coordinator::start(&dir, 1, &small).wait(), Some(0));
    assert_eq!(audit(&dir).1, Some(0));
    let adapters = dir.join("checkpoints/step-000002");
    let file = std::fs::read(adapters.join("reasoning/adapter_model.safetensors")).expect("a checkpoint has it");
    assert!(String::from_utf8_lossy(&file[..400]).contains("\"polya.prompt\":\"chat\""));
    worker(&["solve", "--model", text(&base), "--adapters", text(&adapters), "--max-tokens", "8", "What is 2 + 2?"]);
    // Without its template the base cannot be asked as the adapters were taught.
    std::fs::remove_file(base.join("chat_template.jinja")).expect("it was written above");
    let output =
        run_texts("worker", &["solve", "--model", text(&base), "--adapters", text(&adapters), "What is 2 + 2?"]);
    assert!(output.status.code() == Some(1) && stderr(&output).contains("chat_template"), "{}", stderr(&output));
}

/// The fp32 numbers of the first tensor of a safetensors file, and its header.
fn numbers(path: &Path) -> (Vec<f32>, String) {
    let bytes = std::fs::read(path).expect("the command has written it");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header = String::from_utf8_lossy(&bytes[8..8 + length]).into_owned();
    let json: Value = serde_json::from_str(&header).expect("the header is JSON");
    let end = 8 + length + json["logits"]["data_offsets"][1].as_u64().expect("logits come first") as usize;
    let floats = bytes[8 + length..end].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    (floats.collect(), header)
}

#[test]
fn what_the_command_line_can_fix_is_exit_2() {
    let (folder, _) = fresh();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    std::fs::write(at("ids.json"), "[1, 2]").expect("a temporary folder can be written");
    let (ids, output, none) = (at("ids.json"), at("out.safetensors"), at("none"));
    let logits = ["logits", "--model", "builtin", "--ids", &ids, "--output", &output];
    for (arguments, word) in [
        ([&logits[..], &["--grads"]].concat(), "--adapters"),
        ([&logits[..], &["--adapters", &none]].concat(), "adapter_config.json"),
        (vec!["export", "--run", &none, "--format", "peft", "--output", &output], "run directory"),
        (vec!["evaluate", "--model", "builtin", "--data", &none], "none"),
    ] {
        let said = run_texts("worker", &arguments);
        assert_eq!(said.status.code(), Some(2), "{arguments:?}: {}", stderr(&said));
        assert!(stderr(&said).contains(word), "{arguments:?}: {}", stderr(&said));
    }
}
