//! A run whose disk is lost goes on from its copy in an object store, and only one coordinator holds it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use polya_tests::process::{Coordinator, LIMIT, audit, binary, proven_digests, run_texts, signal, stderr};
use polya_tests::wait::until;

struct Place {
    _folder: tempfile::TempDir,
    dir: PathBuf,
    store: String,
}

fn fresh() -> Place {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (dir, store) = (folder.path().join("run"), folder.path().join("store"));
    Place { dir, store: format!("checkpoint.store=file://{}", store.display()), _folder: folder }
}

/// Resumes in a folder that has nothing; gives the exit code and what was said.
fn resume_from_store(dir: &Path, set: &str) -> (Option<i32>, String) {
    let arguments = ["--resume", &dir.display().to_string(), "--set", set, "--workers", "1"];
    let output = run_texts("coordinator", &arguments);
    (output.status.code(), stderr(&output) + &String::from_utf8_lossy(&output.stdout))
}

fn reference() -> serde_json::Value {
    let place = fresh();
    assert_eq!(Coordinator::start(&place.dir, 1, &["evaluation.samples=0"]).wait(), Some(0));
    proven_digests(&place.dir)
}

#[test]
fn a_lost_disk_costs_no_bit_of_the_outcome() {
    let place = fresh();
    let run = Coordinator::start(&place.dir, 2, &["evaluation.samples=0", &place.store]);
    // The checkpoint of step 3 is in the store.
    let manifest = place.dir.with_file_name("store").join("checkpoints/step-000003/manifest.json");
    until("a copied checkpoint", LIMIT, || manifest.is_file().then_some(()));
    let journal = place.dir.with_file_name("store").join("journal");
    until("a copied journal", LIMIT, || journal.is_file().then_some(()));
    run.signal("KILL");
    run.workers().into_iter().for_each(|pid| signal(pid, "KILL"));
    assert_eq!(run.wait(), None);
    std::fs::remove_dir_all(&place.dir).unwrap();
    let (code, said) = resume_from_store(&place.dir, &place.store);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("brought back from file://"), "{said}");
    assert_eq!(proven_digests(&place.dir), reference());
    // The end is in the store too: brought back once more, the run is finished.
    std::fs::remove_dir_all(&place.dir).unwrap();
    let (code, said) = resume_from_store(&place.dir, &place.store);
    assert_eq!((code, said.contains("finished")), (Some(0), true), "{said}");
    assert_eq!(audit(&place.dir).1, Some(0));
}

#[test]
fn r7_a_coordinator_stops_when_another_one_has_claimed_the_run() {
    let place = fresh();
    let run = Coordinator::start(&place.dir, 1, &["evaluation.samples=0", &place.store, "train.steps=60"]);
    let store = place.dir.with_file_name("store");
    until("a copied journal", LIMIT, || store.join("journal").is_file().then_some(()));
    let other = place.dir.with_file_name("other");
    let mut second = Command::new(binary("coordinator"));
    second.arg("--resume").arg(&other).args(["--external", "--set", &place.store]);
    let mut second = second.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(run.wait(), Some(1));
    let said = std::fs::read_to_string(place.dir.with_extension("out")).unwrap();
    assert!(said.contains("another coordinator has claimed the run"), "{said}");
    second.kill().unwrap();
    second.wait().unwrap();
}

#[test]
fn an_empty_store_and_a_wrong_address_are_exit_2() {
    let place = fresh();
    let (code, said) = resume_from_store(&place.dir, &place.store);
    assert_eq!((code, said.contains("there is no run in this store")), (Some(2), true), "{said}");
    let output = run_texts(
        "coordinator",
        &["--run-dir", &place.dir.display().to_string(), "--set", "checkpoint.store=ftp://nowhere"],
    );
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("checkpoint.store"), "{}", stderr(&output));
}
