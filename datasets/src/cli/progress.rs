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

    /// Bytes of a file.
    #[cfg(feature = "network")]
    pub(super) fn bytes(what: &'static str) -> Self {
        let style = ProgressStyle::with_template("{bar:24} {bytes}/{total_bytes} {bytes_per_sec} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        Progress(ProgressBar::no_length().with_style(style).with_message(what))
    }

    /// So many units of so many, if anybody knows, are there.
    #[cfg(feature = "network")]
    pub(super) fn reached(&self, units: u64, of: Option<u64>) {
        if let Some(of) = of {
            self.0.set_length(of);
        }
        self.0.set_position(units);
    }

    /// Says more beside the bar.
    #[cfg(feature = "network")]
    pub(super) fn say(&self, what: String) {
        self.0.set_message(what);
    }

    /// So many units are done.
    pub(super) fn add(&self, units: u64) {
        self.0.inc(units);
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
