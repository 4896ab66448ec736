//! A run whose processes the test owns: `coordinator --external` and workers, restarted when they die as a service manager
//! would do it. The first life of each is of the `…-under-test` programs, every later one of the real programs.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use coordinator::journal::Records;
use coordinator_core::Record;
use coordinator_core::record::Commit;

use crate::held_trainer::SLOWNESS;
use crate::liar::{LIE, Lie};
use crate::points::{HOLD_DIR, HOLDS, files};
use crate::process::{LIMIT, SETTINGS, binary, run_texts, signal};
use crate::wait::until;

/// The coordinator's name among the processes.
pub const COORDINATOR: &str = "coordinator";

/// Where a worker has everything but a state to work on. Time spent here says nothing about how fast it is.
pub const READY_TO_BEGIN: &str = "initial@0";

/// See the module. Processes that are left are killed when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    folder: PathBuf,
    address: String,
    processes: BTreeMap<String, Child>,
    holds: Vec<(String, String)>,
    /// Environment variables of a worker's first life.
    variables: BTreeMap<String, (&'static str, String)>,
}

impl Fleet {
    /// Starts a coordinator with [`SETTINGS`] and more values. `holds`: which process stands still at which point.
    pub fn start(folder: &Path, more: &[&str], holds: &[(&str, &str)]) -> Fleet {
        let mut fleet = Fleet::of(folder, holds);
        let mut command = Command::new(binary("coordinator-under-test"));
        command.arg("--run-dir").arg(fleet.dir());
        for set in SETTINGS.iter().chain(more) {
            command.args(["--set", set]);
        }
        fleet.open(command);
        fleet
    }

    /// Goes on with a run whose processes have all died, under programs that can be held again.
    pub fn resume(folder: &Path, holds: &[(&str, &str)]) -> Fleet {
        let mut fleet = Fleet::of(folder, holds);
        let mut command = Command::new(binary("coordinator-under-test"));
        command.arg("--resume").arg(fleet.dir());
        std::fs::remove_file(fleet.dir().join("address")).expect("an earlier coordinator has left its address");
        fleet.open(command);
        fleet
    }

    fn of(folder: &Path, holds: &[(&str, &str)]) -> Fleet {
        let holds = holds.iter().map(|(process, hold)| ((*process).to_owned(), (*hold).to_owned())).collect();
        let address = "127.0.0.1:0".to_owned();
        Fleet { folder: folder.to_owned(), address, processes: BTreeMap::new(), holds, variables: BTreeMap::new() }
    }

    /// Starts the coordinator, learns where it listens.
    fn open(&mut self, command: Command) {
        self.spawn(COORDINATOR, command);
        let path = self.dir().join("address");
        let address = self.wait("the coordinator's address", || std::fs::read_to_string(&path).ok());
        self.address = address.trim().to_owned();
    }

    /// The run's directory.
    pub fn dir(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// Starts a worker that can be held.
    pub fn start_worker(&mut self, id: &str) {
        self.spawn(id, Command::new(binary("worker-under-test")));
    }

    /// Starts a worker that takes `factor` times as long for each microbatch.
    pub fn start_slow_worker(&mut self, id: &str, factor: u32) {
        self.variables.insert(id.to_owned(), (SLOWNESS, factor.to_string()));
        self.start_worker(id);
    }

    /// Starts a worker whose device lies from a step on.
    pub fn start_lying_worker(&mut self, id: &str, lie: Lie, from_step: u64) {
        self.variables.insert(id.to_owned(), (LIE, format!("{lie:?}@{from_step}")));
        self.start_worker(id);
    }

    /// Waits until a worker is there and holds the state of a step.
    pub fn wait_for_worker(&mut self, id: &str, step: u64) {
        let dir = self.dir().display().to_string();
        let [from, state] = [format!("worker {id} "), format!("at step {step}")];
        self.wait("a worker", || {
            let said = run_texts("coordinator", &["status", &dir]).stdout;
            let said = String::from_utf8_lossy(&said).into_owned();
            said.lines().any(|line| line.starts_with(&from) && line.contains(&state)).then_some(())
        });
    }

    /// Waits until a process stands still.
    pub fn wait_for_hold(&mut self, process: &str, hold: &str) {
        let [reached, _] = files(&self.folder, process, hold);
        self.wait(hold, || reached.exists().then_some(()));
    }

    /// Lets a process go on; `word` may be `panic`.
    pub fn go(&self, process: &str, hold: &str, word: &str) {
        let [_, go] = files(&self.folder, process, hold);
        let aside = go.with_extension("word");
        std::fs::write(&aside, word).and_then(|()| std::fs::rename(&aside, &go)).expect("a test's folder is writable");
    }

    /// A process, by its name.
    pub fn pid(&self, process: &str) -> u32 {
        self.processes[process].id()
    }

    /// All processes, by their names.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        self.processes.iter().map(|(name, child)| (name.clone(), child.id())).collect()
    }

    /// Starts workers that begin together, each with the hold [`READY_TO_BEGIN`]. Who is named first connects first.
    pub fn start_together(&mut self, ids: &[&str]) {
        for id in ids {
            if !self.processes.contains_key(*id) {
                self.start_worker(id);
            }
            self.wait_for_hold(id, READY_TO_BEGIN);
        }
        for id in ids {
            self.go(id, READY_TO_BEGIN, "");
        }
    }

    /// Ends a worker on purpose, as a scaled-down machine does.
    pub fn dismiss(&mut self, id: &str) {
        let pid = self.pid(id);
        signal(pid, "TERM");
        self.wait_for_death(pid);
    }

    /// Kills all processes.
    pub fn kill_all(&mut self) {
        for child in self.processes.values_mut() {
            signal(child.id(), "KILL"); // also a stopped one
            let _ = child.wait();
        }
        self.processes.clear();
    }

    /// Waits until a process that was told to die has done so.
    pub fn wait_for_death(&mut self, pid: u32) {
        self.wait("a process's death", || is_dead(pid).then_some(()));
    }

    /// Sends a deadly signal until the process is dead: the first SIGSEGV only takes away the handler that Rust has for it.
    pub fn kill(&mut self, process: &str, name: &str) {
        let pid = self.pid(process);
        self.wait("a killed process's death", || {
            signal(pid, name);
            is_dead(pid).then_some(())
        });
    }

    /// Waits for the first commit that was decided at that time or later; gives how much later.
    pub fn wait_for_commit_after(&mut self, since_ms: u64) -> u64 {
        let dir = self.dir();
        let later = |commit: &Commit| commit.time_ms.checked_sub(since_ms);
        self.wait("a commit", || commits(&dir).iter().find_map(later))
    }

    /// Lets time pass where it is the time itself that is tested: how long somebody stands still, when the next one dies.
    pub fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.tend();
            std::thread::park_timeout(left.min(Duration::from_millis(50)));
        }
    }

    /// Waits until so many steps are committed.
    pub fn wait_for_step(&mut self, step: u64) {
        let dir = self.dir();
        self.wait("a committed step", || (commits(&dir).len() as u64 >= step).then_some(()));
    }

    /// Tends the processes until the run has ended; gives the coordinator's exit code.
    pub fn wait_for_end(&mut self) -> i32 {
        until("the run's end", LIMIT, || {
            self.tend();
            self.processes.get_mut(COORDINATOR)?.try_wait().ok().flatten()?.code()
        })
    }

    /// What a process has said.
    pub fn said(&self, process: &str) -> String {
        std::fs::read_to_string(self.log(process)).unwrap_or_default()
    }

    fn wait<T>(&mut self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        until(what, LIMIT, || {
            self.tend();
            condition()
        })
    }

    /// Starts again what has died.
    fn tend(&mut self) {
        // Done, refused or dismissed; a coordinator that stops the run on purpose exits with 1.
        let stays = |name: &str, code| match code {
            Some(0 | 2 | 75 | 76 | 78) => true,
            Some(1) => name == COORDINATOR,
            _ => false,
        };
        let died = |name: &str, child: &mut Child| {
            let status = child.try_wait().ok().flatten();
            status.is_some_and(|status| !stays(name, status.code()))
        };
        let dead: Vec<String> =
            self.processes.iter_mut().filter_map(|(name, child)| died(name, child).then(|| name.clone())).collect();
        for name in dead {
            self.holds.retain(|(process, _)| *process != name);
            let is_coordinator = name == COORDINATOR;
            let mut command = Command::new(binary(if is_coordinator { "coordinator" } else { "worker" }));
            if is_coordinator {
                command.arg("--resume").arg(self.dir());
            }
            self.spawn(&name, command);
        }
    }

    fn spawn(&mut self, name: &str, mut command: Command) {
        let log =
            OpenOptions::new().create(true).append(true).open(self.log(name)).expect("a test's folder is writable");
        match name {
            COORDINATOR => command.args(["--external", "--listen", &self.address]),
            id => command.args(["--coordinator", &self.address, "--id", id]),
        };
        let holds: Vec<&str> =
            self.holds.iter().filter(|(process, _)| process == name).map(|(_, hold)| hold.as_str()).collect();
        command.envs(self.variables.get(name).map(|(variable, value)| (variable, value)));
        command.env(HOLD_DIR, &self.folder).env(HOLDS, holds.join(","));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file handle can be copied")).stderr(log);
        self.processes.insert(name.to_owned(), command.spawn().expect("a built binary starts"));
    }

    fn log(&self, process: &str) -> PathBuf {
        self.folder.join(format!("{process}.out"))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in self.processes.keys() {
                println!("--- {name}\n{}", self.said(name));
            }
        }
        self.kill_all();
    }
}

fn is_dead(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
}

/// The commits in a run's journal, also of a live one.
pub fn commits(dir: &Path) -> Vec<Commit> {
    // A journal that has not been begun holds none.
    let records = Records::open(&dir.join("journal")).into_iter().flatten();
    let commit = |record| if let Ok(Record::Commit(commit)) = record { Some(*commit) } else { None };
    records.filter_map(commit).collect()
}

/// Milliseconds since 1970, as commits have them.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
