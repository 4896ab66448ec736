//! Sources: bytes of a published file to trajectories. Every record is kept, a duplicate, or rejected with a reason.

pub mod gsm8k;
pub mod lines;
pub mod open;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::trajectory::Trajectory;

/// A record that was refused, as it goes into the rejects file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// The file, as it was named.
    pub source: String,
    /// Line in the file, from 1.
    pub line: u64,
    /// Byte offset of the line's start in the file.
    pub byte: u64,
    /// A code that is counted, for example `wrong_annotation`.
    pub reason: &'static str,
    /// What exactly was wrong, and where in the record.
    pub detail: String,
    /// How the record begins.
    pub snippet: String,
}

/// How many records became what; `read = kept + rejected + duplicates`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Records in the file.
    pub read: u64,
    /// Trajectories made.
    pub kept: u64,
    /// Refused, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Problems that an earlier record of the file has.
    pub duplicates: u64,
}

impl Counts {
    /// Whether every record is accounted for.
    pub fn add_up(&self) -> bool {
        self.read == self.kept + self.rejected.values().sum::<u64>() + self.duplicates
    }
}

/// What a file held.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The kept records in the file's order.
    pub trajectories: Vec<Trajectory>,
    /// The refused ones in the file's order.
    pub rejects: Vec<Reject>,
    /// The sum.
    pub counts: Counts,
    /// blake3 of all bytes read, hexadecimal.
    pub hash: String,
}
