//! Which device workers compute on: `worker.device`, resolved once a run. The coordinator knows no GPU: it asks the worker
//! program, which opens what is needed without being linked against it.

use std::process::Command;

use anyhow::{Context, anyhow};
use serde::Deserialize;

use crate::exit::ExitError;

/// The device that is still to be decided.
pub const AUTO: &str = "auto";

/// What `worker devices --json` says.
#[derive(Debug, Default, Deserialize)]
struct Survey {
    gpus: Vec<serde_json::Value>,
    missing: Option<String>,
}

/// The devices of local workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalDevices {
    /// `cpu` or `cuda`, for run.toml; `auto` where a worker elsewhere decides.
    pub device: String,
    /// What to tell people; empty where nothing was decided.
    pub said: String,
    /// `CUDA_VISIBLE_DEVICES` of each local worker, in order; empty on CPUs.
    pub gpus: Vec<String>,
}

/// Resolves `auto` and gives each local worker a GPU of its own. Fewer GPUs than workers is a mistake of the command line.
///
/// `workers` is none where they come from elsewhere: then `auto` is left to the first of them.
pub fn resolve(wanted: &str, workers: Option<u32>) -> Result<LocalDevices, ExitError> {
    let plain = |device: &str| LocalDevices { device: device.to_owned(), said: String::new(), gpus: vec![] };
    let Some(workers) = workers.filter(|_| wanted != "cpu") else { return Ok(plain(wanted)) };
    let survey = survey()?;
    choose(wanted, workers, &survey, std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref())
}

fn choose(wanted: &str, workers: u32, survey: &Survey, visible: Option<&str>) -> Result<LocalDevices, ExitError> {
    let found = survey.gpus.len();
    let why = match &survey.missing {
        Some(missing) => missing.clone(),
        None => format!("{found} GPUs for {workers} workers"),
    };
    if found >= workers as usize && found > 0 {
        let gpus = match visible {
            Some(list) => list.split(',').map(|name| name.trim().to_owned()).take(found).collect(),
            None => (0..found).map(|index| index.to_string()).collect(),
        };
        let said = format!("worker.device = cuda: one of {found} GPUs for each of {workers} workers");
        return Ok(LocalDevices { device: "cuda".to_owned(), said, gpus });
    }
    if wanted == "cuda" {
        let fix = "set worker.device=cpu, or --workers to the number of GPUs";
        return Err(ExitError::usage(anyhow!("worker.device = cuda: {why}; {fix}")));
    }
    Ok(LocalDevices { device: "cpu".to_owned(), said: format!("worker.device = cpu ({why})"), gpus: vec![] })
}

/// Asks the worker program beside this one.
fn survey() -> Result<Survey, ExitError> {
    let program = std::env::current_exe().context("where the coordinator is")?.with_file_name("worker");
    let output = Command::new(&program)
        .args(["devices", "--json"])
        .output()
        .with_context(|| format!("starting {}: is it built? (make build)", program.display()))?;
    let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !output.status.success() {
        return Err(anyhow!("{} devices: {}: {}", program.display(), output.status, said()).into());
    }
    Ok(serde_json::from_slice(&output.stdout).with_context(|| format!("{} devices --json", program.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus(count: usize) -> Survey {
        let missing = (count == 0).then(|| "no CUDA: there is no NVIDIA driver".to_owned());
        Survey { gpus: vec![serde_json::Value::Null; count], missing }
    }

    #[test]
    fn auto_takes_gpus_only_where_each_worker_has_one_and_says_why_not() {
        let device = |count, workers| choose("auto", workers, &gpus(count), None).map_err(|error| error.error).unwrap();
        assert_eq!(device(2, 2).gpus, ["0", "1"]);
        assert_eq!(device(4, 2).device, "cuda");
        let few = device(1, 2);
        assert_eq!((few.device.as_str(), few.gpus.len()), ("cpu", 0));
        assert!(few.said.contains("1 GPUs for 2 workers"), "{}", few.said);
        assert!(device(0, 2).said.contains("no NVIDIA driver"));
    }

    #[test]
    fn cuda_with_too_few_gpus_is_exit_2_and_never_the_cpu() {
        for count in [0, 1] {
            let error = choose("cuda", 2, &gpus(count), None).unwrap_err();
            assert_eq!(error.code, 2);
            assert!(error.error.to_string().contains("worker.device = cuda"), "{}", error.error);
        }
    }

    #[test]
    fn workers_share_out_what_the_user_made_visible() {
        let devices = choose("auto", 2, &gpus(2), Some("3, GPU-5f")).map_err(|error| error.error).unwrap();
        assert_eq!(devices.gpus, ["3", "GPU-5f"]);
    }
}
