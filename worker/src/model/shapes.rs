//! Models by shape alone, for measurements without a checkpoint.

use tch::{Device, Kind, Tensor};

use super::ModelConfig;
use super::transformer::Transformer;
use crate::formats::huggingface::{Quantisation, build};

/// The shapes that have a name.
pub const NAMES: [&str; 4] = ["tiny", "smollm2-135m", "qwen2.5-0.5b", "qwen2.5-3b"];

/// The configuration of a named shape; none: unknown.
///
/// `tiny` is a Qwen2 of 3 million parameters, the others have the sizes of the published models.
pub fn named(name: &str) -> Option<ModelConfig> {
    let config =
        |model_type: &str, (hidden, intermediate): (i64, i64), layers, (heads, kv_heads): (i64, i64), vocabulary| {
            let qwen = model_type == "qwen2";
            ModelConfig {
                model_type: model_type.to_owned(),
                hidden,
                intermediate,
                layers,
                heads,
                kv_heads,
                head_dim: hidden / heads,
                vocabulary,
                norm_epsilon: if qwen { 1e-6 } else { 1e-5 },
                rope_theta: if qwen { 1e6 } else { 1e5 },
                tied: true,
                qkv_bias: qwen,
                output_bias: false,
                context: 32_768,
            }
        };
    match name {
        "tiny" => Some(config("qwen2", (192, 768), 4, (6, 2), 4096)),
        "smollm2-135m" => Some(config("llama", (576, 1536), 30, (9, 3), 49_152)),
        "qwen2.5-0.5b" => Some(config("qwen2", (896, 4864), 24, (14, 2), 151_936)),
        "qwen2.5-3b" => Some(config("qwen2", (2048, 11_008), 36, (16, 2), 151_936)),
        _ => None,
    }
}

/// A model of this shape with random weights in bf16, made tensor by tensor: there is never a second copy of it.
pub fn random(config: ModelConfig, quantisation: Quantisation, seed: i64) -> Transformer {
    tch::manual_seed(seed);
    let residual = (2.0 * config.layers as f64).powf(-0.5);
    let tensor = |name: &str, shape: &[i64]| -> Result<Tensor, std::convert::Infallible> {
        let options = (Kind::Float, Device::Cpu);
        Ok(match shape {
            [_] if name.ends_with("bias") => Tensor::zeros(shape, options),
            [_] => Tensor::ones(shape, options),
            _ if name.contains("embed_tokens") => Tensor::randn(shape, (Kind::BFloat16, Device::Cpu)) * 0.02,
            [.., input] => {
                let scale = if name.contains("o_proj") || name.contains("down_proj") { residual } else { 1.0 };
                Tensor::randn(shape, options) * (scale * (*input as f64).powf(-0.5))
            }
            [] => Tensor::zeros(shape, options),
        })
    };
    match build(config, quantisation, |_, _| Ok(None), tensor) {
        Ok(model) => model,
        Err(never) => match never {},
    }
}
