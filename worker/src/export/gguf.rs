//! The merged model as a GGUF, and the verification adapter as one beside it. Source: ggml's docs/gguf.md; llama.cpp's
//! `convert_hf_to_gguf.py` and `convert_lora_to_gguf.py` for names, types and the order of rows.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use super::merged::Merged;
use super::{Source, Written};
use crate::adapters::LoraSet;
use crate::formats::gguf_writer::{Header, Kind};
use crate::formats::huggingface::Quantisation;
use crate::import::names::{Name, names, permuted, permuted_heads, short};
use crate::import::tokenizer::pre_tokenizer_name;
use crate::model::ModelConfig;
use crate::quantization::floats;
use crate::trainer::load_base;

/// Token types of llama.cpp.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// What a file says of the tokenizer.
struct Tokens<'a> {
    /// tokenizer.json.
    json: &'a str,
    /// Tokens that end a text; the first one is the file's.
    stop: &'a [u32],
    /// `chat_template` of tokenizer_config.json.
    chat_template: Option<&'a str>,
}

/// Writes model.gguf of the merged model and verification.gguf, and reads the first one back as `worker import` does.
pub(super) fn write(source: &Source, to: &Path, half: bool) -> Result<Written> {
    let (model, set) = (&source.base.model, &source.adapters.set);
    let json = source.base.tokenizer.to_string(false).map_err(|error| anyhow!("tokenizer: {error}"))?;
    let settings = source.files.read("tokenizer_config.json")?.unwrap_or_default();
    let settings: Value = serde_json::from_slice(&settings).unwrap_or_default();
    let tokens = Tokens { json: &json, stop: &source.base.stop, chat_template: settings["chat_template"].as_str() };
    let path = to.join("model.gguf");
    let known = write_model(&path, &Merged::new(model, set), &model.config, &tokens, half)?;
    if source.has_verification() {
        write_verification(&to.join("verification.gguf"), set, &model.config, &source.verify.line)?;
    }
    let imported = to.join("imported");
    crate::import::import(&path, &imported)?;
    let reloaded = load_base(&imported.display().to_string(), Quantisation::None)?;
    std::fs::remove_dir_all(&imported).with_context(|| imported.display().to_string())?;
    let unknown = "llama.cpp has no name for the way in which this tokenizer splits texts and refuses the file; \
                   transformers and `worker import` read it";
    Ok(Written {
        // The file alone has no verification adapter, so that one is off on both sides.
        logits: source.prompt.logits(&reloaded.model, None, false),
        expected: source.prompt.logits(model, Some(set), false),
        load: "model = AutoModelForCausalLM.from_pretrained(here, gguf_file=\"model.gguf\", dtype=torch.float32).eval()"
            .to_owned(),
        how: "The reasoning adapter is merged into model.gguf; verification.gguf, where there is one, is an activated LoRA \
              for llama.cpp's server (`--lora`) that begins at the tag `#### VERIFY ####`. This compares model.gguf with \
              parity.safetensors:"
            .to_owned(),
        notes: if known { vec![] } else { vec![unknown.to_owned()] },
    })
}

/// Writes `model.gguf`. Gives whether llama.cpp knows how this tokenizer splits texts; if not, it refuses the file
/// rather than make other tokens of them.
fn write_model(path: &Path, merged: &Merged, config: &ModelConfig, tokens: &Tokens, half: bool) -> Result<bool> {
    let mut header = Header::default();
    describe(&mut header, config, half);
    let known = describe_tokens(&mut header, config, tokens)?;
    let names = names(config);
    for Name { gguf, shape, .. } in &names {
        // Vectors stay fp32: llama.cpp adds and multiplies them in fp32.
        let kind = if half && shape.len() > 1 { Kind::F16 } else { Kind::F32 };
        header.tensor(gguf, shape, kind);
    }
    let write = || -> Result<()> {
        let mut writer = header.begin(BufWriter::new(File::create(path)?))?;
        for Name { hugging_face, shape, heads, .. } in &names {
            let tensor = merged.tensor(hugging_face).with_context(|| format!("tensor `{hugging_face}` is missing"))?;
            let values = floats(&tensor);
            writer.tensor(&if *heads > 0 { permuted(&values, *heads, shape[0], shape[1]) } else { values })?;
        }
        Ok(writer.finish()?.into_inner().map_err(|error| error.into_error())?.sync_all()?)
    };
    write().with_context(|| path.display().to_string())?;
    Ok(known)
}

/// Writes the verification adapter as an activated LoRA for llama.cpp's server.
fn write_verification(path: &Path, set: &LoraSet, config: &ModelConfig, invocation: &[u32]) -> Result<()> {
    let mut header = Header::default();
    header.text("general.architecture", &config.model_type);
    header.text("general.type", "adapter");
    header.text("adapter.type", "lora");
    header.float("adapter.lora.alpha", set.layout.alpha as f32);
    header.numbers("adapter.alora.invocation_tokens", invocation);
    let slots = || set.layout.slots.iter().zip(&set.tensors).filter(|(slot, _)| slot.adapter == 1);
    for (slot, _) in slots() {
        let side = if slot.is_b { 'b' } else { 'a' };
        let name = format!("blk.{}.{}.weight.lora_{side}", slot.site.layer, short(slot.site.kind));
        header.tensor(&name, &slot.shape.map(|size| size as usize), Kind::F32);
    }
    let write = || -> std::io::Result<()> {
        let mut writer = header.begin(BufWriter::new(File::create(path)?))?;
        for (slot, tensor) in slots() {
            let heads = if slot.is_b { permuted_heads(config, slot.site.kind) } else { 0 };
            let [rows, columns] = slot.shape.map(|size| size as usize);
            let values = floats(tensor);
            writer.tensor(&if heads > 0 { permuted(&values, heads, rows, columns) } else { values })?;
        }
        writer.finish()?.into_inner().map_err(|error| error.into_error())?.sync_all()
    };
    write().with_context(|| path.display().to_string())
}

fn describe(header: &mut Header, config: &ModelConfig, half: bool) {
    let architecture = config.model_type.as_str();
    header.text("general.architecture", architecture);
    header.text("general.type", "model");
    header.number("general.file_type", u32::from(half));
    let numbers = [
        ("block_count", config.layers as i64),
        ("context_length", config.context),
        ("embedding_length", config.hidden),
        ("feed_forward_length", config.intermediate),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
        ("vocab_size", config.vocabulary),
    ];
    for (key, value) in numbers {
        header.number(&format!("{architecture}.{key}"), value as u32);
    }
    header.float(&format!("{architecture}.attention.layer_norm_rms_epsilon"), config.norm_epsilon as f32);
    header.float(&format!("{architecture}.rope.freq_base"), config.rope_theta as f32);
}

fn describe_tokens(header: &mut Header, config: &ModelConfig, tokens: &Tokens) -> Result<bool> {
    let json: Value = serde_json::from_str(tokens.json).context("tokenizer.json")?;
    if json["model"]["type"] != "BPE" {
        bail!("tokenizer.json: `model.type` is {}; byte-level BPE is exported", json["model"]["type"]);
    }
    let mut texts: Vec<Option<(String, i32)>> = vec![None; config.vocabulary as usize];
    let mut put = |id: Option<u64>, text: &str, kind: i32| -> Result<()> {
        let place = id.and_then(|id| texts.get_mut(id as usize));
        *place.with_context(|| format!("tokenizer.json: token `{text}` has no row in the embedding"))? =
            Some((text.to_owned(), kind));
        Ok(())
    };
    for (text, id) in json["model"]["vocab"].as_object().context("tokenizer.json: `model.vocab` is missing")? {
        put(id.as_u64(), text, NORMAL)?;
    }
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let kind = if token["special"] == true { CONTROL } else { USER_DEFINED };
        put(token["id"].as_u64(), token["content"].as_str().unwrap_or_default(), kind)?;
    }
    // Rows behind the last token are padding of the embedding.
    let pad = |(id, token): (usize, Option<(String, i32)>)| token.unwrap_or_else(|| (format!("[PAD{id}]"), UNUSED));
    let texts: Vec<(String, i32)> = texts.into_iter().enumerate().map(pad).collect();
    let merges: Vec<String> = json["model"]["merges"].as_array().into_iter().flatten().map(merge).collect();
    let known = pre_tokenizer_name(&json);
    header.text("tokenizer.ggml.model", "gpt2");
    header.text("tokenizer.ggml.pre", known.unwrap_or("unknown"));
    header.texts("tokenizer.ggml.tokens", texts.iter().map(|(text, _)| text.as_str()));
    header.integers("tokenizer.ggml.token_type", &texts.iter().map(|(_, kind)| *kind).collect::<Vec<_>>());
    header.texts("tokenizer.ggml.merges", merges.iter().map(String::as_str));
    let end = *tokens.stop.first().context("the model has no `eos_token_id`")?;
    header.number("tokenizer.ggml.eos_token_id", end);
    header.number("tokenizer.ggml.bos_token_id", end);
    header.flag("tokenizer.ggml.add_bos_token", false);
    header.text("tokenizer.huggingface.json", tokens.json);
    if let Some(template) = tokens.chat_template {
        header.text("tokenizer.chat_template", template);
    }
    Ok(known.is_some())
}

/// A merge as one text: newer files have a pair.
fn merge(value: &Value) -> String {
    match value.as_array() {
        Some(pair) => pair.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        None => value.as_str().unwrap_or_default().to_owned(),
    }
}
