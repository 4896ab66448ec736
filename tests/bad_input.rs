//! Bad input, full disks and damaged files: a clear error or the documented recovery, and nothing lost.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use polya_tests::process::{Coordinator, audit, proven_digests, run_texts, stderr};

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let dir = folder.path().join("run");
    (folder, dir)
}

fn refused(arguments: &[&str], words: &[&str]) {
    let output = run_texts("coordinator", arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    for word in words {
        assert!(stderr(&output).contains(word), "{arguments:?} should name {word}: {}", stderr(&output));
    }
}

#[test]
fn what_the_command_line_can_fix_is_exit_2_and_named() {
    let (folder, dir) = fresh();
    let dir = dir.to_str().unwrap();
    refused(&["--no-such-flag"], &["--no-such-flag"]);
    refused(&["--run-dir", dir, "--set", "train.step=3"], &["train.step", "train.steps"]);
    refused(&["--run-dir", dir, "--set", "base.path=/no/such/base"], &["base.path", "/no/such/base"]);
    refused(&["--run-dir", dir, "--set", "data.train=/no/such/file"], &["data.train", "/no/such/file"]);
    refused(
        &["--run-dir", dir, "--workers", "4000", "--set", "worker.device=cuda"],
        &["worker.device = cuda", "--workers"],
    );
    let full = folder.path().to_str().unwrap();
    std::fs::write(folder.path().join("something"), "x").unwrap();
    refused(&["--run-dir", full], &[full, "not empty"]);
    refused(&["--resume", full], &[full, "no run to resume"]);
    refused(&["audit", full], &[full]);
}

#[test]
fn a_port_that_is_taken_is_exit_2() {
    let (_folder, dir) = fresh();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&["--run-dir", dir.to_str().unwrap(), "--listen", &address], &[&address]);
    assert!(!dir.exists(), "nothing is left behind");
}

#[test]
fn a_damaged_base_stops_the_run_and_is_named() {
    let (folder, dir) = fresh();
    let base = folder.path().join("base");
    std::fs::create_dir(&base).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../base");
    for name in ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(source.join(name), base.join(name)).unwrap();
    }
    let weights = base.join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let set = format!("base.path={}", base.display());
    let code = Coordinator::start(&dir, 1, &[&set]).wait();
    assert_eq!(code, Some(1));
    let said = std::fs::read_to_string(dir.with_extension("out")).unwrap();
    assert!(said.contains("model.safetensors"), "{said}");
}

#[test]
fn a_torn_journal_is_cut_a_damaged_checkpoint_is_passed_over_a_broken_journal_is_refused() {
    let (_folder, dir) = fresh();
    let run = Coordinator::start(&dir, 1, &[]);
    run.wait_for_step(7);
    run.signal("INT");
    assert_eq!(run.wait(), Some(75));
    let (before, _) = audit(&dir);

    // A flipped byte in the newest checkpoint: audit names the file, resume replays from an older one.
    let newest = std::fs::read_dir(dir.join("checkpoints")).unwrap().flatten().map(|entry| entry.path());
    let newest = newest.filter(|path| path.is_dir()).max().unwrap().join("reasoning/adapter_model.safetensors");
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let (report, code) = audit(&dir);
    assert_eq!((code, report["checkpoints_ok"].as_bool()), (Some(1), Some(false)));
    assert!(report["faults"].to_string().contains("adapter_model.safetensors"), "{report:#}");

    // Half a record behind the last one, as a crash leaves it.
    let journal = dir.join("journal");
    let whole = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, [&whole[..], &[200, 0, 0, 0, b'{', b'"']].concat()).unwrap();
    assert_eq!(Coordinator::resume(&dir, 1).wait(), Some(0));
    let said = std::fs::read_to_string(dir.with_extension("out")).unwrap();
    assert!(said.contains("torn tail") && said.contains("not used"), "{said}");
    let (after, _) = audit(&dir);
    let known = before["digests"].as_array().unwrap();
    assert_eq!(after["digests"].as_array().unwrap()[..known.len()], known[..]);
    assert_eq!(after["steps"], 8);

    // A flipped byte in the middle is damage, not a crash.
    let mut broken = std::fs::read(&journal).unwrap();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    std::fs::write(&journal, &broken).unwrap();
    let (report, code) = audit(&dir);
    assert_eq!((code, report["chain_ok"].as_bool()), (Some(1), Some(false)));
    let output = run_texts("coordinator", &["--resume", dir.to_str().unwrap(), "--workers", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("byte") && stderr(&output).contains("journal"), "{}", stderr(&output));
    assert_eq!(std::fs::read(&journal).unwrap(), broken, "a damaged journal is left as it is");
}

#[test]
fn a_full_disk_ends_the_run_and_nothing_committed_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("small");
    std::fs::create_dir(&mount).unwrap();
    let options = ["-t", "tmpfs", "-o", "size=32m", "polya-test"];
    let mounted = Command::new("mount").args(options).arg(&mount).output().is_ok_and(|output| output.status.success());
    if !mounted {
        println!("NOT RUN: a tmpfs cannot be mounted here");
        return;
    }
    let _unmount = Unmount(mount.clone());
    let dir = mount.join("run");
    let ballast = mount.join("ballast");
    std::fs::write(&ballast, vec![1u8; 28 << 20]).unwrap();
    let code = Coordinator::start(&dir, 1, &["checkpoint.keep=1"]).wait();
    assert_eq!(code, Some(1), "the disk is full before the first checkpoint is whole");
    let said = std::fs::read_to_string(dir.with_extension("out")).unwrap_or_default();
    assert!(said.is_empty() || said.contains("No space left"), "{said}");
    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(Coordinator::resume(&dir, 1).wait(), Some(0));
    proven_digests(&dir);
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_truncated_gsm8k_file_loses_nothing_silently() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("cut.jsonl");
    let line = r##"{"question": "Mia has 3 pens and buys 4. How many?", "answer": "3+4=<<3+4=7>>7 pens.\n#### 7"}"##;
    std::fs::write(&input, format!("{line}\n{}", &line[..40])).unwrap();
    let [output, rejects] = ["out.parquet", "rejects.jsonl"].map(|name| folder.path().join(name));
    let arguments = ["parse", "--source", "gsm8k", "--json", "--input", input.to_str().unwrap(), "--output"];
    let more = [output.to_str().unwrap(), "--rejects", rejects.to_str().unwrap()];
    let done = run_texts("datasets", &[&arguments[..], &more[..]].concat());
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let rejected: u64 = json["rejected"].as_object().unwrap().values().filter_map(|count| count.as_u64()).sum();
    assert_eq!((json["read"].as_u64(), json["kept"].as_u64(), rejected), (Some(2), Some(1), 1), "{json}");
    assert_eq!(std::fs::read_to_string(&rejects).unwrap().lines().count(), 1);
}
