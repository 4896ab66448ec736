//! The coordinator seen from outside.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Result, bail};

/// Waits until it listens.
pub(crate) fn address(dir: &Path, coordinator: &mut Child) -> Result<String> {
    loop {
        if let Ok(text) = std::fs::read_to_string(dir.join("address")) {
            return Ok(text.trim().to_owned());
        }
        if let Some(status) = coordinator.try_wait()? {
            bail!("it ended with {status}: {}", last_words(dir));
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The last line of its output.
pub(crate) fn last_words(dir: &Path) -> String {
    let text = std::fs::read_to_string(dir.with_extension("out")).unwrap_or_default();
    text.lines().last().unwrap_or_default().to_owned()
}

/// User and system time so far, in seconds (proc(5), fields 14 and 15 of stat, in ticks of 10 ms).
pub(crate) fn processor_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// The most memory it has had, in MiB.
pub(crate) fn peak_mib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
}
