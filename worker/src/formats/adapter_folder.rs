//! PEFT folders for use: one adapter, or `reasoning/` and `verification/` together. Source: peft's `tuners/lora`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;

use super::huggingface::{LoadError, Quantisation, tensor_of};
use super::peft::{PROMPT, QUANTISATION, key};
use super::safetensors::{Entry, Writer};
use crate::adapters::{Layout, LoraSet, NAMES};
use crate::model::ModelConfig;
use crate::quantization::floats;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Adapters as they were found.
#[derive(Debug)]
pub struct AdapterFolder {
    /// Their values; an adapter that is not there is all zeros.
    pub set: LoraSet,
    /// Which of [`NAMES`] are there.
    pub present: Vec<usize>,
}

/// One adapter's files, read.
struct Adapter {
    /// Its index in [`NAMES`].
    index: usize,
    folder: PathBuf,
    config: Value,
    weights: Vec<u8>,
}

/// Loads a folder with `reasoning/` and/or `verification/`, or one PEFT folder: an activated one is the verification
/// adapter. A projection that an adapter leaves alone gets zeros.
pub fn load(path: &Path, config: &ModelConfig, gradients: bool) -> Result<AdapterFolder, LoadError> {
    let adapters = read(path)?;
    let (rank, alpha) = rank_and_alpha(&adapters)?;
    let present: Vec<usize> = adapters.iter().map(|adapter| adapter.index).collect();
    let layout = Layout::new(config, rank, alpha, present.contains(&1));
    let mut values = vec![0f32; layout.parameters()];
    for adapter in &adapters {
        adapter.fill(&layout, &mut values)?;
    }
    Ok(AdapterFolder { set: LoraSet::new(layout, &values, gradients), present })
}

/// What adapters say of their training.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Training {
    /// How the base was held.
    pub quantisation: Option<Quantisation>,
    /// In which form questions were asked, where it was not the plain one.
    pub prompt: Option<String>,
}

/// How the adapters of a folder were trained, as far as they say so.
pub fn training(path: &Path) -> Result<Training, LoadError> {
    let said: Vec<Training> = read(path)?.iter().map(Adapter::training).collect::<Result<_, _>>()?;
    Ok(Training {
        quantisation: said.iter().find_map(|one| one.quantisation),
        prompt: said.into_iter().find_map(|one| one.prompt),
    })
}

/// An adapter's file with the same tensors and another word on how its base is held.
pub fn held_as(path: &Path, quantisation: Quantisation) -> Result<Vec<u8>, LoadError> {
    let bytes = std::fs::read(path).map_err(|error| LoadError::Read { path: path.to_owned(), error })?;
    let wrong = |error: safetensors::SafeTensorError| content(path, error);
    let parsed = SafeTensors::deserialize(&bytes).map_err(wrong)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(wrong)?;
    let prompt = header.metadata().as_ref().and_then(|metadata| metadata.get(PROMPT));
    let mut metadata = vec![(QUANTISATION, quantisation.name())];
    metadata.extend(prompt.map(|prompt| (PROMPT, prompt.as_str())));
    let names = header.offset_keys();
    let views: Vec<TensorView> =
        names.iter().map(|name| parsed.tensor(name)).collect::<Result<_, _>>().map_err(wrong)?;
    let shape = |view: &TensorView| view.shape().iter().map(|size| *size as i64).collect::<Vec<_>>();
    let entries: Vec<Entry> =
        names.iter().zip(&views).map(|(name, view)| Entry::new(name.as_str(), view.dtype(), &shape(view))).collect();
    let write = || {
        let mut writer = Writer::new(vec![], &metadata, &entries)?;
        views.iter().try_for_each(|view| writer.write(view.data()))?;
        Ok(writer.finish()?.0)
    };
    write().map_err(|error: std::io::Error| content(path, error))
}

/// Writes the adapters of a folder into the values of a layout made from a configuration: same rank, same alpha, every
/// projection. An adapter that is not there keeps what the values hold.
pub fn start_from(path: &Path, layout: &Layout, values: &mut [f32]) -> Result<(), LoadError> {
    let adapters = read(path)?;
    let (rank, alpha) = rank_and_alpha(&adapters)?;
    let first = adapters[0].folder.join(CONFIG);
    if rank != layout.rank || alpha != layout.alpha {
        let reason = format!(
            "`r` = {rank} and `lora_alpha` = {alpha}, but the run has adapter.rank = {} and adapter.alpha = {}",
            layout.rank, layout.alpha
        );
        return Err(content(&first, reason));
    }
    for adapter in &adapters {
        if adapter.index >= layout.adapters {
            let reason = "this is a verification adapter, but the run has adapter.verification = false";
            return Err(content(&adapter.folder.join(CONFIG), reason));
        }
        if let Some(name) = adapter.fill(layout, values)?.first() {
            let reason = format!("tensor `{name}` is missing; a start needs every projection");
            return Err(content(&adapter.folder.join(WEIGHTS), reason));
        }
    }
    Ok(())
}

fn content(path: &Path, reason: impl ToString) -> LoadError {
    LoadError::Content { path: path.to_owned(), reason: reason.to_string() }
}

fn read(path: &Path) -> Result<Vec<Adapter>, LoadError> {
    let bytes_of = |path: PathBuf| std::fs::read(&path).map_err(|error| LoadError::Read { path, error });
    let folders: Vec<(Option<usize>, PathBuf)> = match path.join(CONFIG).is_file() {
        true => vec![(None, path.to_owned())],
        false => (0..NAMES.len())
            .map(|index| (Some(index), path.join(NAMES[index])))
            .filter(|(_, folder)| folder.join(CONFIG).is_file())
            .collect(),
    };
    if folders.is_empty() {
        let error = std::io::Error::from(std::io::ErrorKind::NotFound);
        let missing = path.join(format!("{CONFIG}, in reasoning/ or in verification/"));
        return Err(LoadError::Read { path: missing, error });
    }
    folders
        .into_iter()
        .map(|(index, folder)| {
            let config = bytes_of(folder.join(CONFIG))?;
            let config: Value =
                serde_json::from_slice(&config).map_err(|error| content(&folder.join(CONFIG), error))?;
            let activated = config.get("alora_invocation_tokens").is_some_and(|tokens| !tokens.is_null());
            let weights = bytes_of(folder.join(WEIGHTS))?;
            Ok(Adapter { index: index.unwrap_or(usize::from(activated)), folder, config, weights })
        })
        .collect()
}

/// The one rank and alpha of all adapters; what is not served is refused by the name of its field.
fn rank_and_alpha(adapters: &[Adapter]) -> Result<(i64, f64), LoadError> {
    let mut found: Option<(i64, f64)> = None;
    for Adapter { folder, config, .. } in adapters {
        let wrong = |reason: &str| content(&folder.join(CONFIG), reason);
        let rank = config["r"].as_i64().filter(|rank| *rank > 0).ok_or_else(|| wrong("`r` is missing"))?;
        let alpha = config["lora_alpha"].as_f64().unwrap_or(rank as f64);
        if found.is_some_and(|first| first != (rank, alpha)) {
            return Err(wrong("both adapters must have the same `r` and `lora_alpha`"));
        }
        found = Some((rank, alpha));
        for flag in ["use_rslora", "use_dora", "fan_in_fan_out"] {
            if config[flag] == true {
                return Err(wrong(&format!("`{flag}` is true; only plain LoRA is served")));
            }
        }
        if config["bias"].as_str().is_some_and(|bias| bias != "none") {
            return Err(wrong("`bias` must be `none`"));
        }
        for pattern in ["rank_pattern", "alpha_pattern"] {
            if config[pattern].as_object().is_some_and(|pattern| !pattern.is_empty()) {
                return Err(wrong(&format!("`{pattern}`: one rank and one alpha are served")));
            }
        }
    }
    Ok(found.expect("there is at least one adapter"))
}

impl Adapter {
    /// Copies the tensors to their places. Gives those that are not there, always both of a projection.
    fn fill(&self, layout: &Layout, values: &mut [f32]) -> Result<Vec<String>, LoadError> {
        let path = self.folder.join(WEIGHTS);
        let parsed = SafeTensors::deserialize(&self.weights).map_err(|error| content(&path, error))?;
        let mut left: BTreeSet<&str> = parsed.names().into_iter().collect();
        let mut absent = vec![];
        for slot in layout.slots.iter().filter(|slot| slot.adapter == self.index) {
            let name = key(slot);
            let wrong = |reason: String| content(&path, format!("tensor `{name}`: {reason}"));
            if !left.remove(name.as_str()) {
                absent.push(name);
                continue;
            }
            if slot.is_b && absent.last() == Some(&name.replace("lora_B", "lora_A")) {
                return Err(wrong("its lora_A is missing".to_owned()));
            }
            let view = parsed.tensor(&name).map_err(|error| content(&path, error))?;
            let tensor = tensor_of(&view).map_err(wrong)?;
            if tensor.size() != slot.shape {
                return Err(wrong(format!("its shape is {:?}, base and rank want {:?}", tensor.size(), slot.shape)));
            }
            values[slot.range.clone()].copy_from_slice(&floats(&tensor));
        }
        if let Some(name) = left.first() {
            return Err(content(&path, format!("tensor `{name}` has no place on the base's seven projections")));
        }
        if absent.len() % 2 != 0 {
            return Err(content(&path, format!("tensor `{}` is missing", absent[absent.len() - 1])));
        }
        Ok(absent)
    }

    fn training(&self) -> Result<Training, LoadError> {
        let (_, header) =
            SafeTensors::read_metadata(&self.weights).map_err(|error| content(&self.folder.join(WEIGHTS), error))?;
        let said = |key: &str| header.metadata().as_ref().and_then(|metadata| metadata.get(key)).cloned();
        Ok(Training {
            quantisation: said(QUANTISATION).and_then(|name| Quantisation::of_name(&name)),
            prompt: said(PROMPT),
        })
    }
}
