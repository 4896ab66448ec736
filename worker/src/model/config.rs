//! `config.json` of a Hugging Face directory, for Qwen2 and Llama. Source: transformers' `models/{qwen2,llama}`.

use serde_json::Value;

/// Shapes and constants of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// `qwen2` or `llama`.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden: i64,
    /// Width of the feed-forward.
    pub intermediate: i64,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads.
    pub kv_heads: i64,
    /// Width of a head.
    pub head_dim: i64,
    /// Rows of the embedding.
    pub vocabulary: i64,
    /// Epsilon of RMSNorm.
    pub norm_epsilon: f64,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// The head is the embedding.
    pub tied: bool,
    /// q, k and v have a bias.
    pub qkv_bias: bool,
    /// o has a bias.
    pub output_bias: bool,
    /// Longest sequence.
    pub context: i64,
}

/// A configuration that this implementation does not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or not an object.
    #[error("config.json is not a JSON object: {0}")]
    Json(String),
    /// A key is missing or of the wrong type.
    #[error("config.json: `{0}` is missing or not a number")]
    Key(&'static str),
    /// Another architecture or a feature that is not there.
    #[error("config.json: {0}")]
    Unsupported(String),
}

impl ModelConfig {
    /// Reads config.json.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let json: Value = serde_json::from_slice(bytes).map_err(|error| ConfigError::Json(error.to_string()))?;
        let number = |key: &'static str| json.get(key).and_then(Value::as_i64).filter(|n| *n > 0);
        let required = |key: &'static str| number(key).ok_or(ConfigError::Key(key));
        let flag = |key: &str, default: bool| json.get(key).and_then(Value::as_bool).unwrap_or(default);
        let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or("").to_owned();
        let qkv_bias = match model_type.as_str() {
            "qwen2" => true,
            "llama" => flag("attention_bias", false),
            other => {
                let reason = format!("`model_type` is `{other}`; `qwen2` and `llama` are served");
                return Err(ConfigError::Unsupported(reason));
            }
        };
        refuse_what_is_not_served(&json)?;
        let (hidden, heads) = (required("hidden_size")?, required("num_attention_heads")?);
        let theta = json.get("rope_parameters").and_then(|p| p.get("rope_theta")).or_else(|| json.get("rope_theta"));
        let config = ModelConfig {
            hidden,
            intermediate: required("intermediate_size")?,
            layers: required("num_hidden_layers")? as usize,
            heads,
            kv_heads: number("num_key_value_heads").unwrap_or(heads),
            head_dim: number("head_dim").unwrap_or(hidden / heads),
            vocabulary: required("vocab_size")?,
            norm_epsilon: json.get("rms_norm_eps").and_then(Value::as_f64).ok_or(ConfigError::Key("rms_norm_eps"))?,
            rope_theta: theta.and_then(Value::as_f64).unwrap_or(10_000.0),
            tied: flag("tie_word_embeddings", false),
            qkv_bias,
            output_bias: model_type == "llama" && qkv_bias,
            context: number("max_position_embeddings").unwrap_or(2048),
            model_type,
        };
        if config.heads % config.kv_heads != 0 || config.head_dim % 2 != 0 {
            return Err(ConfigError::Unsupported("heads must be a multiple of kv heads, head_dim even".to_owned()));
        }
        Ok(config)
    }

    /// config.json as transformers reads it.
    pub fn to_json(&self, end_of_text: u32) -> Value {
        let (class, bias) = match self.model_type.as_str() {
            "qwen2" => ("Qwen2ForCausalLM", Value::Null),
            _ => ("LlamaForCausalLM", Value::Bool(self.qkv_bias)),
        };
        let mut json = serde_json::json!({
            "architectures": [class],
            "model_type": self.model_type,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocabulary,
            "rms_norm_eps": self.norm_epsilon,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.context,
            "hidden_act": "silu",
            "use_sliding_window": false,
            "eos_token_id": end_of_text,
            "torch_dtype": "float16",
        });
        if !bias.is_null() {
            json["attention_bias"] = bias;
        }
        json
    }

    /// Input and output width of a projection.
    pub fn projection_shape(&self, kind: super::ProjectionKind) -> (i64, i64) {
        use super::ProjectionKind::{Down, Gate, Key, Output, Query, Up, Value};
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        match kind {
            Query => (self.hidden, q),
            Key | Value => (self.hidden, kv),
            Output => (q, self.hidden),
            Gate | Up => (self.hidden, self.intermediate),
            Down => (self.intermediate, self.hidden),
        }
    }
}

fn refuse_what_is_not_served(json: &Value) -> Result<(), ConfigError> {
    let unsupported = |reason: &str| Err(ConfigError::Unsupported(reason.to_owned()));
    if json.get("use_sliding_window").and_then(Value::as_bool) == Some(true) {
        return unsupported("`use_sliding_window` is true; sliding attention is not served");
    }
    if json.get("mlp_bias").and_then(Value::as_bool) == Some(true) {
        return unsupported("`mlp_bias` is true; biases in the feed-forward are not served");
    }
    if let Some(quantised) = json.get("quantization_config") {
        let text = |key: &str| quantised.get(key).and_then(Value::as_str);
        let four_bits = quantised.get("load_in_4bit").and_then(Value::as_bool) == Some(true);
        if text("quant_method") != Some("bitsandbytes") || !four_bits || text("bnb_4bit_quant_type") != Some("nf4") {
            return unsupported("`quantization_config`: bitsandbytes' 4-bit `nf4` is served, nothing else");
        }
    }
    let scaling = json.get("rope_scaling").or_else(|| json.get("rope_parameters")).filter(|s| !s.is_null());
    let kind = scaling.and_then(|s| s.get("rope_type").or_else(|| s.get("type"))).and_then(Value::as_str);
    if kind.is_some_and(|kind| kind != "default") {
        return unsupported("rope scaling is not served");
    }
    match json.get("hidden_act").and_then(Value::as_str).unwrap_or("silu") {
        "silu" => Ok(()),
        _ => unsupported("`hidden_act` must be `silu`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QWEN: &str = r#"{"model_type":"qwen2","hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,
        "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":100,"rms_norm_eps":1e-6,"tie_word_embeddings":true,
        "rope_parameters":{"rope_theta":1000000.0,"rope_type":"default"}}"#;

    #[test]
    fn theta_is_read_in_its_old_and_new_place() {
        let new = ModelConfig::parse(QWEN.as_bytes()).unwrap();
        assert_eq!((new.rope_theta, new.qkv_bias, new.head_dim), (1e6, true, 16));
        let old = ModelConfig::parse(new.to_json(0).to_string().as_bytes()).unwrap();
        assert_eq!(old, new);
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        for (from, to, name) in [
            ("\"qwen2\"", "\"gemma\"", "gemma"),
            ("\"vocab_size\":100", "\"vocab\":100", "vocab_size"),
            ("\"tie_word_embeddings\"", "\"use_sliding_window\"", "use_sliding_window"),
            (
                "\"tie_word_embeddings\":true",
                "\"quantization_config\":{\"quant_method\":\"gptq\"}",
                "quantization_config",
            ),
            ("\"rope_type\":\"default\"", "\"rope_type\":\"yarn\"", "rope scaling"),
        ] {
            let error = ModelConfig::parse(QWEN.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
