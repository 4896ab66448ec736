//! Adapters as PEFT folders, the optimiser's moments beside them. Source: peft's `tuners/lora`.

use std::io::{self, Write};

use polya_datasets::prompt;
use polya_datasets::tokens::Tag;
use safetensors::{Dtype, SafeTensors};
use worker_member::trainer::{StateDigest, StateFiles};

use super::huggingface::Quantisation;
use super::safetensors::{Entry, Writer};
use crate::adapters::{Layout, NAMES, Slot};
use crate::model::ProjectionKind;
use crate::step::optimiser::TrainingState;

/// Name of the file with the moments.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// Metadata of adapter_model.safetensors: how the base was held in training. PEFT reads no metadata, and warns of keys
/// in adapter_config.json that it does not know.
pub const QUANTISATION: &str = "polya.quantisation";
/// The same: in which form questions were asked, where it was not the plain one.
pub const PROMPT: &str = "polya.prompt";

/// Numbers that become bytes at once: small enough for a cache, large enough for a hash to use wide vectors.
const CHUNK: usize = 1 << 15;

/// Name, shape and numbers of a tensor.
type Named<'a> = (String, Vec<i64>, &'a [f32]);

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
    /// How the base was held in training.
    pub quantisation: Quantisation,
    /// `plain` or `chat`: how questions were asked in training.
    pub prompt: String,
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
    for (file, bytes, _) in tensor_files(layout, description, state, Vec::new)? {
        if let Some(adapter) = file.strip_suffix("/adapter_model.safetensors") {
            let config = adapter_config(layout, description, adapter == NAMES[1]);
            files.push((format!("{adapter}/adapter_config.json"), format!("{config:#}\n").into_bytes()));
        }
        files.push((file, bytes));
    }
    Ok(files)
}

/// S_t of the files that [`write`] would make, hashed as they are made: at every step, and large adapters' files would be
/// hundreds of megabytes.
pub fn digest(layout: &Layout, description: &Description, state: &TrainingState) -> Result<StateDigest, PeftError> {
    let files = tensor_files(layout, description, state, blake3::Hasher::new)?;
    let hashes = files.iter().map(|(name, hasher, bytes)| (name.as_str(), *bytes, hasher.finalize()));
    Ok(polya_proto::state_digest_of_hashes(hashes))
}

/// Name, content and size of each safetensors file, in order.
fn tensor_files<W: Write>(
    layout: &Layout,
    description: &Description,
    state: &TrainingState,
    sink: impl Fn() -> W,
) -> Result<Vec<(String, W, u64)>, PeftError> {
    let mut files = vec![];
    for (adapter, name) in NAMES.iter().enumerate().take(layout.adapters) {
        let slots: Vec<&Slot> = layout.slots.iter().filter(|slot| slot.adapter == adapter).collect();
        let tensors: Vec<Named> =
            slots.iter().map(|slot| (key(slot), slot.shape.to_vec(), &state.parameters[slot.range.clone()])).collect();
        let mut metadata = vec![(QUANTISATION, description.quantisation.name())];
        if description.prompt == prompt::CHAT {
            metadata.push((PROMPT, prompt::CHAT));
        }
        files.push(tensor_file(sink(), format!("{name}/adapter_model.safetensors"), &metadata, &tensors)?);
    }
    let count = vec![state.parameters.len() as i64];
    let step: [f32; 2] = [(state.step >> 24) as f32, (state.step & 0xff_ffff) as f32]; // exact in fp32
    let tensors = [
        ("first_moment".to_owned(), count.clone(), &state.first[..]),
        ("second_moment".to_owned(), count, &state.second[..]),
        ("step".to_owned(), vec![2], &step[..]),
    ];
    files.push(tensor_file(sink(), OPTIMIZER.to_owned(), &[], &tensors)?);
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

fn tensor_file<W: Write>(
    to: W,
    file: String,
    metadata: &[(&str, &str)],
    tensors: &[Named],
) -> Result<(String, W, u64), PeftError> {
    let write = || {
        let entries: Vec<Entry> =
            tensors.iter().map(|(name, shape, _)| Entry::new(name.as_str(), Dtype::F32, shape)).collect();
        let mut writer = Writer::new(to, metadata, &entries)?;
        let mut buffer = vec![];
        for chunk in tensors.iter().flat_map(|(_, _, values)| values.chunks(CHUNK)) {
            buffer.resize(4 * chunk.len(), 0);
            buffer
                .chunks_exact_mut(4)
                .zip(chunk)
                .for_each(|(bytes, value)| bytes.copy_from_slice(&value.to_le_bytes()));
            writer.write(&buffer)?;
        }
        writer.finish()
    };
    let (to, bytes) = write().map_err(|reason: io::Error| error(&file, reason))?;
    Ok((file, to, bytes))
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
