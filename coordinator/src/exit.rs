//! Exit codes of the contract.

/// Stopped on purpose and resumable.
pub const STOPPED: u8 = 75;

/// Why the program ends, with its exit code.
#[derive(Debug)]
pub struct ExitError {
    /// 2: command line, config or a path; 1: content or I/O.
    pub code: u8,
    /// What to tell.
    pub error: anyhow::Error,
}

impl ExitError {
    /// What the command line, the config or a path can fix before the first step.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        ExitError { code: 2, error: error.into() }
    }
}

impl<E: Into<anyhow::Error>> From<E> for ExitError {
    fn from(error: E) -> Self {
        ExitError { code: 1, error: error.into() }
    }
}
