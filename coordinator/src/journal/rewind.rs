//! Taking back: the journal ends after a committed step again, and everything that followed stands aside.

use std::fs;
use std::path::Path;

use coordinator_core::Record;

use super::error::io;
use super::read::{Place, Records};
use super::{JournalError, frame, lock, segment};

/// Ends the journal after the commit of `step`. Nothing is lost: the segments as they were are copied into `aside` first. The
/// coordinator epoch stays the highest that anybody has seen (R6).
pub fn rewind(path: &Path, step: u64, aside: &Path, now_ms: u64) -> Result<(), JournalError> {
    let _lock = lock(path)?;
    let mut records = Records::open(path)?;
    let (mut cut, mut committed, mut newest): (Option<(Place, u64)>, u64, u64) = (None, 0, 0);
    while let Some(record) = records.next() {
        match record? {
            Record::Commit(commit) => {
                committed = commit.step;
                if commit.step == step {
                    cut = records.place().map(|place| (place, newest));
                }
            }
            Record::Epoch { epoch, .. } => newest = epoch,
            _ => {}
        }
    }
    let Some((Place { segment: number, end, head }, epoch)) = cut else {
        return Err(JournalError::NotCommitted { path: path.to_owned(), step, committed });
    };
    let last = records.segment();
    let of = |number: u64| if number == last { path.to_owned() } else { segment::sealed(path, number) };
    fs::create_dir_all(aside).map_err(io(aside))?;
    for number in number..=last {
        let copy = aside.join(format!("journal-{number:08}"));
        segment::replace(&copy, &fs::read(of(number)).map_err(io(&of(number)))?)?;
    }
    let mut bytes = fs::read(of(number)).map_err(io(&of(number)))?;
    bytes.truncate(end);
    if epoch < newest {
        let (frame, _) = frame::encode(head, &Record::Epoch { epoch: newest, time_ms: now_ms }.encode());
        bytes.extend(frame);
    }
    segment::replace(path, &bytes)?;
    for number in number..=last {
        segment::undo(path, number)?;
    }
    Ok(())
}
