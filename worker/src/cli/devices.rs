//! `worker devices`: the GPUs that a worker could use here, or what is missing.

use anyhow::Result;

use crate::device::survey;

/// What `worker devices` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct DevicesArgs {
    /// One JSON document: `gpus`, `libtorch_cuda`, `missing`.
    #[arg(long)]
    pub json: bool,
}

/// Runs it. No GPU is an answer, not an error.
pub fn devices(args: &DevicesArgs) -> Result<()> {
    let survey = survey();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&survey)?);
        return Ok(());
    }
    for gpu in &survey.gpus {
        let (major, minor) = gpu.capability;
        println!(
            "cuda:{}  {}  sm_{major}{minor}  {:.1} GiB",
            gpu.index,
            gpu.name,
            gpu.memory as f64 / (1u64 << 30) as f64
        );
    }
    match (&survey.libtorch_cuda, &survey.missing) {
        (Some(path), _) => println!("libtorch's CUDA half: {}", path.display()),
        (None, Some(missing)) => println!("{missing}; workers compute on the CPU"),
        (None, None) => {}
    }
    Ok(())
}
