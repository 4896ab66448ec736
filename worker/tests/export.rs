//! Exports of a small run: each format reads back, says what it is, and refuses what it must not write.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as the tests do")]

use std::path::{Path, PathBuf};

use polya_datasets::tokens;
use safetensors::SafeTensors;
use tempfile::TempDir;
use worker::adapters::Layout;
use worker::builtin::Builtin;
use worker::export::{BaseWeights, Dtype, Exported, Format, Options, export};
use worker::formats::adapter_folder;
use worker::formats::huggingface::{Files, Quantisation, load};
use worker::formats::peft::{self, Description};
use worker::import::gguf::{Gguf, Value};
use worker::step::optimiser::TrainingState;

struct Run {
    folder: TempDir,
}

impl Run {
    /// A run of a base with one checkpoint whose adapters do something.
    fn new(base: &str, verification: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let builtin = load(&Builtin, Quantisation::None).unwrap();
        let layout = Layout::new(&builtin.model.config, 4, 8.0, verification);
        let mut values = layout.initial(3);
        for (index, value) in values.iter_mut().enumerate().filter(|(_, value)| **value == 0.0) {
            *value = ((index * 37 % 101) as f32 / 101.0 - 0.5) * 0.05;
        }
        let description = Description {
            base: base.to_owned(),
            quantisation: Quantisation::Nf4,
            prompt: "plain".to_owned(),
            dropout: 0.05,
            verify: tokens::tags(&builtin.tokenizer).unwrap()[3].clone(),
        };
        let files = peft::write(&layout, &description, &TrainingState::new(values)).unwrap();
        let checkpoint = folder.path().join("run/checkpoints/step-000004");
        let mut manifest = serde_json::Map::new();
        let state = ("state.json".to_owned(), br#"{"step": 4, "state": "abcd", "epoch": 1}"#.to_vec());
        for (name, bytes) in files.iter().chain([&state]) {
            let path = checkpoint.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
            let entry = serde_json::json!({ "size": bytes.len(), "blake3": blake3::hash(bytes).to_hex().as_str() });
            manifest.insert(name.clone(), entry);
        }
        let manifest = serde_json::json!({ "files": manifest });
        std::fs::write(checkpoint.join("manifest.json"), manifest.to_string()).unwrap();
        let config = format!("quantisation = \"nf4\"\n[base]\npath = \"{base}\"\n[adapter]\nrank = 4\nalpha = 8.0\n");
        std::fs::write(folder.path().join("run/run.toml"), config).unwrap();
        Run { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn export(&self, format: Format, dtype: Dtype, base_weights: BaseWeights) -> Result<Exported, anyhow::Error> {
        let output = self.path("out");
        export(&Options { run: self.path("run"), step: None, format, base_weights, dtype, output })
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn has_all(folder: &Path, names: &[&str]) {
    for name in names {
        assert!(folder.join(name).is_file(), "{name} is missing");
    }
}

#[test]
fn a_merged_model_is_the_base_with_its_adapter_and_carries_the_verification_adapter() {
    let run = Run::new("", true);
    let found = run.export(Format::Merged, Dtype::F32, BaseWeights::Dequantised).unwrap();
    assert!(found.reload_error < 2e-5, "{found:?}");
    assert!(found.base_weights_gap > 1e-3, "{found:?}");
    let out = run.path("out");
    has_all(&out, &["config.json", "tokenizer.json", "generation_config.json", "README.md", "check.py"]);
    let config: serde_json::Value =
        serde_json::from_slice(&read(&out.join("verification/adapter_config.json"))).unwrap();
    assert!(config["alora_invocation_tokens"].as_array().is_some_and(|tokens| tokens.len() > 1));
    let held = adapter_folder::training(&out.join("verification")).unwrap().quantisation;
    assert_eq!(held, Some(Quantisation::None), "its base is the merged model, which is dense");
    assert!(!out.join("reasoning").exists());
    let card = String::from_utf8(read(&out.join("README.md"))).unwrap();
    assert!(card.contains("step 4") && card.contains("abcd") && card.contains("not scored"), "{card}");
    let bytes = read(&out.join("parity.safetensors"));
    let parity = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(parity.tensor("logits").unwrap().shape(), [8, 834]);
}

#[test]
fn original_base_weights_give_another_merged_model() {
    let run = Run::new("", false);
    let found = run.export(Format::Merged, Dtype::F16, BaseWeights::Original).unwrap();
    assert!(found.reload_error < 5e-3 && found.base_weights_gap > 1e-3, "{found:?}");
    assert!(!run.path("out/verification").exists());
}

#[test]
fn peft_folders_come_out_as_they_were_trained() {
    let run = Run::new("", true);
    let found = run.export(Format::Peft, Dtype::F16, BaseWeights::Dequantised).unwrap();
    assert_eq!(found.reload_error, 0.0);
    for name in ["reasoning", "verification"] {
        let file = format!("{name}/adapter_model.safetensors");
        assert_eq!(read(&run.path("out").join(&file)), read(&run.path("run/checkpoints/step-000004").join(&file)));
    }
    has_all(&run.path("out"), &["reasoning/adapter_config.json", "check.py", "parity.safetensors", "README.md"]);
}

#[test]
fn a_gguf_reads_back_with_the_logits_of_the_merged_model() {
    let run = Run::new("", true);
    let found = run.export(Format::Gguf, Dtype::F16, BaseWeights::Dequantised).unwrap();
    assert!(found.reload_error < 5e-3, "{found:?}");
    assert!(found.notes[0].contains("llama.cpp"), "the built-in tokenizer splits texts in its own way");
    let bytes = read(&run.path("out/verification.gguf"));
    let adapter = Gguf::parse(&bytes).unwrap();
    assert_eq!(adapter.metadata["adapter.type"], Value::Text("lora".to_owned()));
    assert!(adapter.list("adapter.alora.invocation_tokens").is_some_and(|tokens| tokens.len() > 1));
    assert_eq!(adapter.tensors.len(), 5 * 7 * 2);
    assert_eq!(adapter.tensors["blk.4.ffn_down.weight.lora_a"].shape, [4, 384]);
    assert!(!run.path("out/imported").exists());
}

#[test]
fn a_damaged_checkpoint_a_wrong_step_and_a_full_folder_are_refused_by_name() {
    let run = Run::new("", true);
    std::fs::create_dir_all(run.path("out/something")).unwrap();
    let said = run.export(Format::Peft, Dtype::F16, BaseWeights::Dequantised).unwrap_err().to_string();
    assert!(said.contains("not empty"), "{said}");
    std::fs::remove_dir_all(run.path("out")).unwrap();
    let options = |step| Options {
        run: run.path("run"),
        step,
        format: Format::Peft,
        base_weights: BaseWeights::Dequantised,
        dtype: Dtype::F16,
        output: run.path("out"),
    };
    let said = export(&options(Some(5))).unwrap_err().to_string();
    assert!(said.contains("steps 4"), "{said}");
    let path = run.path("run/checkpoints/step-000004/verification/adapter_model.safetensors");
    let mut bytes = read(&path);
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let said = export(&options(None)).unwrap_err().to_string();
    assert!(said.contains("verification/adapter_model.safetensors") && said.contains("damaged"), "{said}");
    assert!(!run.path("out").exists());
}

#[test]
fn a_tokenizer_whose_tag_depends_on_the_text_around_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "generation_config.json"] {
        std::fs::write(folder.path().join(name), Builtin.read(name).unwrap().unwrap()).unwrap();
    }
    // A tokenizer that joins a line break with the first # behind it.
    let mut json: serde_json::Value =
        serde_json::from_slice(&Builtin.read("tokenizer.json").unwrap().unwrap()).unwrap();
    json["pre_tokenizer"] = json["pre_tokenizer"]["pretokenizers"][1].clone();
    let vocabulary = json["model"]["vocab"].as_object_mut().unwrap();
    let (last, id) =
        vocabulary.iter().max_by_key(|(_, id)| id.as_u64()).map(|(t, id)| (t.clone(), id.clone())).unwrap();
    vocabulary.shift_remove(&last);
    vocabulary.insert("Ċ#".to_owned(), id);
    let merges = json["model"]["merges"].as_array_mut().unwrap();
    merges.retain(|merge| {
        merge
            .as_array()
            .is_some_and(|pair| format!("{}{}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()) != last)
    });
    merges.insert(0, serde_json::json!(["Ċ", "#"]));
    std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    let run = Run::new(folder.path().to_str().unwrap(), true);
    let said = run.export(Format::Merged, Dtype::F16, BaseWeights::Dequantised).unwrap_err().to_string();
    assert!(said.contains("tokenised differently in context"), "{said}");
}
