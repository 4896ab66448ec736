//! `worker plan`: what a run will take, before anything runs.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tokenizers::Tokenizer;

use crate::bench::in_mib;
use crate::builtin::{self, Builtin};
use crate::formats::huggingface::{Directory, Files};
use crate::model::{ModelConfig, shapes};
use crate::plan::memory::{self, Place};
use crate::plan::settings::Settings;
use crate::plan::{Workload, data, time};

/// What `worker plan` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct PlanArgs {
    /// The run's TOML file, as for `coordinator --config` [default: the built-in run].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A model of this shape instead of base.path's.
    #[arg(long, value_parser = shapes::NAMES)]
    pub shape: Option<String>,
    /// Plan for so many GPUs, a worker each, instead of this machine's CPU.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub gpus: Option<u32>,
    /// Memory of a worker: of each GPU, or of each local worker [default: 14.7 for GPUs, else what is available now].
    #[arg(long, value_name = "GIB")]
    pub memory: Option<f64>,
    /// Rate of a GPU's fp16 products, in TFLOP/s; the default is a T4's under its power limit.
    #[arg(long, default_value_t = 24.0)]
    pub tflops: f64,
    /// Local workers, for the hours.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: u32,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// What comes out.
struct Plan {
    parts: Vec<(&'static str, f64)>,
    limit_mib: f64,
    layers: usize,
    recomputed: Option<usize>,
    unused: f64,
    seconds: f64,
    steps: f64,
    hours: f64,
    advice: String,
}

/// Runs it.
pub fn plan(args: &PlanArgs) -> Result<()> {
    let settings = Settings::read(args.config.as_deref())?;
    let (config, tokenizer, embedding_bytes) = base(args, settings.text("base.path")?)?;
    let tokens = data::tokens(&settings, &tokenizer)?;
    let budget = settings.number("batch.tokens_per_microbatch")?;
    let verification = settings.flag("adapter.verification")?;
    let filled = budget * (1.0 - tokens.unused);
    let work = Workload {
        nf4: settings.text("quantisation")? == "nf4",
        embedding_bytes,
        rank: settings.number("adapter.rank")? as i64,
        adapters: if verification { 2 } else { 1 },
        tokens: budget,
        longest: tokens.longest,
        squared_lengths: budget * tokens.mean_square / tokens.mean,
        learned: budget * tokens.learned,
        verified: if verification { budget * tokens.verified } else { 0.0 },
        decoded: decoded(&settings, &tokens)?,
        config,
    };
    tch::set_num_threads(settings.number("worker.threads")?.max(1.0) as i32);
    let (place, workers, limit) = match args.gpus {
        Some(gpus) => (Place::Gpu, gpus, 14.7 * 1024.0),
        None => (Place::Cpu { program_mib: in_mib("/proc/self/status", "VmRSS:") }, args.workers, available(args)),
    };
    let limit_mib = args.memory.map_or(limit, |gib| gib * 1024.0);
    let told = (settings.number("worker.recompute_layers")? as usize).min(work.config.layers);
    let recomputed = memory::fitting(&work, place, limit_mib).map(|fewest| fewest.max(told));
    let rate = if args.gpus.is_some() { args.tflops * 1e12 } else { time::cpu_rate(&work.config) };
    let microbatches = settings.number("batch.microbatches_per_step")?;
    let shown = recomputed.unwrap_or(work.config.layers);
    let full = time::microbatch_seconds(&work, shown, rate) * filled / budget;
    let seconds = full * (microbatches / f64::from(workers)).ceil();
    let plan = Plan {
        parts: memory::parts(&work, place, shown),
        limit_mib,
        layers: work.config.layers,
        recomputed,
        unused: tokens.unused,
        seconds,
        steps: tokens.steps,
        hours: seconds * tokens.steps / 3600.0,
        advice: advice(&work, place, limit_mib, recomputed, told),
    };
    print(args, &plan);
    Ok(())
}

/// Tokens that the rows of an evaluation hold at once: questions and the longest answers.
fn decoded(settings: &Settings, tokens: &data::Tokens) -> Result<f64> {
    let rows = settings.number("evaluation.batch")?.min(settings.number("evaluation.samples")?);
    Ok(rows * (tokens.mean * (1.0 - tokens.learned) + settings.number("evaluation.max_tokens")?))
}

/// Shape, tokenizer and the embedding's bytes a number.
fn base(args: &PlanArgs, path: &str) -> Result<(ModelConfig, Tokenizer, f64)> {
    let read = |files: &dyn Fn(&str) -> Result<Vec<u8>>| -> Result<(ModelConfig, Tokenizer, f64)> {
        let tokenizer = Tokenizer::from_bytes(files("tokenizer.json")?);
        let tokenizer = tokenizer.map_err(|error| anyhow::anyhow!("tokenizer.json: {error}"))?;
        let json = files("config.json")?;
        let config = ModelConfig::parse(&json)?;
        let json: serde_json::Value = serde_json::from_slice(&json)?;
        let kind = json.get("dtype").or_else(|| json.get("torch_dtype"));
        Ok((config, tokenizer, if kind.is_some_and(|kind| kind == "float32") { 4.0 } else { 2.0 }))
    };
    let built_in = |name: &str| Builtin.read(name)?.with_context(|| name.to_owned());
    let directory = Directory(PathBuf::from(path));
    let on_disk = |name: &str| {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let bytes = directory.read(name)?.ok_or_else(missing);
        bytes.with_context(|| directory.path(name).display().to_string())
    };
    let (config, tokenizer, bytes) =
        if path.is_empty() || path == builtin::NAME { read(&built_in)? } else { read(&on_disk)? };
    match &args.shape {
        Some(name) => Ok((shapes::named(name).context("the shape has a name")?, tokenizer, 2.0)),
        None => Ok((config, tokenizer, bytes)),
    }
}

/// What can be had now, in MiB, for each local worker.
fn available(args: &PlanArgs) -> f64 {
    in_mib("/proc/meminfo", "MemAvailable:") / f64::from(args.workers)
}

fn advice(work: &Workload, place: Place, limit: f64, recomputed: Option<usize>, told: usize) -> String {
    match recomputed {
        Some(count) if count <= told => "it fits as it is".to_owned(),
        Some(count) => format!("set worker.recompute_layers={count}: so many of {} must be recomputed", work.config.layers),
        None if !work.nf4 => "it does not fit: set quantisation=\"nf4\"".to_owned(),
        None => match memory::tokens_fitting(work, place, limit) {
            Some(tokens) => {
                let layers = work.config.layers;
                format!("it does not fit: set batch.tokens_per_microbatch={tokens:.0} and worker.recompute_layers={layers}")
            }
            None => "it does not fit with any microbatch: use a smaller base.path, a lower adapter.rank or a lower train.max_length".to_owned(),
        },
    }
}

fn print(args: &PlanArgs, plan: &Plan) {
    let peak: f64 = plan.parts.iter().map(|(_, mib)| mib).sum();
    if args.json {
        let parts: serde_json::Map<String, serde_json::Value> =
            plan.parts.iter().map(|(name, mib)| ((*name).to_owned(), (*mib).into())).collect();
        let json = serde_json::json!({
            "peak_mib": peak,
            "parts_mib": parts,
            "limit_mib": plan.limit_mib,
            "fits": plan.recomputed.is_some(),
            "recomputed_layers": plan.recomputed.unwrap_or(plan.layers),
            "padding_share": plan.unused,
            "seconds_per_step": plan.seconds,
            "steps": plan.steps,
            "hours": plan.hours,
            "advice": plan.advice,
        });
        println!("{json:#}");
        return;
    }
    for (name, mib) in &plan.parts {
        println!("{name:<36}{mib:>9.0} MiB");
    }
    println!("{:<36}{peak:>9.0} MiB of {:.0}", "peak of a worker", plan.limit_mib);
    println!("{:<36}{:>9} of {}", "recomputed layers", plan.recomputed.unwrap_or(plan.layers), plan.layers);
    println!("{:<36}{:>9.2} %", "token budget that stays unused", 100.0 * plan.unused);
    println!("{:<36}{:>9.2}", "seconds a step", plan.seconds);
    println!("{:<36}{:>9.2} for {:.0} steps", "hours", plan.hours, plan.steps);
    println!("{}", plan.advice);
}
