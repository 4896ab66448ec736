//! The byte-level BPE tokenizer of a GGUF as tokenizer.json.

use serde_json::{Value as Json, json};
use tokenizers::Tokenizer;

use super::gguf::{Gguf, Value};

/// What goes into the directory.
pub(super) struct TokenizerFiles {
    pub(super) tokenizer: Json,
    pub(super) config: Json,
    pub(super) generation: Json,
    pub(super) end: u32,
    pub(super) vocabulary: usize,
}

const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Token types of GGUF: control tokens are special, user-defined ones are matched before splitting.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
/// A row of the embedding without a token.
const UNUSED: i64 = 5;

/// Builds the files, or says what is not served.
pub(super) fn files(gguf: &Gguf) -> Result<TokenizerFiles, String> {
    let end = gguf.integer("tokenizer.ggml.eos_token_id").and_then(|id| u32::try_from(id).ok());
    if let Some(whole) = gguf.text("tokenizer.huggingface.json") {
        return whole_file(gguf, whole, end);
    }
    let model = gguf.text("tokenizer.ggml.model").unwrap_or("none");
    if model != "gpt2" {
        return Err(format!("its tokenizer is `{model}`; byte-level BPE (`gpt2`) is imported, sentencepiece is not"));
    }
    let tokens = texts(gguf, "tokenizer.ggml.tokens")?;
    let merges = texts(gguf, "tokenizer.ggml.merges")?;
    let types = gguf.list("tokenizer.ggml.token_type").unwrap_or_default();
    let kind_of = |id: usize| match types.get(id) {
        Some(Value::Integer(kind)) => *kind,
        _ => 1,
    };
    let (normalizer, pre_tokenizer) = splitting(gguf.text("tokenizer.ggml.pre").unwrap_or("default"))?;
    let mut vocabulary = serde_json::Map::new();
    let mut added = vec![];
    for (id, token) in tokens.iter().enumerate() {
        let kind = kind_of(id);
        if kind == UNUSED {
            continue;
        }
        if kind == CONTROL || kind == USER_DEFINED {
            added.push(json!({ "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind == CONTROL }));
        }
        vocabulary.insert((*token).to_owned(), json!(id));
    }
    let pairs: Vec<Json> =
        merges.iter().filter_map(|merge| merge.split_once(' ')).map(|(a, b)| json!([a, b])).collect();
    let end =
        end.filter(|id| (*id as usize) < tokens.len()).ok_or("metadata `tokenizer.ggml.eos_token_id` is missing")?;
    let end_text = tokens[end as usize];
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": pairs },
    });
    Ok(with_settings(gguf, tokenizer, (end, end_text), tokens.len()))
}

/// The file as its maker had it.
fn whole_file(gguf: &Gguf, text: &str, end: Option<u32>) -> Result<TokenizerFiles, String> {
    const KEY: &str = "tokenizer.huggingface.json";
    let tokenizer: Tokenizer = text.parse().map_err(|error| format!("metadata `{KEY}`: {error}"))?;
    let json = serde_json::from_str(text).map_err(|error| format!("metadata `{KEY}`: {error}"))?;
    let end = end.and_then(|end| Some((end, tokenizer.id_to_token(end)?)));
    let (end, end_text) = end.ok_or("metadata `tokenizer.ggml.eos_token_id` is missing")?;
    Ok(with_settings(gguf, json, (end, &end_text), tokenizer.get_vocab_size(true)))
}

fn with_settings(gguf: &Gguf, tokenizer: Json, (end, end_text): (u32, &str), vocabulary: usize) -> TokenizerFiles {
    let mut config = json!({ "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end_text,
        "clean_up_tokenization_spaces": false });
    if let Some(template) = gguf.text("tokenizer.chat_template") {
        config["chat_template"] = json!(template);
    }
    let generation = json!({ "eos_token_id": end, "do_sample": false });
    TokenizerFiles { tokenizer, config, generation, end, vocabulary }
}

fn texts<'a>(gguf: &'a Gguf, key: &str) -> Result<Vec<&'a str>, String> {
    let list = gguf.list(key).ok_or_else(|| format!("metadata `{key}` is missing"))?;
    let text = |value: &'a Value| match value {
        Value::Text(text) => Ok(text.as_str()),
        _ => Err(format!("metadata `{key}` is not a list of texts")),
    };
    list.iter().map(text).collect()
}

/// Normalizer and pre-tokenizer by the name that llama.cpp gives them.
fn splitting(name: &str) -> Result<(Json, Json), String> {
    let bytes = |regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex });
    let sequence = |first: Json, second: Json| json!({ "type": "Sequence", "pretokenizers": [first, second] });
    let split = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
    Ok(match name {
        "smollm" => (Json::Null, sequence(json!({ "type": "Digits", "individual_digits": true }), bytes(true))),
        "qwen2" => (json!({ "type": "NFC" }), sequence(split(QWEN2), bytes(false))),
        "llama-bpe" => (Json::Null, sequence(split(LLAMA3), bytes(false))),
        "default" | "gpt-2" => (Json::Null, bytes(true)),
        other => {
            return Err(format!("its pre-tokenizer is `{other}`; smollm, qwen2, llama-bpe and gpt-2 are imported"));
        }
    })
}

/// llama.cpp's name of the way in which a tokenizer.json splits texts; none where it has none.
pub(crate) fn pre_tokenizer_name(tokenizer: &Json) -> Option<&'static str> {
    // Where a token's offsets end does not change the tokens.
    fn plain(json: &Json) -> Json {
        match json {
            Json::Object(map) => Json::Object(
                map.iter().filter(|(key, _)| *key != "trim_offsets").map(|(k, v)| (k.clone(), plain(v))).collect(),
            ),
            Json::Array(list) => Json::Array(list.iter().map(plain).collect()),
            other => other.clone(),
        }
    }
    let found = (plain(&tokenizer["normalizer"]), plain(&tokenizer["pre_tokenizer"]));
    ["smollm", "qwen2", "llama-bpe", "gpt-2"]
        .into_iter()
        .find(|name| splitting(name).is_ok_and(|(normalizer, split)| (plain(&normalizer), plain(&split)) == found))
}
