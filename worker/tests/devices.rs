//! What the worker says about GPUs, with drivers and libraries of our own in their place: each way in which a GPU cannot be
//! used is named, and none of them ends on the CPU.

#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with `driver/libcuda.so.1` of so many cards (none: a file that is no library) and an empty `libtorch/`.
fn machine(cards: Option<u32>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("driver")).unwrap();
    std::fs::create_dir(libtorch(&folder)).unwrap();
    driver(&folder.path().join("driver/libcuda.so.1"), cards);
    folder
}

fn libtorch(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("libtorch")
}

fn driver(path: &Path, cards: Option<u32>) {
    let Some(cards) = cards else {
        std::fs::write(path, "not a library").unwrap();
        return;
    };
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_cuda/driver.c");
    compile(&[&format!("-DDEVICES={cards}"), source], path);
}

fn compile(arguments: &[&str], to: &Path) {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let done = Command::new(compiler).args(["-shared", "-fPIC", "-o"]).arg(to).args(arguments).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn worker(folder: &tempfile::TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_worker"))
        .args(arguments)
        .env("LD_LIBRARY_PATH", folder.path().join("driver"))
        .env("POLYA_LIBTORCH_CUDA", libtorch(folder))
        .env_remove("CUDA_VISIBLE_DEVICES")
        .output()
        .unwrap()
}

/// Asks for the GPU by hand; gives the error. Exit 2: the machine or the command line can be put right.
fn refused(folder: &tempfile::TempDir) -> String {
    let output = worker(folder, &["solve", "--model", "builtin", "--device", "cuda", "How many are 2 and 3?"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty(), "nothing was computed");
    String::from_utf8(output.stderr).unwrap()
}

fn missing(folder: &tempfile::TempDir) -> serde_json::Value {
    let output = worker(folder, &["devices", "--json"]);
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn without_a_driver_the_error_names_its_library() {
    let folder = machine(None);
    let error = refused(&folder);
    assert!(error.contains("there is no NVIDIA driver") && error.contains("libcuda.so.1"), "{error}");
    let survey = missing(&folder);
    assert_eq!(survey["gpus"], serde_json::json!([]));
    assert!(survey["missing"].as_str().unwrap().contains("libcuda.so.1"), "{survey}");
}

#[test]
fn a_bench_of_a_gpu_that_is_not_there_measures_nothing() {
    let folder = machine(None);
    for (arguments, reason) in [
        (["bench", "step", "--shape", "tiny", "--device", "cuda"].as_slice(), "there is no NVIDIA driver"),
        (&["bench", "generate", "--shape", "tiny", "--device", "cuda:1"], "there is no NVIDIA driver"),
        (&["bench", "kernels", "--shape", "tiny", "--device", "cuda"], "there is no NVIDIA driver"),
        (&["bench", "kernels", "--shape", "tiny"], "give --device cuda"),
        (&["bench", "step", "--device", "gpu"], "is not cpu, cuda or cuda:N"),
    ] {
        let output = worker(&folder, arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty() && error.contains(reason), "{arguments:?}: {error}");
    }
}

#[test]
fn a_driver_without_cards_is_named_as_such() {
    let folder = machine(Some(0));
    let error = refused(&folder);
    assert!(error.contains("the driver shows 0 GPUs"), "{error}");
}

#[test]
fn without_the_cuda_half_of_libtorch_the_error_names_it_and_where_it_was_looked_for() {
    let folder = machine(Some(2));
    let error = refused(&folder);
    assert!(error.contains("libtorch_cuda.so was not found in"), "{error}");
    assert!(error.contains(libtorch(&folder).to_str().unwrap()), "{error}");
    assert_eq!(missing(&folder)["gpus"], serde_json::json!([]), "a card that cannot be used is none");
}

#[test]
fn a_cuda_half_of_another_build_is_refused() {
    let folder = machine(Some(1));
    compile(&["-x", "c", "/dev/null"], &libtorch(&folder).join("libtorch_cuda.so"));
    std::fs::write(libtorch(&folder).join("libtorch_cpu.so"), "of another build").unwrap();
    let error = refused(&folder);
    assert!(error.contains("belongs to another build") && error.contains("LIBTORCH="), "{error}");
}

#[test]
fn a_cuda_half_that_brings_no_kernels_is_refused_and_the_cards_are_listed_before() {
    let folder = machine(Some(2));
    compile(&["-x", "c", "/dev/null"], &libtorch(&folder).join("libtorch_cuda.so"));
    let running = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.libtorch/lib/libtorch_cpu.so");
    std::os::unix::fs::symlink(running.canonicalize().unwrap(), libtorch(&folder).join("libtorch_cpu.so")).unwrap();
    let survey = missing(&folder);
    assert_eq!(survey["gpus"][1]["name"], "Fake T4", "{survey}");
    assert_eq!(survey["gpus"][1]["capability"], serde_json::json!([7, 5]), "{survey}");
    let error = refused(&folder);
    assert!(error.contains("libtorch sees 0 of the driver's 2 GPUs"), "{error}");
}

#[test]
fn a_device_that_does_not_exist_is_a_wrong_command_line() {
    let folder = machine(None);
    let output = worker(&folder, &["solve", "--model", "builtin", "--device", "gpu", "How many?"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`gpu` is not cpu, cuda or cuda:N"));
}
