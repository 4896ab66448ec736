//! `worker generate`: continuations of prompts.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use polya_datasets::tokens;

use super::model::ModelArgs;
use crate::adapters::LoraSet;
use crate::formats::huggingface::Pretrained;
use crate::generate::{AdapterSource, Request, Sampling, generate as continuations};

/// What `worker generate` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct GenerateArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// JSON Lines, `{"prompt": TEXT}` each, or `{"ids": [ID, …]}` with --ids.
    #[arg(long, value_name = "FILE.jsonl")]
    pub prompts: PathBuf,
    /// Longest continuation in tokens.
    #[arg(long, default_value_t = 512)]
    pub max_tokens: usize,
    /// The prompts are token ids.
    #[arg(long)]
    pub ids: bool,
    /// Sample at this temperature instead of taking the most probable token.
    #[arg(long, requires = "seed")]
    pub temperature: Option<f64>,
    /// Seed of the sampling.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Prompts decoded together.
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// JSON Lines, `{"prompt", "text", "ids"}` in the prompts' order.
    #[arg(long, value_name = "FILE.jsonl")]
    pub output: PathBuf,
}

/// Runs it.
pub fn generate(args: &GenerateArgs) -> Result<()> {
    let sampling = match (args.temperature, args.seed) {
        (Some(temperature), Some(seed)) if temperature > 0.0 => Sampling::Temperature { temperature, seed },
        (Some(_), _) => bail!("--temperature must be above 0"),
        _ => Sampling::Greedy,
    };
    let (base, adapters) = args.model.load()?;
    let prompts = read_prompts(&args.prompts, args.ids, &base)?;
    let ids: Vec<Vec<u32>> = prompts.iter().map(|(_, ids)| ids.clone()).collect();
    let outputs = continue_all(&base, adapters.as_ref(), &ids, args.max_tokens, args.batch, sampling)?;
    let mut file = std::fs::File::create(&args.output).with_context(|| args.output.display().to_string())?;
    for ((prompt, _), ids) in prompts.into_iter().zip(outputs) {
        let text = decode(&base, &ids)?;
        let line = serde_json::json!({ "prompt": prompt, "text": text, "ids": ids });
        writeln!(file, "{line}").with_context(|| args.output.display().to_string())?;
    }
    Ok(())
}

/// Greedy or sampled continuations; with a verification adapter the hand-over at the tag is on.
pub fn continue_all(
    base: &Pretrained,
    adapters: Option<&LoraSet>,
    prompts: &[Vec<u32>],
    max_tokens: usize,
    batch: usize,
    sampling: Sampling,
) -> Result<Vec<Vec<u32>>> {
    let tag = match adapters {
        Some(set) if set.layout.adapters == 2 => tokens::tags(&base.tokenizer)?[3].line.clone(),
        _ => vec![],
    };
    let request = Request {
        prompts,
        tag: &tag,
        stop: &base.stop,
        max_tokens,
        batch,
        vocabulary: base.tokenizer.get_vocab_size(true) as i64,
        sampling,
    };
    Ok(continuations(&base.model, adapters.map(|set| set as &dyn AdapterSource), &request))
}

/// The text of ids.
pub fn decode(base: &Pretrained, ids: &[u32]) -> Result<String> {
    base.tokenizer.decode(ids, false).map_err(|error| anyhow::anyhow!("decoding: {error}"))
}

fn read_prompts(path: &Path, as_ids: bool, base: &Pretrained) -> Result<Vec<(serde_json::Value, Vec<u32>)>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| name.to_string())?;
    let mut prompts = vec![];
    for (number, line) in (1..).zip(text.split('\n')).filter(|(_, line)| !line.trim().is_empty()) {
        let place = || format!("{name}: line {number}");
        let json: serde_json::Value = serde_json::from_str(line).with_context(place)?;
        let (prompt, ids) = if as_ids {
            let ids: Vec<u32> = serde_json::from_value(json["ids"].clone()).with_context(|| place() + ", `ids`")?;
            (json["ids"].clone(), ids)
        } else {
            let prompt = json["prompt"].as_str().with_context(|| place() + ": `prompt` is missing or not a text")?;
            (json["prompt"].clone(), tokens::ids(&base.tokenizer, prompt)?)
        };
        let rows = base.model.config.vocabulary;
        if ids.is_empty() || ids.iter().any(|id| i64::from(*id) >= rows) {
            bail!("{}: the prompt is empty or has an id beyond the model's {rows} rows", place());
        }
        prompts.push((prompt, ids));
    }
    Ok(prompts)
}
