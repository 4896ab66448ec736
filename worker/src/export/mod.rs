//! A run's model for the ecosystem: PEFT adapters, a merged model with the verification adapter beside it, or a GGUF.
//!
//! Each export carries a model card, the tokenizer, a parity file with a script of three lines that checks it, and is
//! read back before it appears under its name.

mod card;
mod gguf;
mod merged;
mod parity;
mod peft;
mod run;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use polya_datasets::tokens::{self, Tag};
use serde::Serialize;
use tch::Tensor;

use crate::adapters::NAMES;
use crate::builtin::{self, Builtin};
use crate::cli::UsageError;
use crate::formats::adapter_folder::{self, AdapterFolder};
use crate::formats::huggingface::{Directory, Files, Pretrained, Quantisation};
use crate::trainer::load_base;
use parity::{Prompt, distance};
use run::Run;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The adapters as PEFT folders.
    Peft,
    /// The reasoning adapter merged into the base, the verification adapter beside it as an activated LoRA.
    Merged,
    /// model.gguf of the merged model, the verification adapter beside it as verification.gguf.
    Gguf,
}

/// Which base weights the reasoning adapter is merged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BaseWeights {
    /// Those that it was trained on, dequantised.
    Dequantised,
    /// Those of the base's files.
    Original,
}

/// Numbers of a merged model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dtype {
    /// fp16: half the size, logits about 1e-3 off.
    F16,
    /// fp32.
    F32,
}

/// What to export.
#[derive(Debug, Clone)]
pub struct Options {
    /// Run directory.
    pub run: PathBuf,
    /// Step; none: the newest checkpoint.
    pub step: Option<u64>,
    /// What is written.
    pub format: Format,
    /// Merge into which weights.
    pub base_weights: BaseWeights,
    /// Numbers of a merged model.
    pub dtype: Dtype,
    /// Directory to write.
    pub output: PathBuf,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Exported {
    /// Step of the checkpoint.
    pub step: u64,
    /// Relative distance of the logits of what was written from those of what it was made of.
    pub reload_error: f64,
    /// Relative distance of the logits on dequantised base weights from those on the original ones.
    pub base_weights_gap: f64,
    /// What a user should know.
    pub notes: Vec<String>,
}

/// Files of a base that belong to a model's directory beside config and weights.
pub(crate) const BESIDE: [&str; 8] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
];

/// Everything that an export is made of.
struct Source {
    run: Run,
    base: Pretrained,
    adapters: AdapterFolder,
    files: Box<dyn Files>,
    verify: Tag,
    prompt: Prompt,
    gap: f64,
}

/// What a format has written.
struct Written {
    /// Logits of the parity prompt, of the files as they were read back.
    logits: Tensor,
    /// Those of what they were made of.
    expected: Tensor,
    /// The line of Python that makes `model` of them.
    load: String,
    /// How they are used, in words.
    how: String,
    /// What a user should know.
    notes: Vec<String>,
}

/// Writes an export. Refuses tokenizers in which a tag's ids depend on the text around it.
pub fn export(options: &Options) -> Result<Exported> {
    let run = Run::open(&options.run, options.step)?;
    if std::fs::read_dir(&options.output).is_ok_and(|mut entries| entries.next().is_some()) {
        let reason = format!("--output {}: the directory is not empty; name another one", options.output.display());
        return Err(UsageError(reason).into());
    }
    let source = Source::load(run, options)?;
    let temporary = temporary(&options.output)?;
    let context = || temporary.display().to_string();
    std::fs::create_dir_all(&temporary).with_context(context)?;
    let half = options.dtype == Dtype::F16;
    let written = match options.format {
        Format::Peft => peft::write(&source, &temporary)?,
        Format::Merged => merged::write(&source, &temporary, half)?,
        Format::Gguf => gguf::write(&source, &temporary, half)?,
    };
    let reload_error = distance(&written.logits, &written.expected);
    let limit = match options.format {
        Format::Peft => 1e-4,
        Format::Merged if !half => 1e-4,
        Format::Merged | Format::Gguf => 2e-2, // fp16 somewhere on the way
    };
    if reload_error.is_nan() || reload_error > limit {
        bail!(
            "what was written reads back with logits {reload_error:.1e} off; {} is left for you to look at",
            context()
        );
    }
    let script = parity::script(&written.load);
    source.prompt.write(&temporary.join("parity.safetensors"), &written.logits)?;
    write_file(&temporary.join("check.py"), script.as_bytes())?;
    let card = card::card(&source.run, options.format, &format!("{}\n\n```python\n{script}```\n", written.how));
    write_file(&temporary.join("README.md"), card.as_bytes())?;
    if options.output.exists() {
        std::fs::remove_dir(&options.output).with_context(|| options.output.display().to_string())?;
    }
    std::fs::rename(&temporary, &options.output).with_context(|| options.output.display().to_string())?;
    Ok(Exported { step: source.run.step, reload_error, base_weights_gap: source.gap, notes: written.notes })
}

impl Source {
    fn load(run: Run, options: &Options) -> Result<Self> {
        let trained_on = run.quantisation()?;
        let wanted = match (options.format, options.base_weights) {
            // PEFT adds the adapters to whatever base it is given; the parity file is for the base's own files.
            (Format::Peft, _) | (_, BaseWeights::Original) => Quantisation::None,
            (_, BaseWeights::Dequantised) => trained_on,
        };
        let base = load_base(run.base(), wanted)?;
        let verify = tokens::tags(&base.tokenizer)?[3].clone();
        let adapters = adapter_folder::load(&run.checkpoint, &base.model.config, false)?;
        let prompt = Prompt::new(&base.tokenizer, &verify)?;
        let other = match (wanted, trained_on) {
            (Quantisation::None, Quantisation::None) => None,
            (Quantisation::None, other) => Some(other),
            (_, _) => Some(Quantisation::None),
        };
        let gap = match other {
            None => 0.0,
            Some(other) => {
                let other = load_base(run.base(), other)?;
                let of = |base: &Pretrained| prompt.logits(&base.model, Some(&adapters.set), true);
                distance(&of(&other), &of(&base))
            }
        };
        let files: Box<dyn Files> = match run.base() {
            builtin::NAME => Box::new(Builtin),
            path => Box::new(Directory(PathBuf::from(path))),
        };
        Ok(Source { run, base, adapters, files, verify, prompt, gap })
    }

    /// Copies one adapter of the checkpoint into a folder of its name, for a base that is held so.
    fn copy_adapter(&self, index: usize, to: &Path, base: Quantisation) -> Result<()> {
        let folder = to.join(NAMES[index]);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let from = self.run.checkpoint.join(NAMES[index]);
        let config = from.join("adapter_config.json");
        std::fs::copy(&config, folder.join("adapter_config.json")).with_context(|| config.display().to_string())?;
        let weights = adapter_folder::held_as(&from.join("adapter_model.safetensors"), base)?;
        write_file(&folder.join("adapter_model.safetensors"), &weights)
    }

    fn has_verification(&self) -> bool {
        self.adapters.present.contains(&1)
    }

    /// Copies the base's tokenizer and generation settings.
    fn write_beside(&self, to: &Path) -> Result<()> {
        for name in BESIDE {
            if let Some(bytes) = self.files.read(name)? {
                write_file(&to.join(name), &bytes)?;
            }
        }
        Ok(())
    }
}

/// A folder beside the output, renamed to it once whole.
fn temporary(output: &Path) -> Result<PathBuf> {
    let name = output.file_name().with_context(|| format!("--output {}: not a directory's name", output.display()))?;
    let temporary = output.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    if temporary.exists() {
        std::fs::remove_dir_all(&temporary).with_context(|| temporary.display().to_string())?;
    }
    Ok(temporary)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}
