//! `worker pretrain`: makes the built-in base.

use std::path::PathBuf;

use crate::pretrain::Options;

/// What `worker pretrain` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct PretrainArgs {
    /// Directory to write (Hugging Face layout); rewritten at every report.
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Keys problems, tokenizer and initial weights.
    #[arg(long, default_value_t = 2026)]
    pub seed: u64,
    /// Tokens to train on.
    #[arg(long, default_value_t = 8_000_000)]
    pub tokens: u64,
    /// Tokens in a step.
    #[arg(long, default_value_t = 2048)]
    pub batch_tokens: usize,
    /// Highest learning rate.
    #[arg(long, default_value_t = 2.5e-3)]
    pub learning_rate: f64,
    /// Width of the model.
    #[arg(long, default_value_t = 128)]
    pub hidden: i64,
    /// Layers.
    #[arg(long, default_value_t = 5)]
    pub layers: usize,
    /// Attention heads.
    #[arg(long, default_value_t = 4)]
    pub heads: i64,
    /// Width of the feed-forward.
    #[arg(long, default_value_t = 384)]
    pub intermediate: i64,
    /// Most entries of the tokenizer.
    #[arg(long, default_value_t = 1024)]
    pub vocabulary: usize,
    /// Threads of libtorch; the result depends on it.
    #[arg(long, default_value_t = 1)]
    pub threads: i32,
}

/// Runs it.
pub fn pretrain(args: &PretrainArgs) -> anyhow::Result<()> {
    if args.heads < 1 || args.hidden % (2 * args.heads) != 0 {
        anyhow::bail!("--hidden must be a multiple of twice --heads");
    }
    tch::set_num_threads(args.threads);
    crate::pretrain::pretrain(&Options {
        output: args.output.clone(),
        seed: args.seed,
        tokens: args.tokens,
        batch_tokens: args.batch_tokens,
        learning_rate: args.learning_rate,
        hidden: args.hidden,
        layers: args.layers,
        heads: args.heads,
        intermediate: args.intermediate,
        vocabulary: args.vocabulary,
    })
}
