//! `worker selftest`: whether this machine computes what it should.

use anyhow::{Result, bail};

use super::UsageError;
use crate::device::DeviceName;
use crate::model::Placement;
use crate::selftest::{Outcome, Subject, checks, make};

/// What `worker selftest` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct SelftestArgs {
    /// What is checked: cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// Threads of libtorch.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: i32,
    /// One JSON document on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Makes every check; an error where one failed.
pub fn selftest(args: &SelftestArgs) -> Result<()> {
    let place = place(&args.device)?;
    tch::set_num_threads(args.threads);
    let subject = Subject::new(place)?;
    let mut outcomes = vec![];
    for check in checks(place) {
        let outcome = make(check, &subject);
        if !args.json {
            println!("{}", line(&outcome));
        }
        outcomes.push(outcome);
    }
    let failed: Vec<&str> = outcomes.iter().filter(|outcome| !outcome.passed).map(|outcome| outcome.name).collect();
    if args.json {
        let json = serde_json::json!({
            "device": args.device,
            "threads": args.threads,
            "passed": failed.is_empty(),
            "checks": outcomes,
        });
        println!("{json:#}");
    }
    if !failed.is_empty() {
        bail!("{} of {} checks failed: {}", failed.len(), outcomes.len(), failed.join(", "));
    }
    Ok(())
}

fn line(outcome: &Outcome) -> String {
    let verdict = if outcome.passed { "ok  " } else { "FAIL" };
    let figure = match (outcome.distance, outcome.tolerance) {
        (Some(distance), Some(0.0)) => format!("{distance} differ"),
        (Some(distance), Some(tolerance)) => format!("{distance:.1e} of {tolerance:.0e}"),
        _ => "-".to_owned(),
    };
    let Outcome { name, about, seconds, detail, .. } = outcome;
    format!(
        "{verdict} {name:<12} {figure:<18} {seconds:5.2} s  {about}{}{detail}",
        if detail.is_empty() { "" } else { ": " }
    )
}

/// The place of a name; a GPU that is not there is the command line's mistake.
fn place(name: &str) -> Result<Placement, UsageError> {
    let opened = name.parse::<DeviceName>().and_then(DeviceName::open);
    opened.map_err(|error| UsageError(format!("--device {name}: {error}; --device cpu checks the processor")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_refused_by_name() {
        assert_eq!(place("cpu").unwrap(), Placement::CPU);
        for name in ["cuda:x", "tpu", "cuda:4096"] {
            let said = place(name).unwrap_err().to_string();
            assert!(said.starts_with(&format!("--device {name}: ")), "{said}");
        }
    }
}
