//! Names, shapes and the order of rows: what a tensor is called in a Hugging Face directory and in a GGUF. Source:
//! llama.cpp's converter.

use crate::model::{ModelConfig, ProjectionKind, Site};

/// One tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// In a Hugging Face directory.
    pub(crate) hugging_face: String,
    /// In a GGUF.
    pub(crate) gguf: String,
    /// Rows first.
    pub(crate) shape: Vec<usize>,
    /// Heads whose rows the converter permutes; 0: none.
    pub(crate) heads: usize,
}

/// GGUF's name of a projection.
pub(crate) fn short(kind: ProjectionKind) -> &'static str {
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

/// Heads whose rows are permuted in a GGUF; 0: none.
pub(crate) fn permuted_heads(config: &ModelConfig, kind: ProjectionKind) -> usize {
    match (config.model_type.as_str(), kind) {
        ("llama", ProjectionKind::Query) => config.heads as usize,
        ("llama", ProjectionKind::Key) => config.kv_heads as usize,
        _ => 0,
    }
}

/// All tensors of a model.
pub(crate) fn names(config: &ModelConfig) -> Vec<Name> {
    let size = |n: i64| n as usize;
    let plain = |hugging_face: String, gguf: String, shape: Vec<usize>| Name { hugging_face, gguf, shape, heads: 0 };
    let hidden = size(config.hidden);
    let embedding = vec![size(config.vocabulary), hidden];
    let mut names = vec![
        plain("model.embed_tokens.weight".to_owned(), "token_embd.weight".to_owned(), embedding.clone()),
        plain("model.norm.weight".to_owned(), "output_norm.weight".to_owned(), vec![hidden]),
    ];
    if !config.tied {
        names.push(plain("lm_head.weight".to_owned(), "output.weight".to_owned(), embedding));
    }
    for layer in 0..config.layers {
        for (module, short) in [("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")] {
            let hugging_face = format!("model.layers.{layer}.{module}.weight");
            names.push(plain(hugging_face, format!("blk.{layer}.{short}.weight"), vec![hidden]));
        }
        for kind in ProjectionKind::ALL {
            let (input, output) = config.projection_shape(kind);
            let module = Site { layer, kind }.name();
            let gguf = format!("blk.{layer}.{}", short(kind));
            names.push(Name {
                hugging_face: format!("{module}.weight"),
                gguf: format!("{gguf}.weight"),
                shape: vec![size(output), size(input)],
                heads: permuted_heads(config, kind),
            });
            let biased = matches!(kind, ProjectionKind::Query | ProjectionKind::Key | ProjectionKind::Value);
            if config.qkv_bias && biased {
                names.push(plain(format!("{module}.bias"), format!("{gguf}.bias"), vec![size(output)]));
            }
        }
    }
    names
}

/// llama.cpp's converter turns each head's rows from (half, pair) to (pair, half).
pub(crate) fn permuted(values: &[f32], heads: usize, rows: usize, columns: usize) -> Vec<f32> {
    let mut turned = vec![0f32; values.len()];
    for (row, from) in values.chunks_exact(columns).enumerate() {
        let to = turned_row(row, heads, rows);
        turned[to * columns..(to + 1) * columns].copy_from_slice(from);
    }
    turned
}

/// Turns them back.
pub(crate) fn unpermuted(values: &[f32], heads: usize, rows: usize, columns: usize) -> Vec<f32> {
    let mut back = vec![0f32; values.len()];
    for (row, to) in back.chunks_exact_mut(columns).enumerate() {
        let from = turned_row(row, heads, rows);
        to.copy_from_slice(&values[from * columns..(from + 1) * columns]);
    }
    back
}

/// Where a row stands in a GGUF.
fn turned_row(row: usize, heads: usize, rows: usize) -> usize {
    let half = rows / heads / 2;
    let (head, within) = (row / (2 * half), row % (2 * half));
    head * 2 * half + (within % half) * 2 + within / half
}
