//! Local workers of a live run: replaced when they die, more and fewer when somebody asks.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitStatus;

use coordinator_core::{End, Event};

use super::Driver;
use crate::exit::ExitError;
use crate::launcher::{self, Exited, LocalWorker};

/// Deaths of one local worker without a step or a score in between, after which the run stops.
const DEATHS_MAX: u32 = 5;
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
        if let Some(deaths) = self.deaths.too_many_with(&worker.id) {
            let reason = format!("worker {} ended {deaths} times without a step: {}", worker.id, last_line(&log));
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

/// How often each local worker has died since the run last went on. Who is killed from outside again and again is no reason
/// to stop a run that goes on, be it by one step or by one unit of a long evaluation.
#[derive(Debug, Default)]
pub(super) struct Deaths(BTreeMap<String, u32>);

impl Deaths {
    /// Counts one more; gives their number where it is more than the run bears.
    fn too_many_with(&mut self, worker: &str) -> Option<u32> {
        let deaths = self.0.entry(worker.to_owned()).or_default();
        *deaths += 1;
        (*deaths > DEATHS_MAX).then_some(*deaths)
    }

    /// A step is committed, or a unit of an evaluation is done.
    pub(super) fn the_run_goes_on(&mut self) {
        self.0.clear();
    }
}

/// The last line of a worker's log that says something.
fn last_line(path: &Path) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it left no message");
    format!("{line} (see {})", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_dies_again_and_again_stops_the_run_only_if_nothing_is_done_in_between() {
        let mut deaths = Deaths::default();
        let die = |deaths: &mut Deaths, times| (0..times).filter_map(|_| deaths.too_many_with("w0")).last();
        for _ in 0..3 {
            assert_eq!(die(&mut deaths, DEATHS_MAX), None);
            deaths.the_run_goes_on();
        }
        assert_eq!(die(&mut deaths, DEATHS_MAX), None);
        assert_eq!(deaths.too_many_with("w1"), None, "another one's deaths are not its own");
        assert_eq!(deaths.too_many_with("w0"), Some(DEATHS_MAX + 1));
    }
}
