//! Asking a teacher model for four-stage solutions over an OpenAI-compatible API.
//!
//! questions → prompt → [`ask`] (request, pace, attempts, budget) → [`journal`] → [`choose`] → teacher file.
//!
//! Invariants: a reply is counted, and its question taken off the list, once it is in the journal and fsynced; what is in
//! the journal is never asked again; the teacher file is a function of the questions and the journal.

pub mod ask;
pub mod choose;
pub mod journal;
pub mod pace;
pub mod prompt;
pub mod questions;
pub mod request;
pub mod usage;

use std::path::PathBuf;

/// Why the asking ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum TeachError {
    /// The server does not know who asks.
    #[error("{url}: HTTP {status}: {why}; put a valid key into the environment variable {key_env}")]
    Key {
        /// Asked.
        url: String,
        /// 401 or 403.
        status: u16,
        /// What the server said.
        why: String,
        /// Where the key is looked for.
        key_env: String,
    },
    /// The server knows no such address or model.
    #[error(
        "{url}: HTTP {status}: {why}; check --base-url (it often ends in /v1, and /chat/completions is put behind it) and \
         --model `{model}`"
    )]
    Address {
        /// Asked.
        url: String,
        /// The status.
        status: u16,
        /// What the server said.
        why: String,
        /// The model asked for.
        model: String,
    },
    /// Nothing more is paid for.
    #[error("{url}: HTTP {status}: {why}; the account has nothing left: top it up, then run the same command again")]
    Quota {
        /// Asked.
        url: String,
        /// The status.
        status: u16,
        /// What the server said.
        why: String,
    },
    /// The server does not understand the request, before it has understood any.
    #[error(
        "{url}: HTTP {status}: {why}; the request itself is refused: check --model, --max-tokens, --max-tokens-field and \
         --temperature"
    )]
    Request {
        /// Asked.
        url: String,
        /// The status.
        status: u16,
        /// What the server said.
        why: String,
    },
    /// Nothing gets through.
    #[error(
        "{url}: {questions} questions in a row without a usable reply, the last time: {why}; run the same command again later"
    )]
    Silent {
        /// Asked.
        url: String,
        /// How many.
        questions: u32,
        /// The last trouble.
        why: String,
    },
    /// The journal was written for something else.
    #[error(
        "{path}: holds replies to another request ({what}); choose another --output or --journal, or ask as before"
    )]
    OtherRequest {
        /// The journal.
        path: PathBuf,
        /// In what they differ.
        what: String,
    },
    /// The journal's path leads to something else.
    #[error("{path}: is no journal of replies; give another path with --journal")]
    NoJournal {
        /// What was given.
        path: PathBuf,
    },
    /// Another process writes to the journal.
    #[error("{path}: another `datasets teach` is at work with this journal; wait for it, or choose another --output")]
    Locked {
        /// The journal.
        path: PathBuf,
    },
    /// A record in the middle of the journal cannot be read.
    #[error(
        "{path}, line {line}: damaged ({why}) though later lines are whole; restore the file from a copy, or remove that line: its question is then asked again"
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What the reader said.
        why: String,
    },
    /// Reading or writing failed.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

impl TeachError {
    /// The exit code: 2 for what the command line, the environment or a path can put right, else 1.
    pub fn code(&self) -> u8 {
        match self {
            TeachError::Key { .. }
            | TeachError::Address { .. }
            | TeachError::Request { .. }
            | TeachError::OtherRequest { .. }
            | TeachError::NoJournal { .. }
            | TeachError::Locked { .. } => 2,
            TeachError::Quota { .. }
            | TeachError::Silent { .. }
            | TeachError::Damaged { .. }
            | TeachError::Io { .. } => 1,
        }
    }
}
