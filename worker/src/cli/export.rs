//! `worker export`: a run's model for the ecosystem.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use crate::export::{BaseWeights, Dtype, Format, Options, export as write};

/// What `worker export` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct ExportArgs {
    /// Run directory.
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Step of the checkpoint [default: the newest].
    #[arg(long, value_name = "T")]
    pub step: Option<u64>,
    /// What to write.
    #[arg(long, value_enum)]
    pub format: Format,
    /// Weights that the reasoning adapter is merged into: the 4-bit ones that it was trained on, dequantised, or those of
    /// the base's files. Both are compared and the gap is printed.
    #[arg(long, value_enum, default_value = "dequantised")]
    pub base_weights: BaseWeights,
    /// Numbers of a merged model or GGUF.
    #[arg(long, value_enum, default_value = "f16")]
    pub dtype: Dtype,
    /// Directory to write; must not be there yet, or be empty.
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Threads of libtorch.
    #[arg(long, default_value_t = 1)]
    pub threads: i32,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Runs it.
pub fn export(args: &ExportArgs) -> Result<()> {
    tch::set_num_threads(args.threads);
    let done = write(&Options {
        run: args.run.clone(),
        step: args.step,
        format: args.format,
        base_weights: args.base_weights,
        dtype: args.dtype,
        output: args.output.clone(),
    })?;
    if args.json {
        println!("{:#}", serde_json::to_value(&done)?);
        return Ok(());
    }
    let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
        value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    };
    println!(
        "step {} as {} in {}; read back: logits {:.1e} off",
        done.step,
        name(&|| args.format.to_possible_value()),
        args.output.display(),
        done.reload_error
    );
    println!("logits on dequantised and on original base weights: {:.1e} apart", done.base_weights_gap);
    done.notes.iter().for_each(|note| println!("note: {note}"));
    println!("python {}/check.py compares with the ecosystem's own stack", args.output.display());
    Ok(())
}
