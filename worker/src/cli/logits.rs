//! `worker logits`: logits and gradients of given ids, for comparing with other stacks.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use safetensors::Dtype;
use tch::Kind;

use super::model::ModelArgs;
use crate::adapters::NAMES;
use crate::formats::peft::key;
use crate::formats::safetensors::{Entry, Writer};
use crate::logits;

/// What `worker logits` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct LogitsArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The token ids, a JSON list of numbers.
    #[arg(long, value_name = "FILE")]
    pub ids: PathBuf,
    /// First position at which the verification adapter is on [default: it is off everywhere].
    #[arg(long, value_name = "N")]
    pub verify_from: Option<usize>,
    /// Also the gradient of the mean next-token cross-entropy in each tensor of the adapters.
    #[arg(long, requires = "adapters")]
    pub grads: bool,
    /// safetensors with `logits` [T, V] and, with --grads, `grad.ADAPTER.KEY`, KEY as PEFT names it; all fp32.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Runs it.
pub fn logits(args: &LogitsArgs) -> Result<()> {
    let (base, folder) = args.model.load_with_gradients(args.grads)?;
    let ids = read_ids(&args.ids, base.model.config.vocabulary, if args.grads { 2 } else { 1 })?;
    let set = folder.as_ref().map(|folder| &folder.set);
    let mut entries = vec![Entry::new("logits", Dtype::F32, &[ids.len() as i64, base.model.config.vocabulary])];
    let mut gradients = vec![];
    if let (true, Some(folder)) = (args.grads, &folder) {
        let (_, found) = logits::gradients(&base.model, &ids, &folder.set, args.verify_from);
        let slots = folder.set.layout.slots.iter().zip(found);
        for (slot, gradient) in slots.filter(|(slot, _)| folder.present.contains(&slot.adapter)) {
            let name = format!("grad.{}.{}", NAMES[slot.adapter], key(slot));
            entries.push(Entry::new(name, Dtype::F32, &slot.shape));
            gradients.push(gradient);
        }
    }
    let write = || {
        let mut writer = Writer::new(BufWriter::new(File::create(&args.output)?), &[], &entries)?;
        let _guard = tch::no_grad_guard();
        let hidden = logits::hidden(&base.model, &ids, set, args.verify_from);
        for rows in logits::chunks(&base.model, &hidden) {
            writer.write_tensor(&rows, Kind::Float)?;
        }
        for gradient in &gradients {
            writer.write_tensor(gradient, Kind::Float)?;
        }
        writer.finish()?.0.into_inner().map_err(|error| error.into_error())?.sync_all()
    };
    write().with_context(|| args.output.display().to_string())
}

fn read_ids(path: &Path, rows: i64, least: usize) -> Result<Vec<u32>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| name.to_string())?;
    let ids: Vec<u32> = serde_json::from_str(&text).with_context(|| format!("{name}: not a JSON list of token ids"))?;
    if let Some(position) = ids.iter().position(|id| i64::from(*id) >= rows) {
        bail!("{name}: id {} at position {position} is beyond the model's {rows} rows", ids[position]);
    }
    if ids.len() < least {
        bail!("{name}: {} ids; at least {least} are needed", ids.len());
    }
    Ok(ids)
}
