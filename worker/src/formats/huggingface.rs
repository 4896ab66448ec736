//! Hugging Face directories: config.json, safetensors (one file or shards), tokenizer.json, generation_config.json.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};
use tokenizers::Tokenizer;

use super::bitsandbytes;
use super::safetensors::{Entry, Writer};
use crate::device::DeviceError;
use crate::model::transformer::{Layer, Projection};
use crate::model::{FrozenWeight, ModelConfig, ProjectionKind, Site, Transformer};
use crate::quantization::Nf4Weight;

/// A directory that cannot be loaded; names the file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read at all.
    #[error("{path}: {error}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file's content is wrong.
    #[error("{path}: {reason}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The device that it shall go to cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// How the seven projections are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantisation {
    /// As in the file, fp32 on a CPU.
    None,
    /// NF4 with double quantisation.
    Nf4,
}

impl Quantisation {
    /// `nf4` or `none`.
    pub fn name(self) -> &'static str {
        match self {
            Quantisation::None => "none",
            Quantisation::Nf4 => "nf4",
        }
    }

    /// The one with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Quantisation::None, Quantisation::Nf4].into_iter().find(|quantisation| quantisation.name() == name)
    }
}

/// A model with its tokenizer.
pub struct Pretrained {
    /// The model.
    pub model: Transformer,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Tokens at which generation stops.
    pub stop: Vec<u32>,
}

/// The files of a model, from a directory or built in.
pub trait Files {
    /// The bytes of a file; none if it is not there.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, LoadError>;
    /// The same for a large file, of which only a part is needed at a time.
    fn map(&self, name: &str) -> Result<Option<Content>, LoadError> {
        Ok(self.read(name)?.map(Content::Read))
    }
    /// What an error calls the file.
    fn path(&self, name: &str) -> PathBuf;
}

/// The bytes of a file.
pub enum Content {
    /// In memory of their own.
    Read(Vec<u8>),
    /// The file's own pages.
    Mapped(Mmap),
}

impl std::ops::Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Content::Read(bytes) => bytes,
            Content::Mapped(map) => map,
        }
    }
}

/// A directory on disk.
pub struct Directory(pub PathBuf);

impl Files for Directory {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, LoadError> {
        let path = self.path(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LoadError::Read { path, error }),
        }
    }

    fn map(&self, name: &str) -> Result<Option<Content>, LoadError> {
        let path = self.path(name);
        match crate::ffi::mapped::map(&path) {
            Ok(map) => Ok(Some(Content::Mapped(map))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LoadError::Read { path, error }),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

fn required(files: &impl Files, name: &str) -> Result<Vec<u8>, LoadError> {
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    files.read(name)?.ok_or_else(|| LoadError::Read { path: files.path(name), error: missing() })
}

fn mapped(files: &impl Files, name: &str) -> Result<Content, LoadError> {
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    files.map(name)?.ok_or_else(|| LoadError::Read { path: files.path(name), error: missing() })
}

fn content(files: &impl Files, name: &str, reason: impl ToString) -> LoadError {
    LoadError::Content { path: files.path(name), reason: reason.to_string() }
}

/// Loads model and tokenizer.
pub fn load(files: &impl Files, quantisation: Quantisation) -> Result<Pretrained, LoadError> {
    let tokenizer = Tokenizer::from_bytes(required(files, "tokenizer.json")?)
        .map_err(|error| content(files, "tokenizer.json", error))?;
    let stop = stop_tokens(files, &tokenizer)?;
    let model = load_model(files, quantisation)?;
    if tokenizer.get_vocab_size(true) as i64 > model.config.vocabulary {
        return Err(content(files, "tokenizer.json", "it has more tokens than the model's embedding has rows"));
    }
    Ok(Pretrained { model, tokenizer, stop })
}

/// `eos_token_id` of generation_config.json, else of config.json, a number or a list; and the tokenizer's `eos_token`, with
/// which a chat template ends a turn.
fn stop_tokens(files: &impl Files, tokenizer: &Tokenizer) -> Result<Vec<u32>, LoadError> {
    let mut stop = configured_stops(files)?;
    const TOKENIZER: &str = "tokenizer_config.json";
    if let Some(bytes) = files.read(TOKENIZER)? {
        let json: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| content(files, TOKENIZER, error))?;
        let end = json["eos_token"].as_str().or_else(|| json["eos_token"]["content"].as_str());
        stop.extend(end.and_then(|end| tokenizer.token_to_id(end)).filter(|id| !stop.contains(id)));
    }
    Ok(stop)
}

fn configured_stops(files: &impl Files) -> Result<Vec<u32>, LoadError> {
    for name in ["generation_config.json", "config.json"] {
        let Some(bytes) = files.read(name)? else { continue };
        let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| content(files, name, error))?;
        let ids: Vec<u32> = match json.get("eos_token_id") {
            Some(serde_json::Value::Array(list)) => {
                list.iter().filter_map(|id| id.as_u64()).map(|id| id as u32).collect()
            }
            Some(id) => id.as_u64().map(|id| id as u32).into_iter().collect(),
            None => vec![],
        };
        if !ids.is_empty() {
            return Ok(ids);
        }
    }
    Ok(vec![])
}

/// Loads the model alone.
pub fn load_model(files: &impl Files, quantisation: Quantisation) -> Result<Transformer, LoadError> {
    let config = ModelConfig::parse(&required(files, "config.json")?).map_err(|e| content(files, "config.json", e))?;
    let shards = shards(files)?;
    let mut weights = BTreeMap::new();
    for (shard, bytes) in &shards {
        let parsed = SafeTensors::deserialize(bytes).map_err(|error| content(files, shard, error))?;
        for (name, view) in parsed.tensors() {
            weights.insert(name, (shard.as_str(), view));
        }
    }
    let take = |name: &str, shape: &[i64]| -> Result<Tensor, LoadError> {
        let first = shards.first().map_or("model.safetensors", |(shard, _)| shard.as_str());
        let Some((shard, view)) = weights.get(name) else {
            return Err(content(files, first, format!("tensor `{name}` is missing")));
        };
        let tensor = tensor_of(view).map_err(|reason| content(files, shard, format!("tensor `{name}`: {reason}")))?;
        if tensor.size() != shape {
            let reason = format!("tensor `{name}` has shape {:?}, config.json says {shape:?}", tensor.size());
            return Err(content(files, shard, reason));
        }
        // Embedding and head stay as they are, rows are cast when they are used; the rest is small or quantised.
        Ok(if EMBEDDINGS.contains(&name) { tensor } else { tensor.to_kind(Kind::Float) })
    };
    // What is four bits wide in the files stays so, whatever was asked for: there is nothing else in them.
    let packed = |name: &str, shape: &[i64]| match weights.get(name) {
        Some((shard, packed)) if packed.dtype() == Dtype::U8 => {
            let part = |part: &str| weights.get(&format!("{name}.{part}")).map(|(_, view)| view);
            let weight = bitsandbytes::weight(packed, part, shape);
            weight.map(Some).map_err(|reason| content(files, shard, format!("tensor `{name}`: {reason}")))
        }
        _ => Ok(None),
    };
    build(config, quantisation, packed, take)
}

/// Makes a model of tensors that are asked for by name and shape, one after the other; a projection is quantised
/// before the next one is asked for. `packed` gives those that are packed already.
pub(crate) fn build<E>(
    config: ModelConfig,
    quantisation: Quantisation,
    packed: impl Fn(&str, &[i64]) -> Result<Option<FrozenWeight>, E>,
    mut take: impl FnMut(&str, &[i64]) -> Result<Tensor, E>,
) -> Result<Transformer, E> {
    let c = config.hidden;
    let mut layers = Vec::with_capacity(config.layers);
    for index in 0..config.layers {
        let mut projections = Vec::with_capacity(7);
        for kind in ProjectionKind::ALL {
            let site = Site { layer: index, kind };
            let (input, output) = config.projection_shape(kind);
            let name = format!("{}.weight", site.name());
            let weight = match (packed(&name, &[output, input])?, quantisation) {
                (Some(weight), _) => weight,
                (None, Quantisation::None) => FrozenWeight::Dense(take(&name, &[output, input])?),
                (None, Quantisation::Nf4) => FrozenWeight::Nf4(Nf4Weight::quantise(&take(&name, &[output, input])?)),
            };
            let has_bias = match kind {
                ProjectionKind::Query | ProjectionKind::Key | ProjectionKind::Value => config.qkv_bias,
                ProjectionKind::Output => config.output_bias,
                _ => false,
            };
            let bias = if has_bias { Some(take(&format!("{}.bias", site.name()), &[output])?) } else { None };
            projections.push(Projection { weight, bias });
        }
        layers.push(Layer {
            attention_norm: take(&format!("model.layers.{index}.input_layernorm.weight"), &[c])?,
            projections,
            mlp_norm: take(&format!("model.layers.{index}.post_attention_layernorm.weight"), &[c])?,
        });
    }
    let shape = [config.vocabulary, c];
    let head = if config.tied { None } else { Some(take("lm_head.weight", &shape)?) };
    Ok(Transformer {
        embedding: take("model.embed_tokens.weight", &shape)?,
        norm: take("model.norm.weight", &[c])?,
        layers,
        head,
        config,
    })
}

/// The safetensors files: the one, or those that the index names.
fn shards(files: &impl Files) -> Result<Vec<(String, Content)>, LoadError> {
    const INDEX: &str = "model.safetensors.index.json";
    let Some(index) = files.read(INDEX)? else {
        return Ok(vec![("model.safetensors".to_owned(), mapped(files, "model.safetensors")?)]);
    };
    let json: serde_json::Value = serde_json::from_slice(&index).map_err(|error| content(files, INDEX, error))?;
    let map = json.get("weight_map").and_then(|map| map.as_object());
    let map = map.ok_or_else(|| content(files, INDEX, "`weight_map` is missing"))?;
    let mut names: Vec<&str> = map.values().filter_map(|name| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if let Some(name) = names.iter().find(|name| Path::new(name).components().count() != 1) {
        return Err(content(files, INDEX, format!("`{name}` is not a file of this directory")));
    }
    names.into_iter().map(|name| Ok((name.to_owned(), mapped(files, name)?))).collect()
}

/// The matrices with a row a token.
const EMBEDDINGS: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];

/// A safetensors view as a tensor of its type: fp32, fp16 or bf16.
pub(crate) fn tensor_of(view: &TensorView) -> Result<Tensor, String> {
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        other => return Err(format!("type {other:?} is not F32, F16 or BF16")),
    };
    let shape: Vec<i64> = view.shape().iter().map(|n| *n as i64).collect();
    Tensor::f_from_data_size(view.data(), &shape, kind).map_err(|error| error.to_string())
}

/// The model's tensors by their Hugging Face names; weights must be dense.
pub fn named_tensors(model: &Transformer) -> BTreeMap<String, Tensor> {
    let mut tensors = BTreeMap::new();
    tensors.insert("model.embed_tokens.weight".to_owned(), model.embedding.shallow_clone());
    tensors.insert("model.norm.weight".to_owned(), model.norm.shallow_clone());
    if let Some(head) = &model.head {
        tensors.insert("lm_head.weight".to_owned(), head.shallow_clone());
    }
    for (index, layer) in model.layers.iter().enumerate() {
        let prefix = format!("model.layers.{index}");
        tensors.insert(format!("{prefix}.input_layernorm.weight"), layer.attention_norm.shallow_clone());
        tensors.insert(format!("{prefix}.post_attention_layernorm.weight"), layer.mlp_norm.shallow_clone());
        for (kind, projection) in ProjectionKind::ALL.into_iter().zip(&layer.projections) {
            let name = Site { layer: index, kind }.name();
            if let FrozenWeight::Dense(weight) = &projection.weight {
                tensors.insert(format!("{name}.weight"), weight.shallow_clone());
            }
            if let Some(bias) = &projection.bias {
                tensors.insert(format!("{name}.bias"), bias.shallow_clone());
            }
        }
    }
    tensors
}

/// The bytes of a safetensors file of fp16 (`half`) or fp32 tensors.
pub fn safetensors_bytes(tensors: &BTreeMap<String, Tensor>, half: bool) -> std::io::Result<Vec<u8>> {
    let (kind, dtype) = if half { (Kind::Half, Dtype::F16) } else { (Kind::Float, Dtype::F32) };
    let entries: Vec<Entry> =
        tensors.iter().map(|(name, tensor)| Entry::new(name.as_str(), dtype, &tensor.size())).collect();
    let mut writer = Writer::new(vec![], &[], &entries)?;
    for tensor in tensors.values() {
        writer.write_tensor(tensor, kind)?;
    }
    Ok(writer.finish()?.0)
}

/// Writes a directory that [`load`] and transformers read.
pub fn save_directory(
    path: &Path,
    model: &Transformer,
    tokenizer: &Tokenizer,
    end: u32,
    half: bool,
) -> Result<(), LoadError> {
    let write = |name: &str, bytes: &[u8]| {
        let path = path.join(name);
        std::fs::write(&path, bytes).map_err(|error| LoadError::Read { path, error })
    };
    std::fs::create_dir_all(path).map_err(|error| LoadError::Read { path: path.to_owned(), error })?;
    let wrong = |name: &str, reason: String| LoadError::Content { path: path.join(name), reason };
    let weights = safetensors_bytes(&named_tensors(model), half)
        .map_err(|error| wrong("model.safetensors", error.to_string()))?;
    let json = tokenizer.to_string(true).map_err(|error| wrong("tokenizer.json", error.to_string()))?;
    write("model.safetensors", &weights)?;
    write("tokenizer.json", json.as_bytes())?;
    write("config.json", format!("{:#}\n", model.config.to_json(end)).as_bytes())?;
    let generation = serde_json::json!({ "eos_token_id": end, "pad_token_id": end, "do_sample": false });
    write("generation_config.json", format!("{generation:#}\n").as_bytes())?;
    let end_text = tokenizer.id_to_token(end).unwrap_or_default();
    let tokenizer_config = serde_json::json!({ "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end_text,
        "pad_token": end_text, "model_max_length": model.config.context, "clean_up_tokenization_spaces": false });
    write("tokenizer_config.json", format!("{tokenizer_config:#}\n").as_bytes())
}
