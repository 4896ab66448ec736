//! `worker generate`: continuations of prompts.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use polya_datasets::tokens;

use super::model::ModelArgs;
use crate::adapters::LoraSet;
use crate::decode::prepare;
use crate::formats::huggingface::Pretrained;
use crate::generate::{Event, Generated, Report, Request, Sampling, generate as continuations};

/// What `worker generate` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct GenerateArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// JSON Lines, `{"prompt": TEXT}` each, or `{"ids": [ID, …]}` with --ids.
    #[arg(long, value_name = "FILE.jsonl")]
    pub prompts: PathBuf,
    /// Longest continuation in tokens; it also ends where the model's context does.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub max_tokens: usize,
    /// The prompts are token ids.
    #[arg(long)]
    pub ids: bool,
    /// Sample at this temperature instead of taking the most probable token.
    #[arg(long, value_name = "T", requires = "seed", value_parser = temperature)]
    pub temperature: Option<f64>,
    /// Seed of the sampling: a prompt's continuation depends on seed, temperature and its place in the file.
    #[arg(long, value_name = "S", requires = "temperature")]
    pub seed: Option<u64>,
    /// Prompts decoded together; the continuations do not depend on it.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
    /// JSON Lines, `{"prompt", "text", "ids"}` in the prompts' order: the continuation only, without the stop token.
    #[arg(long, value_name = "FILE.jsonl")]
    pub output: PathBuf,
    /// Tell what it took as one JSON document on stdout.
    #[arg(long)]
    pub json: bool,
}

fn temperature(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number > 0.0 && number.is_finite() { Ok(number) } else { Err("must be above 0".to_owned()) }
}

/// Runs it.
pub fn generate(args: &GenerateArgs) -> Result<()> {
    let sampling = match (args.temperature, args.seed) {
        (Some(temperature), Some(seed)) => Sampling::Temperature { temperature, seed },
        _ => Sampling::Greedy,
    };
    let text = std::fs::read_to_string(&args.prompts).with_context(|| args.prompts.display().to_string())?;
    let (base, adapters) = args.model.load()?;
    let prompts = read_prompts(&args.prompts, &text, args.ids, &base)?;
    let ids: Vec<Vec<u32>> = prompts.iter().map(|(_, ids)| ids.clone()).collect();
    let plan = Plan { max_tokens: args.max_tokens, batch: args.batch as usize, sampling };
    let mut report = Report::new(ids.len());
    let generated = continue_all(&base, adapters.as_ref(), &ids, plan, &mut |event| report.take(event))?;
    report.end(&generated);
    let mut lines = vec![];
    for ((prompt, _), ids) in prompts.into_iter().zip(&generated.continuations) {
        let line = serde_json::json!({ "prompt": prompt, "text": decode(&base, ids)?, "ids": ids });
        writeln!(lines, "{line}")?;
    }
    write_whole(&args.output, &lines).with_context(|| args.output.display().to_string())?;
    if args.json {
        println!("{:#}", costs(&generated));
    }
    Ok(())
}

/// What a generation took: tokens, passes through the model, seconds without loading, memory.
fn costs(generated: &Generated) -> serde_json::Value {
    let tokens: usize = generated.continuations.iter().map(Vec::len).sum();
    let seconds = generated.seconds;
    serde_json::json!({
        "prompts": generated.continuations.len(),
        "prompt_tokens": generated.prompt_tokens,
        "prompt_tokens_computed": generated.prompt_tokens_read,
        "tokens": tokens,
        "passes": generated.passes,
        "seconds": seconds,
        "tokens_per_s": tokens as f64 / seconds.max(1e-9),
        "cache_mib": generated.cache_bytes as f64 / f64::from(1 << 20),
    })
}

/// Written aside and renamed, so that there is never half a file.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".partial");
    let mut file = std::fs::File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)
}

/// How much is generated at once, how far and how.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Longest continuation.
    pub max_tokens: usize,
    /// Rows decoded together.
    pub batch: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// Continues prompts; with a verification adapter the hand-over at the tag is on.
pub fn continue_all(
    base: &Pretrained,
    adapters: Option<&LoraSet>,
    prompts: &[Vec<u32>],
    plan: Plan,
    observe: &mut dyn FnMut(Event),
) -> Result<Generated> {
    let tag = match adapters {
        Some(set) if set.layout.adapters == 2 => tokens::tags(&base.tokenizer)?[3].line.clone(),
        _ => vec![],
    };
    let request = Request {
        prompts,
        tag: &tag,
        stop: &base.stop,
        max_tokens: plan.max_tokens,
        context: base.model.config.context as usize,
        batch: plan.batch,
        refill: true,
        vocabulary: base.tokenizer.get_vocab_size(true) as i64,
        sampling: plan.sampling,
    };
    let prepared = prepare(&base.model);
    Ok(continuations(prepared.decoder(&base.model, adapters).as_mut(), &request, observe))
}

/// The text of ids.
pub fn decode(base: &Pretrained, ids: &[u32]) -> Result<String> {
    base.tokenizer.decode(ids, false).map_err(|error| anyhow::anyhow!("decoding: {error}"))
}

/// The prompts of a file with their ids; each error names file and line.
fn read_prompts(
    path: &Path,
    text: &str,
    as_ids: bool,
    base: &Pretrained,
) -> Result<Vec<(serde_json::Value, Vec<u32>)>> {
    let name = path.display();
    let field = if as_ids { "ids" } else { "prompt" };
    let mut prompts = vec![];
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let place = || format!("{name}: line {number}");
        let json: serde_json::Value = serde_json::from_str(line).with_context(|| place() + ": not JSON")?;
        let value = json.get(field).with_context(|| {
            let other = if as_ids { "prompt" } else { "ids" };
            let hint = match (json.get(other), as_ids) {
                (Some(_), false) => "; there are `ids`: add --ids",
                (Some(_), true) => "; there is a `prompt`: leave out --ids",
                _ => "",
            };
            format!("{}: `{field}` is missing{hint}", place())
        })?;
        let ids: Vec<u32> = if as_ids {
            serde_json::from_value(value.clone()).with_context(|| place() + ": `ids` is not a list of token ids")?
        } else {
            let prompt = value.as_str().with_context(|| place() + ": `prompt` is not a text")?;
            tokens::ids(&base.tokenizer, prompt).with_context(place)?
        };
        check(&ids, field, base).map_err(|reason| anyhow::anyhow!("{}: {reason}", place()))?;
        prompts.push((value.clone(), ids));
    }
    if prompts.is_empty() {
        bail!("{name}: there is no prompt in it; a line is {{\"{field}\": …}}");
    }
    Ok(prompts)
}

fn check(ids: &[u32], field: &str, base: &Pretrained) -> Result<(), String> {
    let (rows, context) = (base.model.config.vocabulary, base.model.config.context);
    if ids.is_empty() {
        return Err(format!("`{field}` is empty; a model continues at least one token"));
    }
    if let Some(id) = ids.iter().find(|id| i64::from(**id) >= rows) {
        return Err(format!("`{field}` has the token {id}; the model's embedding ends at {}", rows - 1));
    }
    if ids.len() as i64 >= context {
        return Err(format!(
            "`{field}` has {} tokens, and the model's context is {context}: shorten the prompt",
            ids.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;
    use crate::formats::huggingface::Quantisation;
    use crate::trainer::load_base;

    #[test]
    fn odd_prompts_are_refused_with_file_line_and_reason() {
        let base = load_base(builtin::NAME, Quantisation::None).unwrap();
        let refusal =
            |text: &str, as_ids| format!("{:#}", read_prompts(Path::new("p.jsonl"), text, as_ids, &base).unwrap_err());
        let long = format!("{{\"ids\": {:?}}}", vec![1; base.model.config.context as usize]);
        for (text, as_ids, expected) in [
            ("", false, "p.jsonl: there is no prompt in it; a line is {\"prompt\": …}"),
            ("\n \n", true, "p.jsonl: there is no prompt in it; a line is {\"ids\": …}"),
            ("{\"prompt\": \"a\"}\n\n{\"prompt\": ", false, "p.jsonl: line 3: not JSON: EOF while parsing"),
            ("{\"prompt\": 3}", false, "p.jsonl: line 1: `prompt` is not a text"),
            ("{\"prompt\": \"\"}", false, "p.jsonl: line 1: `prompt` is empty"),
            ("{\"ids\": [1]}", false, "p.jsonl: line 1: `prompt` is missing; there are `ids`: add --ids"),
            ("{\"prompt\": \"a\"}", true, "p.jsonl: line 1: `ids` is missing; there is a `prompt`: leave out --ids"),
            ("{\"ids\": [1, -2]}", true, "p.jsonl: line 1: `ids` is not a list of token ids"),
            ("{\"ids\": []}", true, "p.jsonl: line 1: `ids` is empty"),
            ("{\"ids\": [4000000]}", true, "p.jsonl: line 1: `ids` has the token 4000000"),
            (
                &long,
                true,
                "p.jsonl: line 1: `ids` has 1024 tokens, and the model's context is 1024: shorten the prompt",
            ),
        ] {
            let said = refusal(text, as_ids);
            assert!(said.starts_with(expected), "{said}");
        }
    }

    #[test]
    fn prompts_keep_their_order_and_blank_lines_do_not_count() {
        let base = load_base(builtin::NAME, Quantisation::None).unwrap();
        let text = "{\"ids\": [3, 4]}\r\n\n{\"ids\": [5]}\n";
        let found = read_prompts(Path::new("p.jsonl"), text, true, &base).unwrap();
        assert_eq!(found.iter().map(|(_, ids)| ids.clone()).collect::<Vec<_>>(), [vec![3, 4], vec![5]]);
    }
}
