//! Local workers: spawned, watched, named in workers.json. They outlive a coordinator that dies and park.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// One local worker process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalWorker {
    /// Its id in the run.
    pub id: String,
    /// Its process.
    pub pid: u32,
    /// Which life of this id.
    pub incarnation: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct WorkersJson {
    workers: Vec<LocalWorker>,
}

/// A process ended.
#[derive(Debug)]
pub struct Exited {
    /// Whose.
    pub worker: LocalWorker,
    /// How.
    pub status: ExitStatus,
}

/// Spawns and names local workers.
pub struct Launcher {
    run_dir: PathBuf,
    arguments: Vec<String>,
    gpus: Vec<String>,
    workers: BTreeMap<String, LocalWorker>,
    children: BTreeSet<u32>,
    /// Told to leave: nobody takes their place.
    dismissed: BTreeSet<String>,
    exits: mpsc::UnboundedSender<Exited>,
}

impl Launcher {
    /// A launcher and the stream of exits. `arguments` are the worker's, but for its id; `gpus` has one for each, or is
    /// empty.
    pub fn new(run_dir: &Path, arguments: Vec<String>, gpus: Vec<String>) -> (Self, mpsc::UnboundedReceiver<Exited>) {
        let (exits, exited) = mpsc::unbounded_channel();
        (
            Launcher {
                run_dir: run_dir.to_owned(),
                arguments,
                gpus,
                workers: BTreeMap::new(),
                children: BTreeSet::new(),
                dismissed: BTreeSet::new(),
                exits,
            },
            exited,
        )
    }

    /// Starts a worker; its output goes to `logs/worker-ID.log`.
    pub fn spawn(&mut self, id: &str) -> Result<()> {
        let program = std::env::current_exe().context("where the coordinator is")?.with_file_name("worker");
        let folder = self.run_dir.join("logs");
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let path = folder.join(format!("worker-{id}.log"));
        let log =
            OpenOptions::new().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
        let incarnation = self.workers.get(id).map_or(0, |worker| worker.incarnation) + 1;
        let mut command = std::process::Command::new(&program);
        command.args(&self.arguments).args(["--id", id]);
        command.stdin(Stdio::null()).stdout(log.try_clone().context("the worker's log")?).stderr(log);
        command.process_group(0); // Ctrl-C on the terminal is the coordinator's alone: it drains its workers
        if let Some(gpu) = self.gpu(id)? {
            command.env("CUDA_VISIBLE_DEVICES", gpu);
        }
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(false)
            .spawn()
            .with_context(|| format!("starting {}: is it built? (make build)", program.display()))?;
        let worker = LocalWorker { id: id.to_owned(), pid: child.id().unwrap_or(0), incarnation };
        self.workers.insert(id.to_owned(), worker.clone());
        self.children.insert(worker.pid);
        self.write()?;
        let exits = self.exits.clone();
        tokio::spawn(async move {
            if let Ok(status) = child.wait().await {
                // The receiver is gone only when the run is over.
                let _ = exits.send(Exited { worker, status });
            }
        });
        Ok(())
    }

    /// The GPU of the worker `wN`: the N-th, and of no other worker. None on CPUs.
    fn gpu(&self, id: &str) -> Result<Option<&str>> {
        if self.gpus.is_empty() {
            return Ok(None);
        }
        let index = id.strip_prefix('w').and_then(|index| index.parse::<usize>().ok());
        let gpu = index.and_then(|index| self.gpus.get(index));
        let gpu = gpu.with_context(|| format!("worker {id}: all {} GPUs have a worker already", self.gpus.len()))?;
        Ok(Some(gpu))
    }

    /// Takes over a worker that another coordinator started and that still lives.
    pub fn adopt(&mut self, worker: LocalWorker) -> Result<()> {
        self.workers.insert(worker.id.clone(), worker);
        self.write()
    }

    /// Starts a worker under the first free name; gives the name.
    pub fn spawn_another(&mut self) -> Result<String> {
        let free = |id: &String| !self.workers.contains_key(id) && !self.dismissed.contains(id);
        let id = (0..).map(|index| format!("w{index}")).find(free).expect("there are more names than processes");
        self.spawn(&id)?;
        Ok(id)
    }

    /// Names of those that were not told to leave, by number.
    pub fn staying(&self) -> Vec<String> {
        let number = |id: &String| id.trim_start_matches('w').parse::<u64>().unwrap_or(u64::MAX);
        let mut staying: Vec<String> =
            self.workers.keys().filter(|id| !self.dismissed.contains(*id)).cloned().collect();
        staying.sort_by_key(number);
        staying
    }

    /// Marks a worker as told to leave.
    pub fn dismiss(&mut self, id: &str) {
        self.dismissed.insert(id.to_owned());
    }

    /// Forgets a process that ended. True where it had been told to leave.
    pub fn forget(&mut self, worker: &LocalWorker) -> Result<bool> {
        if self.workers.get(&worker.id) == Some(worker) {
            self.workers.remove(&worker.id);
            self.write()?;
        }
        Ok(self.dismissed.remove(&worker.id))
    }

    /// Asks a worker's process to leave.
    pub fn terminate(&self, id: &str) {
        if let Some(worker) = self.workers.get(id) {
            signal(worker.pid, libc::SIGTERM);
        }
    }

    /// Kills a worker's process.
    pub fn kill(&self, id: &str) {
        if let Some(worker) = self.workers.get(id) {
            signal(worker.pid, libc::SIGKILL);
        }
    }

    /// Whether this launcher started it.
    pub fn is_child(&self, worker: &LocalWorker) -> bool {
        self.children.contains(&worker.pid)
    }

    /// Writes down that no local worker lives any more.
    pub fn forget_all(&mut self) -> Result<()> {
        self.workers.clear();
        self.write()
    }

    /// The living.
    pub fn workers(&self) -> impl Iterator<Item = &LocalWorker> {
        self.workers.values()
    }

    fn write(&self) -> Result<()> {
        let json = WorkersJson { workers: self.workers.values().cloned().collect() };
        let path = self.run_dir.join("workers.json");
        let temporary = self.run_dir.join(".workers.json");
        std::fs::write(&temporary, serde_json::to_vec_pretty(&json)?)
            .with_context(|| temporary.display().to_string())?;
        std::fs::rename(&temporary, &path).with_context(|| path.display().to_string())
    }
}

/// Workers that an earlier coordinator of this run left parked.
pub fn parked(run_dir: &Path) -> Vec<LocalWorker> {
    let read = std::fs::read(run_dir.join("workers.json")).ok();
    let json: WorkersJson = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    json.workers.into_iter().filter(|worker| is_alive(worker.pid) && is_worker(worker.pid)).collect()
}

/// Whether a process lives.
pub fn is_alive(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Whether a process lives and is a worker: a process id may have been given to something else meanwhile.
pub fn is_worker(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    program.ends_with(b"worker") && words.any(|word| word == b"--coordinator")
}

/// Sends a signal to a process.
#[expect(unsafe_code, reason = "kill(2) has no safe form in std")]
pub fn signal(pid: u32, signal: i32) {
    if let Ok(pid) = i32::try_from(pid)
        && pid > 1
    {
        // SAFETY: takes two integers; a process that is gone is an error that is of no interest.
        unsafe { libc::kill(pid, signal) };
    }
}
