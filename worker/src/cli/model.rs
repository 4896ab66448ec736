//! The model that a command uses: a base with its adapters.

use std::path::{Path, PathBuf};

use anyhow::Result;
use polya_datasets::prompt::{self, PromptForm};

use crate::adapters::LoraSet;
use crate::device::DeviceName;
use crate::formats::adapter_folder::{self, AdapterFolder};
use crate::formats::huggingface::{LoadError, Pretrained, Quantisation};
use crate::trainer::load_base;

/// A model with its adapters.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelArgs {
    /// Hugging Face directory of a Qwen2 or Llama model, or `builtin`.
    #[arg(long, value_name = "DIR")]
    pub model: String,
    /// Folder with reasoning/ and/or verification/, or one PEFT folder.
    #[arg(long, value_name = "DIR")]
    pub adapters: Option<PathBuf>,
    /// How the base's projections are held [default: as when the adapters were trained, else none].
    #[arg(long, value_parser = ["nf4", "none"])]
    pub quant: Option<String>,
    /// Threads of libtorch.
    #[arg(long, default_value_t = 1)]
    pub threads: i32,
    /// Where to compute: cpu, cuda or cuda:N. A GPU that cannot be used is an error, not a reason to take the CPU.
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

/// How a question is put to the model.
#[derive(Debug, Clone, clap::Args)]
pub struct PromptArgs {
    /// Ask in the plain form, or through the base's own chat template [default: as when the adapters were trained, else
    /// plain].
    #[arg(long, value_parser = [prompt::PLAIN, prompt::CHAT])]
    pub prompt_form: Option<String>,
}

impl PromptArgs {
    /// The form for a model.
    pub fn of(&self, model: &ModelArgs) -> Result<PromptForm> {
        let trained = model.adapters.as_deref().map(adapter_folder::training).transpose()?.unwrap_or_default().prompt;
        let name = self.prompt_form.clone().or(trained).unwrap_or_else(|| prompt::PLAIN.to_owned());
        Ok(PromptForm::of_name(&name, Path::new(&model.model))?)
    }
}

impl ModelArgs {
    /// Loads both.
    pub fn load(&self) -> Result<(Pretrained, Option<LoraSet>), LoadError> {
        let (base, adapters) = self.load_with_gradients(false)?;
        Ok((base, adapters.map(|folder| folder.set)))
    }

    /// Loads both; the adapters' tensors want gradients or not.
    pub fn load_with_gradients(&self, gradients: bool) -> Result<(Pretrained, Option<AdapterFolder>), LoadError> {
        tch::set_num_threads(self.threads);
        let place = self.device.parse::<DeviceName>()?.open()?;
        let trained_on =
            self.adapters.as_deref().map(adapter_folder::training).transpose()?.unwrap_or_default().quantisation;
        let asked = self.quant.as_deref().and_then(Quantisation::of_name);
        let mut base = load_base(&self.model, asked.or(trained_on).unwrap_or(Quantisation::None))?;
        base.model = base.model.placed(place);
        let load = |path: &PathBuf| adapter_folder::load(path, &base.model.config, gradients);
        let mut adapters = self.adapters.as_ref().map(load).transpose()?;
        if let Some(folder) = &mut adapters {
            folder.set.move_to(place.device);
        }
        Ok((base, adapters))
    }
}
