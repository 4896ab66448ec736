//! Checkpoints: what workers send is compared, written beside the driver's work, and told to the core.

use anyhow::anyhow;
use coordinator_core::{Digest, Event};

use super::Driver;
use crate::checkpoints::{self, CheckpointError, StateFiles, StateJson};
use crate::exit::ExitError;
use crate::service::Input;

impl Driver {
    /// A checkpoint's state has come: it must be the committed one.
    pub(super) fn uploaded(&mut self, step: u64, worker: String, files: StateFiles) -> Result<(), ExitError> {
        let fold = polya_proto::state_digest(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
        let state = Digest(fold);
        match self.core.journal().state(step) {
            Some(committed) if committed == state => {}
            Some(_) => return self.handle(Event::CheckpointWrong { step, worker, state }),
            None => return self.handle(Event::CheckpointLost { step }), // so late that the step is forgotten
        }
        if !self.writing.insert(step) {
            // The worker that sent it was lost before it was written, and another one was asked: it is the same state.
            return Ok(());
        }
        let json = StateJson { step, state, epoch: self.core.journal().epoch() };
        let (run_dir, inputs) = (self.run_dir.clone(), self.inputs.clone());
        tokio::task::spawn_blocking(move || {
            let result = checkpoints::save(&run_dir, &json, &files);
            // The driver is gone only when the run is over.
            let _ = inputs.blocking_send(Input::Saved { step, result });
        });
        Ok(())
    }

    /// It is written, or cannot be.
    pub(super) fn saved(&mut self, step: u64, result: Result<Digest, CheckpointError>) -> Result<(), ExitError> {
        self.writing.remove(&step);
        let manifest = result.map_err(|error| anyhow!(error).context("saving a checkpoint"))?;
        self.flush_statistics()?;
        self.handle(Event::CheckpointWritten { step, manifest })?;
        if let Some(publisher) = &self.publisher {
            publisher.publish(Some(step));
        }
        Ok(checkpoints::prune(&self.run_dir, self.config.checkpoint.keep)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use coordinator_core::record::{Commit, Record};
    use coordinator_core::{Journal as Fold, State};
    use tokio::sync::mpsc;

    use super::*;
    use crate::config;
    use crate::driver::Parts;
    use crate::journal::Journal;
    use crate::run_data;
    use crate::setup::setup;

    /// A driver of a run whose step 1 was committed with the state of these files.
    fn driver(run_dir: &Path, files: &StateFiles, inputs: mpsc::Sender<Input>) -> Driver {
        let config = config::load(None, &["data.synthetic_count=40".to_owned()]).unwrap().config;
        let data = run_data::load(&config).unwrap();
        let setup = setup(&config, &data).unwrap_or_else(|exit| panic!("{:#}", exit.error));
        let state = polya_proto::state_digest(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
        let mut fold = Fold::new(setup.scale_log2);
        let commit = Commit {
            step: 1,
            attempt: 0,
            time_ms: 0,
            plan: Digest([0; 32]),
            microbatches: BTreeMap::new(),
            sum_digest: 0,
            state: Digest(state),
            gradient_norm_bits: 0,
        };
        fold.fold(&setup, &Record::Commit(Box::new(commit)));
        let journal = Journal::create(&run_dir.join("journal")).unwrap();
        let core = State::of_journal(setup, fold, Default::default());
        Driver::new(Parts { core, config, run_dir: run_dir.to_owned(), data, journal }, inputs)
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Both would write, rename and remove in one folder.
    #[tokio::test]
    async fn a_state_that_comes_again_while_it_is_written_is_not_written_beside() {
        let folder = tempfile::tempdir().unwrap();
        let files = vec![("optimizer.safetensors".to_owned(), vec![7; 100])];
        let (inputs, mut received) = mpsc::channel(4);
        let mut driver = driver(folder.path(), &files, inputs);
        for worker in ["w0", "w1"] {
            assert!(driver.uploaded(1, worker.to_owned(), files.clone()).is_ok());
        }
        let Some(Input::Saved { step: 1, result }) = received.recv().await else { panic!("the state is written") };
        assert!(driver.saved(1, result).is_ok());
        assert_eq!(checkpoints::read(&checkpoints::folder(folder.path(), 1)).unwrap().2, files);
        drop(driver);
        assert!(received.recv().await.is_none(), "it is written once");
    }
}
