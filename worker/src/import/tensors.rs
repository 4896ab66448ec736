//! Tensors to fp16 safetensors, one at a time: header first, then each tensor as it is decoded.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use half::{bf16, f16};

use super::gguf::{Gguf, Kind, TensorInfo};
use crate::model::{ModelConfig, ProjectionKind, Site};

/// Why the file was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    Io(std::io::Error),
    Content(String),
}

impl From<std::io::Error> for WriteError {
    fn from(error: std::io::Error) -> Self {
        WriteError::Io(error)
    }
}

/// GGUF's name of a projection.
fn short(kind: ProjectionKind) -> &'static str {
    match kind {
        ProjectionKind::Query => "attn_q",
        ProjectionKind::Key => "attn_k",
        ProjectionKind::Value => "attn_v",
        ProjectionKind::Output => "attn_output",
        ProjectionKind::Gate => "ffn_gate",
        ProjectionKind::Up => "ffn_up",
        ProjectionKind::Down => "ffn_down",
    }
}

/// Hugging Face's name, GGUF's name, shape, and heads whose rows the converter permuted (0: none).
fn names(config: &ModelConfig) -> Vec<(String, String, Vec<usize>, usize)> {
    let size = |n: i64| n as usize;
    let hidden = size(config.hidden);
    let mut names = vec![
        (
            "model.embed_tokens.weight".to_owned(),
            "token_embd.weight".to_owned(),
            vec![size(config.vocabulary), hidden],
            0,
        ),
        ("model.norm.weight".to_owned(), "output_norm.weight".to_owned(), vec![hidden], 0),
    ];
    if !config.tied {
        names.push(("lm_head.weight".to_owned(), "output.weight".to_owned(), vec![size(config.vocabulary), hidden], 0));
    }
    for layer in 0..config.layers {
        for (module, short) in [("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")] {
            let names_of = (format!("model.layers.{layer}.{module}.weight"), format!("blk.{layer}.{short}.weight"));
            names.push((names_of.0, names_of.1, vec![hidden], 0));
        }
        for kind in ProjectionKind::ALL {
            let (input, output) = config.projection_shape(kind);
            let module = Site { layer, kind }.name();
            let heads = match (config.model_type.as_str(), kind) {
                ("llama", ProjectionKind::Query) => size(config.heads),
                ("llama", ProjectionKind::Key) => size(config.kv_heads),
                _ => 0,
            };
            let gguf = format!("blk.{layer}.{}", short(kind));
            names.push((format!("{module}.weight"), format!("{gguf}.weight"), vec![size(output), size(input)], heads));
            let biased = matches!(kind, ProjectionKind::Query | ProjectionKind::Key | ProjectionKind::Value);
            if config.qkv_bias && biased {
                names.push((format!("{module}.bias"), format!("{gguf}.bias"), vec![size(output)], 0));
            }
        }
    }
    names
}

/// Writes model.safetensors; gives its size.
pub(super) fn write(gguf: &Gguf, config: &ModelConfig, path: &Path) -> Result<u64, WriteError> {
    let names = names(config);
    let mut header = serde_json::json!({ "__metadata__": { "format": "pt" } });
    let mut end = 0usize;
    for (name, source, shape, _) in &names {
        let tensor =
            gguf.tensors.get(source).ok_or_else(|| WriteError::Content(format!("tensor `{source}` is missing")))?;
        if tensor.shape != *shape {
            let reason = format!("tensor `{source}` has shape {:?}, the metadata says {shape:?}", tensor.shape);
            return Err(WriteError::Content(reason));
        }
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        header[name] = serde_json::json!({ "dtype": "F16", "shape": shape, "data_offsets": [start, end] });
    }
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for (_, source, shape, heads) in &names {
        let mut values = decode(&gguf.tensors[source]);
        if *heads > 0 {
            values = unpermuted(&values, *heads, shape[0], shape[1]);
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        file.write_all(&bytes)?;
    }
    file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    Ok((8 + header.len() + end) as u64)
}

/// llama.cpp's converter turns each head's rows from (half, pair) to (pair, half); this turns them back.
pub(super) fn unpermuted(values: &[f32], heads: usize, rows: usize, columns: usize) -> Vec<f32> {
    let half = rows / heads / 2;
    let mut back = vec![0f32; values.len()];
    for (row, to) in back.chunks_exact_mut(columns).enumerate() {
        let (head, within) = (row / (2 * half), row % (2 * half));
        let from = head * 2 * half + (within % half) * 2 + within / half;
        to.copy_from_slice(&values[from * columns..(from + 1) * columns]);
    }
    back
}

/// A tensor's values.
pub(super) fn decode(tensor: &TensorInfo) -> Vec<f32> {
    let half = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
    let blocks = tensor.data.chunks_exact(tensor.kind.block().1);
    let nibbles = |bytes: &[u8]| -> Vec<f32> {
        let low = bytes.iter().map(|byte| f32::from(byte & 15));
        low.chain(bytes.iter().map(|byte| f32::from(byte >> 4))).collect()
    };
    match tensor.kind {
        Kind::F32 => blocks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Kind::F16 => blocks.map(half).collect(),
        Kind::Bf16 => blocks.map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Kind::Q8_0 => blocks
            .flat_map(|block| {
                let scale = half(block);
                block[2..].iter().map(move |byte| f32::from(i8::from_le_bytes([*byte])) * scale).collect::<Vec<_>>()
            })
            .collect(),
        Kind::Q4_0 => blocks
            .flat_map(|block| {
                let scale = half(block);
                nibbles(&block[2..]).into_iter().map(move |q| (q - 8.0) * scale)
            })
            .collect(),
        Kind::Q4_1 => blocks
            .flat_map(|block| {
                let (scale, minimum) = (half(block), half(&block[2..]));
                nibbles(&block[4..]).into_iter().map(move |q| q * scale + minimum)
            })
            .collect(),
    }
}
