//! A bar for what takes long: on standard error, in a terminal only.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that vanishes when it is dropped. Where nobody looks (no terminal) nothing is drawn.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar of so many units.
    pub(super) fn new(what: &'static str, units: u64) -> Self {
        let style =
            ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        Progress(ProgressBar::new(units).with_style(style).with_message(what))
    }

    /// A count of rows where nobody knows how many there are.
    pub(super) fn rows(what: &'static str) -> Self {
        let style =
            ProgressStyle::with_template("{spinner} {pos} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        Progress(ProgressBar::no_length().with_style(style).with_message(what))
    }

    /// One unit is done.
    pub(super) fn tick(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
