//! Points at which a process of a fault test stands still until the test says go on.
//!
//! Only the `…-under-test` programs of this crate know them: they wrap the libraries that the real programs are made of,
//! which contain nothing of the kind. `FAULTS_HOLDS` is a list of `point@n`, `FAULTS_HOLD_DIR` a folder. Where the process
//! comes to such a point for the first time, it makes `PROCESS.point@n.reached` there and waits for `….go`. If that file
//! says `panic`, it panics there.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::wait::until;

/// The list of points.
pub const HOLDS: &str = "FAULTS_HOLDS";
/// Where they are told of.
pub const HOLD_DIR: &str = "FAULTS_HOLD_DIR";
/// So that a process that its test has forgotten ends.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// Where one process is to stand still.
#[derive(Debug)]
pub struct Points {
    process: String,
    dir: PathBuf,
    waiting: Mutex<Vec<String>>,
}

impl Points {
    /// What the environment says for the process of this name.
    pub fn from_environment(process: &str) -> Arc<Points> {
        let holds = std::env::var(HOLDS).unwrap_or_default();
        Arc::new(Points {
            process: process.to_owned(),
            dir: std::env::var_os(HOLD_DIR).map(PathBuf::from).unwrap_or_default(),
            waiting: Mutex::new(holds.split(',').filter(|hold| !hold.is_empty()).map(str::to_owned).collect()),
        })
    }

    /// Called wherever the process can be held. What `n` counts depends on the point.
    pub fn reach(&self, point: &str, n: u64) {
        let hold = format!("{point}@{n}");
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(index) = waiting.iter().position(|wanted| *wanted == hold) else { return };
            waiting.remove(index);
        }
        let [reached, go] = files(&self.dir, &self.process, &hold);
        std::fs::write(&reached, std::process::id().to_string()).expect("a test's folder can be written");
        let told = until("the test's word", FORGOTTEN, || std::fs::read_to_string(&go).ok());
        assert!(told != "panic", "held at {hold}, and told to panic");
    }
}

/// The files of a hold: reached, go.
pub fn files(dir: &Path, process: &str, hold: &str) -> [PathBuf; 2] {
    ["reached", "go"].map(|end| dir.join(format!("{process}.{hold}.{end}")))
}

/// Dies as a process does that gets no memory.
pub fn run_out_of_memory() -> ! {
    let bytes: Vec<u8> = Vec::with_capacity(isize::MAX as usize);
    drop(std::hint::black_box(bytes));
    unreachable!("no machine has so much memory")
}

/// Dies of SIGUSR1 by a panic and of SIGUSR2 by running out of memory, wherever the process stands.
pub fn obey_signals() {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    let dying = async {
        let mut panics = signal(SignalKind::user_defined1()).expect("a signal can be listened for");
        let mut exhausts = signal(SignalKind::user_defined2()).expect("a signal can be listened for");
        tokio::select! {
            _ = panics.recv() => {
                eprintln!("told to end as by a panic");
                std::process::exit(101)
            }
            _ = exhausts.recv() => run_out_of_memory(),
        }
    };
    std::thread::spawn(move || runtime.block_on(dying));
}
