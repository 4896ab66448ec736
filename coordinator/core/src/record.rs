//! What the journal says. A record is JSON inside a checksummed, hash-chained frame, so that people can read it too.
//!
//! Source: docs/architecture.md, "The commit".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::statistics::Statistics;

/// Version of the journal's records; another one is refused, naming both.
pub const RECORD_VERSION: u32 = 1;

/// One microbatch in a Commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedMicrobatch {
    /// Linear digest of its quantised gradient.
    pub digest: u64,
    /// Who computed it.
    pub worker: String,
    /// Who computed it a second time and found the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
    /// Fixed-point statistics and magnitudes.
    pub statistics: Statistics,
}

/// A committed step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// From 1, without a gap.
    pub step: u64,
    /// The attempt that was committed.
    pub attempt: u32,
    /// Milliseconds since 1970; a report, it decides nothing.
    pub time_ms: u64,
    /// Hash of the plan, sample ids included.
    pub plan: Digest,
    /// Every microbatch of the step, once.
    pub microbatches: BTreeMap<u32, CommittedMicrobatch>,
    /// Digest of the reduced sum, equal to the sum of the microbatches' digests mod 2^64.
    pub sum_digest: u64,
    /// S_t, the fold of adapters and moments.
    pub state: Digest,
    /// Bits (f64) of the gradient's l2 norm before clipping.
    pub gradient_norm_bits: u64,
}

/// A step is tried again with other exponents or another scale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Which step.
    pub step: u64,
    /// The attempt that begins now, from 1.
    pub attempt: u32,
    /// log2 of the loss scale.
    pub scale_log2: i32,
    /// One exponent a tensor.
    pub exponents: Vec<i32>,
    /// Why, in words.
    pub reason: String,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// The first record: what the run is.
    Open {
        /// Version of these records.
        version: u32,
        /// Hash of everything in run.toml that decides the outcome.
        config: Digest,
        /// Hash of the training and holdout samples, ids and contents.
        data: Digest,
        /// Hash of the base model's files; of its path's name where the coordinator does not hold them.
        base: Digest,
        /// Training samples.
        samples: u64,
        /// Steps of the whole run.
        steps: u64,
        /// The program that began the run; a newer one may go on with it.
        #[serde(default)]
        software: String,
    },
    /// A class of arithmetic takes part. Before any plan there is one, the run's; others only where the run allows it.
    Class {
        /// What the kernels make of a fixed microbatch.
        digest: Digest,
        /// libtorch, processor, device, driver, threads.
        words: String,
    },
    /// A coordinator opened the journal. Each one's epoch is higher.
    Epoch {
        /// The epoch.
        epoch: u64,
        /// Milliseconds since 1970.
        time_ms: u64,
    },
    /// A step begins anew.
    Retry(Retry),
    /// A step is done.
    Commit(Box<Commit>),
    /// A checkpoint is complete on disk.
    Checkpoint {
        /// Of which step.
        step: u64,
        /// Hash of its manifest.json.
        manifest: Digest,
    },
    /// The run is finished.
    End {
        /// The last step.
        step: u64,
    },
}

/// A record that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("a journal record could not be read: {0}")]
pub struct RecordError(#[from] serde_json::Error);

impl Record {
    /// The bytes of a frame's payload.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("records hold only strings, integers and string or integer keys")
    }

    /// Whether two Open records are of the same run, whichever version of the program wrote them.
    pub fn is_same_run(&self, other: &Record) -> bool {
        let mut one = self.clone();
        if let (Record::Open { software, .. }, Record::Open { software: theirs, .. }) = (&mut one, other) {
            software.clone_from(theirs);
        }
        one == *other
    }

    /// Reads a frame's payload. Any bytes give a record or an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_survives_its_encoding() {
        let statistics = Statistics { samples: 3, magnitudes: vec![i32::MIN, -4, i32::MAX], ..Statistics::default() };
        let part = CommittedMicrobatch { digest: u64::MAX, worker: "w0".into(), second: Some("w1".into()), statistics };
        let commit = Commit {
            step: 7,
            attempt: 1,
            time_ms: 1,
            plan: Digest::of(b"plan"),
            microbatches: BTreeMap::from([(0, part.clone()), (11, part)]),
            sum_digest: u64::MAX - 1,
            state: Digest::of(b"state"),
            gradient_norm_bits: 1.5f64.to_bits(),
        };
        let record = Record::Commit(Box::new(commit));
        assert_eq!(Record::decode(&record.encode()).unwrap(), record);
    }

    #[test]
    fn bytes_that_are_no_record_are_an_error() {
        for bytes in [&b""[..], b"{", b"{\"none\":{}}", b"\xff\xff", b"[[[[[["] {
            assert!(Record::decode(bytes).is_err());
        }
    }
}
