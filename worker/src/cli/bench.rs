//! `worker bench`: what a step, generation, the all-reduce or the GPU's kernels cost on this machine.

use anyhow::{Context, Result};
use coordinator_core::plan::loss_scale::START_LOG2;
use polya_proto::v1::Settings;

use super::UsageError;
use crate::adapters::Layout;
use crate::bench::{Figures, decoding, in_mib, kernels, random_base, reduction, training};
use crate::device::DeviceName;
use crate::formats::huggingface::{Pretrained, Quantisation};
use crate::model::{ModelConfig, Placement, shapes};
use crate::trainer::load_base;

/// What `worker bench` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchArgs {
    /// step: a whole training step (forward, backward, exact sum, AdamW). generate: greedy decoding. reduce: the
    /// all-reduce of the adapters' sum between local ranks. kernels: those of a GPU, beside a copy on the same card.
    #[arg(value_parser = ["step", "generate", "reduce", "kernels"])]
    pub what: String,
    /// Hugging Face directory, or `builtin` [default: builtin].
    #[arg(long, value_name = "DIR", conflicts_with = "shape")]
    pub model: Option<String>,
    /// Random weights in a known shape instead of a checkpoint.
    #[arg(long, value_parser = shapes::NAMES)]
    pub shape: Option<String>,
    /// What computes: cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// How the base's projections are held.
    #[arg(long, value_parser = ["nf4", "none"], default_value = "nf4")]
    pub quant: String,
    /// Tokens of a sequence; of a prompt, for generate.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..))]
    pub seq: u32,
    /// Sequences in a microbatch; rows decoded together, for generate.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
    /// Steps that are timed; tokens of a row, for generate.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Threads of libtorch.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Rank of the adapters.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub rank: u32,
    /// Train the second adapter as well.
    #[arg(long)]
    pub verification: bool,
    /// Dropout before the adapters.
    #[arg(long, default_value_t = 0.05)]
    pub dropout: f64,
    /// Share of each sequence that is context: not learned, no logits.
    #[arg(long, default_value_t = 0.0)]
    pub context_share: f64,
    /// Compute so many layers, the first ones, a second time in the backward pass instead of keeping their activations.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub recompute_layers: u32,
    /// The first step's loss is multiplied by two to this power where products are in fp16; an overflow halves it.
    #[arg(long, value_name = "LOG2", default_value_t = START_LOG2, value_parser = clap::value_parser!(i32).range(0..=100))]
    pub loss_scale_log2: i32,
    /// Ranks of the all-reduce.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub ranks: u32,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Runs it.
pub fn bench(args: &BenchArgs) -> Result<()> {
    if !(0.0..1.0).contains(&args.context_share) || !(0.0..1.0).contains(&args.dropout) {
        return Err(UsageError("--context-share and --dropout must be from 0 to less than 1".to_owned()).into());
    }
    let place = place(args)?;
    tch::set_num_threads(args.threads as i32);
    let figures = match args.what.as_str() {
        "step" => {
            let options = training::Options {
                sequence: args.seq as usize,
                batch: args.batch as usize,
                steps: u64::from(args.steps),
                context_share: args.context_share,
                loss_scale_log2: args.loss_scale_log2,
                settings: settings(args),
                program_mib: in_mib("/proc/self/status", "VmRSS:"),
            };
            training::measure(base(args, place)?, &options)?
        }
        "generate" => {
            let base = base(args, place)?;
            decoding::measure(&base, args.seq as usize, args.batch as usize, args.steps as usize)
        }
        "kernels" => kernels::measure(&config(args)?, place.device).map_err(anyhow::Error::msg)?,
        _ => {
            let config = config(args)?;
            let layout = Layout::new(&config, i64::from(args.rank), 2.0 * f64::from(args.rank), args.verification);
            reduction::measure(layout.parameters(), args.ranks, u64::from(args.steps))?
        }
    };
    print(args, &figures);
    Ok(())
}

/// Where it computes; the all-reduce is always that of processors, the kernels are always those of GPUs.
fn place(args: &BenchArgs) -> Result<Placement> {
    let wrong = |why: String| UsageError(format!("--device {}: {why}", args.device));
    let place =
        args.device.parse::<DeviceName>().and_then(DeviceName::open).map_err(|error| wrong(error.to_string()))?;
    match (args.what.as_str(), place == Placement::CPU) {
        ("kernels", true) => Err(wrong("the kernels are those of GPUs; give --device cuda".to_owned()).into()),
        ("reduce", false) => {
            Err(wrong("reduce measures Gloo between processors; leave --device out".to_owned()).into())
        }
        _ => Ok(place),
    }
}

fn base(args: &BenchArgs, place: Placement) -> Result<Pretrained> {
    let quantisation = if args.quant == "nf4" { Quantisation::Nf4 } else { Quantisation::None };
    let mut base = match &args.shape {
        Some(name) => random_base(shapes::named(name).context("the shape has a name")?, quantisation)?,
        None => load_base(args.model.as_deref().unwrap_or_default(), quantisation)?,
    };
    base.model = base.model.placed(place);
    Ok(base)
}

fn config(args: &BenchArgs) -> Result<ModelConfig> {
    match &args.shape {
        Some(name) => shapes::named(name).context("the shape has a name"),
        None => Ok(base(args, Placement::CPU)?.model.config),
    }
}

/// What a run's defaults are, but for what the command line says.
fn settings(args: &BenchArgs) -> Settings {
    Settings {
        seed: 42,
        quantisation: args.quant.clone(),
        adapter_rank: args.rank,
        adapter_alpha: 2.0 * f64::from(args.rank),
        adapter_dropout: args.dropout,
        adapter_verification: args.verification,
        loss_mode: "static".to_owned(),
        loss_transition: 0.1,
        label_smoothing: 0.1,
        threads: args.threads,
        device: args.device.clone(),
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
        clip_norm: 1.0,
        recompute_layers: args.recompute_layers,
        failure_detection_ms: 2000,
        ..Settings::default()
    }
}

fn print(args: &BenchArgs, figures: &Figures) {
    if args.json {
        let mut json = serde_json::json!({
            "tokens_per_s": figures.tokens_per_s,
            "seconds_per_step": figures.seconds_per_step,
            "peak_rss_mib": figures.peak_rss_mib,
            "peak_vram_mib": figures.peak_vram_mib,
            "gemm_roofline_fraction": figures.gemm_roofline_fraction,
        });
        for (name, value) in &figures.more {
            json[*name] = (*value).into();
        }
        println!("{json:#}");
        return;
    }
    println!("seconds a step                {:>12.4}", figures.seconds_per_step);
    if let Some(rate) = figures.tokens_per_s {
        println!("tokens a second               {rate:>12.1}");
    }
    println!("peak resident memory, MiB     {:>12.0}", figures.peak_rss_mib);
    if figures.peak_vram_mib > 0.0 {
        println!("peak memory of tensors, MiB   {:>12.0}", figures.peak_vram_mib);
    }
    if let Some(fraction) = figures.gemm_roofline_fraction {
        println!("share of the products' floor  {:>11.1} %", 100.0 * fraction);
    }
    for (name, value) in &figures.more {
        let figure = if value.abs() < 1.0 { format!("{value:.3e}") } else { format!("{value:.1}") };
        println!("{:<30}{figure:>12}", name.replace('_', " "));
    }
}
