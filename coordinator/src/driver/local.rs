//! Local workers of a live run: replaced when they die, more and fewer when somebody asks.

use std::path::Path;
use std::process::ExitStatus;

use coordinator_core::{End, Event};

use super::Driver;
use crate::exit::ExitError;
use crate::launcher::{self, Exited, LocalWorker};

/// Crashes of one local worker without a commit in between, after which the run stops.
const CRASHES_MAX: u32 = 5;
/// Exits after which another process of the same kind would end the same way.
const HOPELESS: [i32; 3] = [polya_proto::exit::USAGE, polya_proto::exit::REFUSED, polya_proto::exit::OTHER_CLASS];

impl Driver {
    /// A local process ended.
    pub(super) fn exited(&mut self, exited: Exited) -> Result<(), ExitError> {
        self.gone(&exited.worker, Some(exited.status))
    }

    /// Workers of an earlier coordinator are no children: whether they live is looked up.
    pub(super) fn watch_adopted(&mut self) -> Result<(), ExitError> {
        let Some(launcher) = &self.launcher else { return Ok(()) };
        let is_gone = |worker: &&LocalWorker| !launcher.is_child(worker) && !launcher::is_alive(worker.pid);
        let gone: Vec<LocalWorker> = launcher.workers().filter(is_gone).cloned().collect();
        gone.iter().try_for_each(|worker| self.gone(worker, None))
    }

    /// Replaces a process, unless it left on purpose or says that nothing will help.
    fn gone(&mut self, worker: &LocalWorker, status: Option<ExitStatus>) -> Result<(), ExitError> {
        let Some(launcher) = &mut self.launcher else { return Ok(()) };
        let was_dismissed = launcher.forget(worker)?;
        let how = status.map_or("it is no child of this coordinator".to_owned(), |status| status.to_string());
        if self.left.remove(&worker.id) || was_dismissed {
            tracing::info!(worker = worker.id, how, "a local worker left; `coordinator scale` starts another");
            return Ok(());
        }
        tracing::warn!(worker = worker.id, pid = worker.pid, how, "a local worker ended; it is replaced");
        let log = self.run_dir.join("logs").join(format!("worker-{}.log", worker.id));
        if let Some(code) = status.and_then(|status| status.code()).filter(|code| HOPELESS.contains(code)) {
            let reason = format!("worker {} was refused (exit {code}): {}", worker.id, last_line(&log));
            self.end = Some(End::Stopped(reason));
            return Ok(());
        }
        let crashes = self.crashes.entry(worker.id.clone()).or_default();
        *crashes += 1;
        if *crashes > CRASHES_MAX {
            let reason = format!("worker {} ended {crashes} times without a step: {}", worker.id, last_line(&log));
            self.end = Some(End::Stopped(reason));
            return Ok(());
        }
        Ok(launcher.spawn(&worker.id)?)
    }

    /// Starts or dismisses local workers until there are so many. Says what is done, or why it cannot be.
    pub(super) fn scale(&mut self, wanted: u32) -> Result<Result<String, String>, ExitError> {
        let Some(launcher) = &mut self.launcher else {
            let reason = "this coordinator starts no workers (--external): start or stop them where they run";
            return Ok(Err(reason.to_owned()));
        };
        let staying = launcher.staying();
        let missing = (wanted as usize).saturating_sub(staying.len());
        let started = (0..missing).map(|_| launcher.spawn_another()).collect::<Result<Vec<_>, _>>()?;
        let leaving: Vec<String> = staying.into_iter().skip(wanted as usize).collect();
        for id in &leaving {
            launcher.dismiss(id);
        }
        for id in &leaving {
            if self.workers.values().any(|hello| hello.worker == *id) {
                self.handle(Event::Dismiss(id.clone()))?;
            } else if let Some(launcher) = &self.launcher {
                launcher.terminate(id); // not here yet, or parked: it has nothing to hand over
            }
        }
        let outcome = match (started.is_empty(), leaving.is_empty()) {
            (false, _) => format!("{wanted} workers: {} started", started.join(", ")),
            (_, false) => format!("{wanted} workers: {} leave after the step", leaving.join(", ")),
            _ => format!("{wanted} workers, as there are"),
        };
        tracing::info!(outcome, "scaled");
        Ok(Ok(outcome))
    }

    /// Starts a worker that can decide between two others.
    pub(super) fn recruit(&mut self) -> Result<(), ExitError> {
        match &mut self.launcher {
            Some(launcher) => {
                let worker = launcher.spawn_another()?;
                tracing::warn!(worker, "started to decide between two workers");
            }
            None => tracing::warn!("one more worker is needed to decide between two: start it where they run"),
        }
        Ok(())
    }
}

/// The last line of a worker's log that says something.
fn last_line(path: &Path) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it left no message");
    format!("{line} (see {})", path.display())
}
