//! The class of this machine's arithmetic: gradients of a fixed microbatch on seeded adapters, at the run's shapes.
//!
//! Two machines of one class give the same bits for the same microbatch, so their results may be added; another
//! processor, another choice of kernels or another libtorch shows here, before any step.

use polya_datasets::tokens::Tag;
use polya_proto::v1::{Sample, Settings};
use tch::Kind;

use super::batch::{SampleError, Weighing, prepare};
use super::loss::Loss;
use super::microbatch;
use crate::adapters::dropout::mix;
use crate::adapters::{Layout, LoraSet};
use crate::model::Transformer;

/// Tokens of one sample of the microbatch.
const SAMPLE_TOKENS: usize = 192;
/// Largest number in the seeded adapters, B included: a B of zero would leave A without a gradient.
const BOUND: f64 = 0.02;

/// The factor of the loss in fp16, the one that a run begins with.
const LOSS_SCALE: f64 = 4096.0;

/// Hash over the gradients' bits.
pub fn digest(
    model: &Transformer,
    layout: &Layout,
    (loss, tags): (&Loss, &[Tag; 4]),
    settings: &Settings,
) -> Result<[u8; 32], SampleError> {
    let samples = samples(tags, model.config.vocabulary as u64, settings.tokens_per_microbatch as usize);
    let weighing = Weighing {
        uniform: false,
        stages: [0.15, 0.35, 0.35, 0.15],
        samples: samples.len() as f64,
        learned_tokens: 1.0,
    };
    let prepared = prepare(&samples, tags, weighing, settings.adapter_verification, (settings.seed, 0))?;
    let values: Vec<f32> = (0..layout.parameters() as u64).map(|index| unit(0x6164_6170, index)).collect();
    let adapters = LoraSet::new(layout.clone(), &values, true).to_device(model.norm.device());
    let loss_scale = if model.norm.kind() == Kind::Half { LOSS_SCALE } else { 1.0 };
    let recomputed = settings.recompute_layers as usize;
    let (loss, how) = ((loss, weighing), (loss_scale, recomputed));
    let found = microbatch::gradient(model, &adapters, &prepared, loss, settings.adapter_dropout, how);
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"polya class 1").update(&found.loss.to_bits().to_le_bytes());
    for value in &found.values {
        hasher.update(&value.to_bits().to_le_bytes());
    }
    Ok(*hasher.finalize().as_bytes())
}

/// Samples of all four stages until the token budget is used, one at least.
fn samples(tags: &[Tag; 4], vocabulary: u64, budget: usize) -> Vec<Sample> {
    let tags_tokens: usize = tags.iter().map(|tag| tag.line.len()).sum();
    let whole = SAMPLE_TOKENS.max(2 * tags_tokens);
    let count = (budget / (whole + tags[3].line.len())).max(1);
    (0..count as u64).map(|index| sample(index, tags, vocabulary, (whole - tags_tokens) / 5)).collect()
}

/// Context, then each stage's tag and some tokens, all drawn from a counter.
fn sample(index: u64, tags: &[Tag; 4], vocabulary: u64, tokens: usize) -> Sample {
    let mut sample = Sample { id: format!("class {index}"), ..Sample::default() };
    let mut drawn = (0u64..).map(|counter| (mix(mix(0x746f_6b65 ^ index) ^ counter) % vocabulary) as u32);
    let mut add = |ids: Vec<u32>, stage: u8| {
        sample.stages.resize(sample.stages.len() + ids.len(), stage);
        sample.ids.extend(ids);
    };
    add(drawn.by_ref().take(tokens).collect(), u8::MAX);
    for (stage, tag) in (0u8..).zip(tags) {
        add(tag.line.clone(), stage);
        add(drawn.by_ref().take(tokens).collect(), stage);
    }
    let after_tag = sample.ids.len() - tokens;
    sample.verify_tag_start = (after_tag - tags[3].line.len()) as u32;
    sample.verify_tag_end = after_tag as u32;
    sample
}

/// A number in ±[`BOUND`] from key and index alone.
fn unit(key: u64, index: u64) -> f32 {
    let unit = (mix(mix(key) ^ index) >> 11) as f64 / (1u64 << 53) as f64;
    ((2.0 * unit - 1.0) * BOUND) as f32
}
