//! The class of arithmetic, in processes of its own: libtorch chooses its kernels once a process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use polya_proto::v1::Settings;
use worker::trainer::LibtorchFactory;
use worker_member::trainer::TrainerFactory;

const CHILD: &str = "POLYA_TEST_PRINT_CLASS";

/// Prints the class of the built-in base; does something in a child process only.
#[test]
fn child_prints_its_class() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let settings = Settings {
        seed: 7,
        quantisation: std::env::var("POLYA_TEST_QUANTISATION").unwrap_or("nf4".to_owned()),
        adapter_rank: 4,
        adapter_alpha: 8.0,
        adapter_dropout: 0.05,
        adapter_verification: true,
        loss_mode: "static".to_owned(),
        loss_transition: 0.1,
        threads: 1,
        device: "cpu".to_owned(),
        clip_norm: 1.0,
        tokens_per_microbatch: 512,
        ..Settings::default()
    };
    let mut trainer = LibtorchFactory.build(&settings).unwrap();
    let state = trainer.initial_state().unwrap();
    let class = trainer.class().unwrap();
    assert_eq!(trainer.class().unwrap(), class, "the same in one process");
    assert_eq!(trainer.initial_state().unwrap(), state, "and no state has changed");
    let digest: String = class.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("CLASS {digest} {}", class.words);
}

fn class_with(variables: &[(&str, &str)]) -> String {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_prints_its_class", "--nocapture"])
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once("CLASS ").map(|(_, rest)| rest.to_owned()));
    line.unwrap_or_else(|| panic!("no class: {text}\n{}", String::from_utf8_lossy(&child.stderr)))
}

#[test]
fn a_machine_is_of_one_class_and_another_arithmetic_of_another() {
    let [plain, again] = [class_with(&[]), class_with(&[])];
    assert_eq!(plain, again, "the same machine is the same class");
    assert!(plain.contains("libtorch 2.11.0, kernels for ") && plain.contains("threads 1"), "{plain}");
    // Rounded weights: the same machine, other numbers in the same microbatch.
    let other = class_with(&[("POLYA_TEST_QUANTISATION", "none")]);
    assert_ne!(plain.split(' ').next(), other.split(' ').next());
}

#[test]
fn the_words_say_what_libtorch_chose_its_kernels_for() {
    let words = class_with(&[("ATEN_CPU_CAPABILITY", "default")]);
    assert!(words.contains("kernels for DEFAULT"), "{words}");
}
