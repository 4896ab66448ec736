//! `worker solve`: one question, the four stages.

use anyhow::Result;
use polya_datasets::tokens;
use polya_datasets::trajectory::prompt;

use super::generate::{continue_all, decode};
use super::model::ModelArgs;
use crate::generate::Sampling;

/// What `worker solve` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct SolveArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Longest answer in tokens.
    #[arg(long, default_value_t = 512)]
    pub max_tokens: usize,
    /// The problem.
    pub question: String,
}

/// Runs it.
pub fn solve(args: &SolveArgs) -> Result<()> {
    let (base, adapters) = args.model.load()?;
    let ids = tokens::ids(&base.tokenizer, &prompt(&args.question))?;
    let outputs = continue_all(&base, adapters.as_ref(), &[ids], args.max_tokens, 1, Sampling::Greedy)?;
    for ids in outputs {
        println!("{}", decode(&base, &ids)?);
    }
    Ok(())
}
