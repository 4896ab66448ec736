//! A run that begins with adapters that exist.

#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

use std::path::Path;

use polya_proto::v1::Settings;
use worker::trainer::LibtorchFactory;
use worker_member::trainer::{StateFiles, TrainerError, TrainerFactory};

fn settings(seed: u64, adapter_path: &Path) -> Settings {
    Settings {
        seed,
        quantisation: "nf4".to_owned(),
        adapter_rank: 4,
        adapter_alpha: 8.0,
        adapter_verification: true,
        threads: 1,
        device: "cpu".to_owned(),
        adapter_path: adapter_path.display().to_string(),
        ..Settings::default()
    }
}

/// The files of step 0.
fn start(settings: &Settings) -> Result<StateFiles, TrainerError> {
    let mut trainer = LibtorchFactory.build(settings)?;
    trainer.initial_state()?;
    trainer.save()
}

fn write(folder: &Path, files: &StateFiles) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

fn bytes<'a>(files: &'a StateFiles, adapter: &str) -> &'a [u8] {
    let name = format!("{adapter}/adapter_model.safetensors");
    &files.iter().find(|(file, _)| *file == name).unwrap().1
}

#[test]
fn step_0_holds_the_given_adapters_and_what_is_not_given_is_fresh() {
    let folder = tempfile::tempdir().unwrap();
    let given = start(&settings(1, Path::new(""))).unwrap();
    write(folder.path(), &given);
    let fresh = start(&settings(2, Path::new(""))).unwrap();
    let both = start(&settings(2, folder.path())).unwrap();
    for adapter in ["reasoning", "verification"] {
        assert!(bytes(&both, adapter) == bytes(&given, adapter) && bytes(&both, adapter) != bytes(&fresh, adapter));
    }
    let one = start(&settings(2, &folder.path().join("reasoning"))).unwrap();
    assert!(bytes(&one, "reasoning") == bytes(&given, "reasoning"));
    assert!(bytes(&one, "verification") == bytes(&fresh, "verification"));
}

#[test]
fn adapters_that_do_not_fit_are_refused_with_the_field() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &start(&settings(1, Path::new(""))).unwrap());
    let refusal = |settings: &Settings| match start(settings) {
        Err(TrainerError::Refused(reason)) => reason,
        other => panic!("{:?}", other.map(|files| files.len())),
    };
    let said = refusal(&Settings { adapter_rank: 8, ..settings(2, folder.path()) });
    assert!(said.contains("adapter.path") && said.contains("`r` = 4") && said.contains("adapter.rank = 8"), "{said}");
    let said = refusal(&Settings { adapter_verification: false, ..settings(2, folder.path()) });
    assert!(said.contains("verification/adapter_config.json"), "{said}");
    // A configuration of rank 8 over tensors of rank 4.
    let path = folder.path().join("reasoning/adapter_config.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"r\": 4", "\"r\": 8").replace("8.0", "16.0");
    std::fs::write(&path, text).unwrap();
    std::fs::remove_dir_all(folder.path().join("verification")).unwrap();
    let said = refusal(&Settings { adapter_rank: 8, adapter_alpha: 16.0, ..settings(2, folder.path()) });
    assert!(said.contains("lora_A.weight") && said.contains("[4, 128]") && said.contains("[8, 128]"), "{said}");
    std::fs::remove_file(&path).unwrap();
    let said = refusal(&settings(2, folder.path()));
    assert!(said.contains("adapter_config.json"), "{said}");
}
