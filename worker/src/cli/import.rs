//! `worker import`: a Hugging Face directory from a GGUF.

use std::path::PathBuf;

use anyhow::Result;

/// What `worker import` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct ImportArgs {
    /// GGUF of the Llama or Qwen2 family (F32, F16, BF16, Q8_0, Q4_0, Q4_1).
    pub file: PathBuf,
    /// Directory to write.
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
}

/// Runs it.
pub fn import(args: &ImportArgs) -> Result<()> {
    let done = crate::import::import(&args.file, &args.output)?;
    println!(
        "{} with {} tensors and {} tokens, {:.0} MB of fp16 in {}",
        done.model_type,
        done.tensors,
        done.vocabulary,
        done.bytes as f64 / 1e6,
        args.output.display()
    );
    Ok(())
}
