//! `worker plan` and what it predicts, against the real process.

#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

use std::process::Command;

use serde_json::Value;

fn worker(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_worker")).args(arguments).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn json(arguments: &[&str]) -> Value {
    let (code, text) = worker(arguments);
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_predicted_peak_is_within_a_tenth_of_the_measured_one() {
    for more in [
        &["--shape", "tiny", "--seq", "256"][..],
        &["--shape", "smollm2-135m", "--seq", "320", "--verification", "--context-share", "0.4"],
        &["--shape", "smollm2-135m", "--seq", "320", "--recompute-layers", "20"],
    ] {
        let figures = json(&[&["bench", "step", "--steps", "1", "--json"], more].concat());
        let (seen, predicted) =
            (figures["peak_rss_mib"].as_f64().unwrap(), figures["predicted_peak_rss_mib"].as_f64().unwrap());
        assert!((predicted / seen - 1.0).abs() < 0.1, "{more:?}: {predicted:.0} MiB predicted, {seen:.0} seen");
    }
}

#[test]
fn a_plan_fits_or_says_what_to_change() {
    let roomy = json(&["plan", "--shape", "qwen2.5-3b", "--gpus", "2", "--json"]);
    assert_eq!((roomy["fits"].as_bool(), roomy["recomputed_layers"].as_u64()), (Some(true), Some(0)), "{roomy}");
    assert!(roomy["seconds_per_step"].as_f64().unwrap() > 0.0 && roomy["padding_share"].as_f64().unwrap() < 0.03);
    let tight = json(&["plan", "--shape", "qwen2.5-3b", "--gpus", "2", "--memory", "4", "--json"]);
    assert!(
        tight["advice"].as_str().unwrap().contains("worker.recompute_layers=") || tight["fits"] == false,
        "{tight}"
    );
    let none = json(&["plan", "--shape", "qwen2.5-3b", "--gpus", "2", "--memory", "1", "--json"]);
    assert_eq!(none["fits"], false);
    assert!(none["advice"].as_str().unwrap().contains("does not fit"), "{none}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.toml");
    std::fs::write(&file, "[batch]\ntoken_budget = 5\n").unwrap();
    let (code, _) = worker(&["plan", "--config", file.to_str().unwrap()]);
    assert_eq!(code, 2);
}
