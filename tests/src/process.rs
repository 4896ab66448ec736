//! The binaries as a user runs them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::wait::until;

/// Longest that any run of a test may take.
pub const LIMIT: Duration = Duration::from_secs(300);

/// A small run: eight steps over three checkpoints.
pub const SETTINGS: [&str; 9] = [
    "run.seed=7",
    "worker.device=cpu",
    "train.steps=8",
    "data.synthetic_count=150",
    "batch.tokens_per_microbatch=512",
    "batch.microbatches_per_step=3",
    "checkpoint.every=3",
    "evaluation.samples=3",
    // Many runs share two cores here: a busy machine is no lost worker.
    "failure_detection=4s",
];

/// Whether the long forms of the fault tests are wanted, as `make test-faults` does.
pub fn is_full() -> bool {
    std::env::var_os("FAULTS_FULL").is_some()
}

/// The path of a binary; `make build` makes it.
pub fn binary(name: &str) -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let path = folder.join("release").join(name);
    assert!(path.is_file(), "{} is not built: run `make build` first", path.display());
    path
}

/// Runs a binary to its end.
pub fn run(name: &str, arguments: &[&OsStr]) -> Output {
    Command::new(binary(name)).args(arguments).stdin(Stdio::null()).output().expect("a built binary starts")
}

/// The same with texts.
pub fn run_texts(name: &str, arguments: &[&str]) -> Output {
    run(name, &arguments.iter().map(OsStr::new).collect::<Vec<_>>())
}

/// The setting of a holdout of six problems, which it writes into a folder: the built-in one has 250, and scoring them would
/// take far longer than a short run does.
pub fn small_holdout(folder: &Path) -> String {
    let path = folder.join("holdout.parquet").display().to_string();
    let made = run_texts("datasets", &["synthesize", "--seed", "4242", "--count", "6", "--output", &path]);
    assert!(made.status.success(), "{}", stderr(&made));
    format!("data.holdout={path}")
}

/// What a program wrote to stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A coordinator that is killed when the test ends.
#[derive(Debug)]
pub struct Coordinator {
    child: Child,
    dir: PathBuf,
}

impl Coordinator {
    /// Starts a new run with [`SETTINGS`] and more values.
    pub fn start(dir: &Path, workers: u32, more: &[&str]) -> Self {
        Self::start_in(dir, workers, more, &[])
    }

    /// The same with environment variables.
    pub fn start_in(dir: &Path, workers: u32, more: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary("coordinator"));
        command.arg("--run-dir").arg(dir).envs(variables.iter().copied());
        for set in SETTINGS.iter().chain(more) {
            command.args(["--set", set]);
        }
        Self::spawn(command, dir, workers)
    }

    /// Goes on with a run.
    pub fn resume(dir: &Path, workers: u32) -> Self {
        let mut command = Command::new(binary("coordinator"));
        command.arg("--resume").arg(dir);
        Self::spawn(command, dir, workers)
    }

    fn spawn(mut command: Command, dir: &Path, workers: u32) -> Self {
        let log = std::fs::File::create(dir.with_extension("out")).expect("a temporary folder can be written");
        command.args(["--workers", &workers.to_string()]).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file handle can be copied")).stderr(log);
        Coordinator { child: command.spawn().expect("a built binary starts"), dir: dir.to_owned() }
    }

    /// Waits for its end; gives the exit code.
    pub fn wait(self) -> Option<i32> {
        self.wait_for(LIMIT)
    }

    /// Waits for its end with more patience.
    pub fn wait_for(mut self, limit: Duration) -> Option<i32> {
        let output = self.dir.with_extension("out");
        until("the coordinator's end", limit, || self.child.try_wait().ok().flatten()).code().inspect(|code| {
            if ![0, 75].contains(code) {
                println!("{}", std::fs::read_to_string(&output).unwrap_or_default());
            }
        })
    }

    /// Waits until so many steps are committed.
    pub fn wait_for_step(&self, step: u64) {
        until("a committed step", LIMIT, || {
            (self.dir.join("journal").exists() && audit(&self.dir).0["steps"].as_u64() >= Some(step)).then_some(())
        });
    }

    /// Whether it is over.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal: `KILL`, `INT`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Processes of its local workers.
    pub fn workers(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(self.dir.join("workers.json")).unwrap_or_default();
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let list = json["workers"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|worker| worker["pid"].as_u64()).map(|pid| pid as u32).collect()
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.workers().into_iter().for_each(|pid| signal(pid, "KILL"));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).stderr(Stdio::null()).status();
    assert!(status.is_ok(), "kill(1) is part of every system");
}

/// `coordinator audit --json`: the document and the exit code.
pub fn audit(dir: &Path) -> (Value, Option<i32>) {
    let output = run("coordinator", &[OsStr::new("audit"), dir.as_os_str(), OsStr::new("--json")]);
    (serde_json::from_slice(&output.stdout).unwrap_or_default(), output.status.code())
}

/// Asserts that the audit proves all 8 steps of [`SETTINGS`]; gives their digests.
pub fn proven_digests(dir: &Path) -> Value {
    proven_digests_of(dir, 8)
}

/// Asserts that the audit proves so many steps; gives their digests.
pub fn proven_digests_of(dir: &Path, steps: u64) -> Value {
    let (report, code) = audit(dir);
    assert_eq!(code, Some(0), "{report:#}");
    for count in ["duplicates", "missing", "holdout_leaks"] {
        assert_eq!(report[count], 0, "{report:#}");
    }
    assert_eq!(report["steps"], steps, "{report:#}");
    report["digests"].clone()
}
