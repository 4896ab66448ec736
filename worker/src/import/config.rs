//! Metadata to a model's configuration.

use super::gguf::Gguf;
use crate::model::ModelConfig;

/// The configuration, or what is not served.
pub(super) fn config(gguf: &Gguf) -> Result<ModelConfig, String> {
    let architecture = gguf.text("general.architecture").unwrap_or_default().to_owned();
    if !["llama", "qwen2"].contains(&architecture.as_str()) {
        return Err(format!("general.architecture is `{architecture}`; llama and qwen2 are imported"));
    }
    let key = |name: &str| format!("{architecture}.{name}");
    let positive = |name: &str| {
        let found = gguf.integer(&key(name)).filter(|number| (1..=1 << 24).contains(number));
        found.ok_or_else(|| format!("metadata `{}` is missing or out of range", key(name)))
    };
    if gguf.text(&key("rope.scaling.type")).is_some_and(|kind| kind != "none")
        || gguf.tensors.contains_key("rope_freqs.weight")
    {
        return Err("rope scaling is not served".to_owned());
    }
    let (hidden, heads) = (positive("embedding_length")?, positive("attention.head_count")?);
    let kv_heads = gguf.integer(&key("attention.head_count_kv")).unwrap_or(heads);
    let head_dim = gguf.integer(&key("attention.key_length")).unwrap_or(hidden / heads);
    if kv_heads < 1 || heads % kv_heads != 0 || head_dim < 2 || head_dim % 2 != 0 {
        return Err(format!("{heads} heads, {kv_heads} kv heads of width {head_dim} are not served"));
    }
    let embedding = gguf.tensors.get("token_embd.weight").ok_or("tensor `token_embd.weight` is missing")?;
    let epsilon = gguf.number(&key("attention.layer_norm_rms_epsilon"));
    Ok(ModelConfig {
        hidden,
        intermediate: positive("feed_forward_length")?,
        layers: positive("block_count")? as usize,
        heads,
        kv_heads,
        head_dim,
        vocabulary: embedding.shape[0] as i64,
        norm_epsilon: epsilon
            .ok_or_else(|| format!("metadata `{}` is missing", key("attention.layer_norm_rms_epsilon")))?,
        rope_theta: gguf.number(&key("rope.freq_base")).unwrap_or(10_000.0),
        tied: !gguf.tensors.contains_key("output.weight"),
        qkv_bias: architecture == "qwen2",
        output_bias: false,
        context: positive("context_length")?,
        model_type: architecture,
    })
}
