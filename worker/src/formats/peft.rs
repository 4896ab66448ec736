//! Adapters as PEFT folders, the optimiser's moments beside them. Source: peft's `tuners/lora`.

use std::path::Path;

use polya_datasets::tokens::Tag;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use worker_member::trainer::StateFiles;

use crate::adapters::{Layout, LoraSet, NAMES, Slot};
use crate::model::{ModelConfig, ProjectionKind};
use crate::step::optimiser::TrainingState;

/// Name of the file with the moments.
pub const OPTIMIZER: &str = "optimizer.safetensors";

/// A state or an adapter folder that cannot be used; names the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct PeftError {
    /// Which file.
    pub file: String,
    /// What is wrong.
    pub reason: String,
}

fn error(file: &str, reason: impl ToString) -> PeftError {
    PeftError { file: file.to_owned(), reason: reason.to_string() }
}

/// What adapter_config.json says beside the layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// `base_model_name_or_path`.
    pub base: String,
    /// Dropout in training.
    pub dropout: f64,
    /// The VERIFY tag: the verification adapter is what PEFT calls an activated LoRA.
    pub verify: Tag,
}

/// PEFT's name of a slot.
pub fn key(slot: &Slot) -> String {
    let side = if slot.is_b { 'B' } else { 'A' };
    format!("base_model.model.{}.lora_{side}.weight", slot.site.name())
}

/// A state's files, in order.
pub fn write(layout: &Layout, description: &Description, state: &TrainingState) -> Result<StateFiles, PeftError> {
    let mut files = StateFiles::new();
    for (adapter, name) in NAMES.iter().enumerate().take(layout.adapters) {
        let slots: Vec<&Slot> = layout.slots.iter().filter(|slot| slot.adapter == adapter).collect();
        let tensors = slots.iter().map(|slot| (key(slot), slot.shape.to_vec(), &state.parameters[slot.range.clone()]));
        let file = format!("{name}/adapter_model.safetensors");
        let bytes = tensor_file(&file, tensors)?;
        let config = adapter_config(layout, description, adapter == 1);
        files.push((format!("{name}/adapter_config.json"), format!("{config:#}\n").into_bytes()));
        files.push((file, bytes));
    }
    let count = vec![state.parameters.len() as i64];
    let step: [f32; 2] = [(state.step >> 24) as f32, (state.step & 0xff_ffff) as f32]; // exact in fp32
    let tensors = [
        ("first_moment".to_owned(), count.clone(), &state.first[..]),
        ("second_moment".to_owned(), count, &state.second[..]),
        ("step".to_owned(), vec![2], &step[..]),
    ];
    files.push((OPTIMIZER.to_owned(), tensor_file(OPTIMIZER, tensors.into_iter())?));
    Ok(files)
}

fn adapter_config(layout: &Layout, description: &Description, activated: bool) -> serde_json::Value {
    let modules = ProjectionKind::ALL.map(|kind| kind.module().rsplit('.').next().unwrap_or_default());
    let mut config = serde_json::json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": description.base,
        "r": layout.rank,
        "lora_alpha": layout.alpha,
        "lora_dropout": description.dropout,
        "bias": "none",
        "target_modules": modules,
        "inference_mode": true,
    });
    if activated {
        config["alora_invocation_tokens"] = serde_json::json!(description.verify.line);
    }
    config
}

fn tensor_file<'a>(
    file: &str,
    tensors: impl Iterator<Item = (String, Vec<i64>, &'a [f32])>,
) -> Result<Vec<u8>, PeftError> {
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .map(|(name, shape, values)| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name, shape.into_iter().map(|n| n as usize).collect(), bytes)
        })
        .collect();
    let mut views = Vec::with_capacity(data.len());
    for (name, shape, bytes) in &data {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|reason| error(file, reason))?;
        views.push((name.as_str(), view));
    }
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(|reason| error(file, reason))
}

/// Reads a state's files back.
pub fn read(layout: &Layout, files: &StateFiles) -> Result<TrainingState, PeftError> {
    let find = |name: &str| {
        let found = files.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.as_slice());
        found.ok_or_else(|| error(name, "the file is missing"))
    };
    let mut state = TrainingState::new(vec![0.0; layout.parameters()]);
    for (adapter, name) in NAMES.iter().enumerate().take(layout.adapters) {
        let file = format!("{name}/adapter_model.safetensors");
        let parsed = SafeTensors::deserialize(find(&file)?).map_err(|reason| error(&file, reason))?;
        for slot in layout.slots.iter().filter(|slot| slot.adapter == adapter) {
            copy(&file, &parsed, &key(slot), &mut state.parameters[slot.range.clone()])?;
        }
    }
    let parsed = SafeTensors::deserialize(find(OPTIMIZER)?).map_err(|reason| error(OPTIMIZER, reason))?;
    copy(OPTIMIZER, &parsed, "first_moment", &mut state.first)?;
    copy(OPTIMIZER, &parsed, "second_moment", &mut state.second)?;
    let mut step = [0f32; 2];
    copy(OPTIMIZER, &parsed, "step", &mut step)?;
    state.step = ((step[0] as u64) << 24) + step[1] as u64;
    Ok(state)
}

fn copy(file: &str, tensors: &SafeTensors, name: &str, into: &mut [f32]) -> Result<(), PeftError> {
    let view = tensors.tensor(name).map_err(|reason| error(file, format!("tensor `{name}`: {reason}")))?;
    if view.dtype() != Dtype::F32 || view.data().len() != 4 * into.len() {
        let reason = format!("tensor `{name}` is {:?} {:?}, expected {} fp32", view.dtype(), view.shape(), into.len());
        return Err(error(file, reason));
    }
    for (value, bytes) in into.iter_mut().zip(view.data().chunks_exact(4)) {
        *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    Ok(())
}

/// Loads adapters for use: a folder with `reasoning/` and/or `verification/`, or one PEFT folder.
pub fn load_directory(path: &Path, config: &ModelConfig) -> Result<LoraSet, PeftError> {
    let is_folder = |folder: &Path| folder.join("adapter_config.json").is_file();
    let folders = NAMES.map(|name| path.join(name));
    let found: Vec<(usize, &Path)> = match is_folder(path) {
        true => vec![(usize::from(is_activated(path)?), path)],
        false => folders.iter().enumerate().filter(|(_, f)| is_folder(f)).map(|(i, f)| (i, f.as_path())).collect(),
    };
    let Some((_, first)) = found.first() else {
        return Err(error(
            &path.display().to_string(),
            "no adapter_config.json here, in reasoning/ or in verification/",
        ));
    };
    let json = config_of(first)?;
    let rank = json["r"].as_i64().filter(|r| *r > 0).ok_or_else(|| error(&name_of(first), "`r` is missing"))?;
    let alpha = json["lora_alpha"].as_f64().unwrap_or(rank as f64);
    for (_, folder) in &found {
        let other = config_of(folder)?;
        if other["r"].as_i64() != Some(rank) || other["lora_alpha"].as_f64().unwrap_or(rank as f64) != alpha {
            return Err(error(&name_of(folder), "both adapters must have the same `r` and `lora_alpha`"));
        }
        if ["use_rslora", "use_dora"].iter().any(|flag| other[*flag] == true) {
            return Err(error(&name_of(folder), "rsLoRA and DoRA are not served"));
        }
    }
    let layout = Layout::new(config, rank, alpha, found.iter().any(|(adapter, _)| *adapter == 1));
    let mut values = vec![0f32; layout.parameters()];
    for (adapter, folder) in found {
        let file = folder.join("adapter_model.safetensors");
        let name = file.display().to_string();
        let bytes = std::fs::read(&file).map_err(|reason| error(&name, reason))?;
        let parsed = SafeTensors::deserialize(&bytes).map_err(|reason| error(&name, reason))?;
        for slot in layout.slots.iter().filter(|slot| slot.adapter == adapter) {
            copy(&name, &parsed, &key(slot), &mut values[slot.range.clone()])?;
        }
    }
    Ok(LoraSet::new(layout, &values, false))
}

fn name_of(folder: &Path) -> String {
    folder.join("adapter_config.json").display().to_string()
}

fn config_of(folder: &Path) -> Result<serde_json::Value, PeftError> {
    let name = name_of(folder);
    let bytes = std::fs::read(&name).map_err(|reason| error(&name, reason))?;
    serde_json::from_slice(&bytes).map_err(|reason| error(&name, reason))
}

fn is_activated(folder: &Path) -> Result<bool, PeftError> {
    Ok(config_of(folder)?.get("alora_invocation_tokens").is_some_and(|tokens| !tokens.is_null()))
}
