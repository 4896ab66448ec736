//! Snapshots: the fold of all sealed segments, so that a restart reads the last segment only.
//!
//! One line with the blake3 of the rest, then JSON. A snapshot is derivable from the segments: one that is missing, damaged,
//! of another format or of another chain is ignored, and the segments are folded instead.

use std::path::Path;

use coordinator_core::{Digest, Journal as Fold};
use serde::{Deserialize, Serialize};

use super::JournalError;
use super::segment::replace;

/// Version of what is folded and how.
const FORMAT: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Snapshot {
    format: u32,
    /// Head of the chain after the last sealed segment.
    head: Digest,
    fold: Fold,
}

pub(super) fn write(path: &Path, head: Digest, fold: &Fold) -> Result<(), JournalError> {
    let snapshot = Snapshot { format: FORMAT, head, fold: fold.clone() };
    let json = serde_json::to_vec(&snapshot).expect("a fold holds numbers, digests and texts");
    replace(path, &[format!("{}\n", Digest::of(&json)).as_bytes(), &json].concat())
}

/// The fold of everything before `head`, if a good snapshot says so.
pub(super) fn read(path: &Path, head: Digest) -> Option<Fold> {
    let bytes = std::fs::read(path).ok()?;
    let line = bytes.iter().position(|byte| *byte == b'\n')?;
    let json = &bytes[line + 1..];
    if Digest::of(json).to_string().as_bytes() != &bytes[..line] {
        return None;
    }
    let snapshot: Snapshot = serde_json::from_slice(json).ok()?;
    (snapshot.format == FORMAT && snapshot.head == head).then_some(snapshot.fold)
}
