//! Makes the built-in base: a small Qwen2 trained from scratch on right traces of synthesized problems. It never sees
//! an error being corrected, so that what fine-tuning adds can be measured.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use polya_datasets::synthesize::{STEPS, corrective_wordings, synthesize};
use polya_datasets::trajectory::{Stage, prompt};
use polya_datasets::{tokenizer, tokens};
use tch::{Device, Kind, Tensor};
use tokenizers::Tokenizer;

use crate::decode::prepare;
use crate::formats::huggingface::{named_tensors, save_directory};
use crate::generate::{Request, Sampling, generate};
use crate::model::transformer::{Layer, Projection};
use crate::model::{FrozenWeight, ModelConfig, PackedBatch, ProjectionKind, Transformer};

/// What to make.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the directory goes.
    pub output: PathBuf,
    /// Keys data and initial weights.
    pub seed: u64,
    /// Tokens to train on.
    pub tokens: u64,
    /// Tokens in a step.
    pub batch_tokens: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Width.
    pub hidden: i64,
    /// Layers.
    pub layers: usize,
    /// Query heads, each with its own key and value.
    pub heads: i64,
    /// Width of the feed-forward.
    pub intermediate: i64,
    /// Entries of the tokenizer at most.
    pub vocabulary: usize,
}

/// Problems that the tokenizer is trained on.
const TOKENIZER_PROBLEMS: u64 = 4_000;
/// Added to the seed for the problems that measure the accuracy.
const FRESH: u64 = 1 << 40;
/// Evaluations over a run.
const REPORTS: u64 = 12;

/// Trains and writes the directory, at every report and at the end.
pub fn pretrain(options: &Options) -> Result<()> {
    let tokenizer = tokenizer::train(options.seed, TOKENIZER_PROBLEMS, options.vocabulary, &corrective_wordings())?;
    let end = tokens::end_of_text(&tokenizer)?;
    let tags = tokens::tags(&tokenizer)?;
    let config = ModelConfig {
        model_type: "qwen2".to_owned(),
        hidden: options.hidden,
        intermediate: options.intermediate,
        layers: options.layers,
        heads: options.heads,
        kv_heads: options.heads,
        head_dim: options.hidden / options.heads,
        vocabulary: tokenizer.get_vocab_size(true) as i64,
        norm_epsilon: 1e-6,
        rope_theta: 10_000.0,
        tied: true,
        qkv_bias: true,
        output_bias: false,
        context: 1024,
    };
    let model = initial(config, options.seed);
    let mut optimiser = Optimiser::new(&model);
    let parameters: usize = optimiser.parameters.iter().map(|p| p.tensor.numel()).sum();
    eprintln!("{parameters} parameters, {} tokens in the vocabulary", model.config.vocabulary);
    let steps = options.tokens.div_ceil(options.batch_tokens as u64).max(1);
    let (start, mut index, mut seen) = (Instant::now(), 0u64, 0u64);
    let (mut losses, mut curve) = (vec![], vec![]);
    for step in 0..steps {
        let mut samples = vec![];
        let mut count = 0;
        while count < options.batch_tokens {
            let sample = tokens::encode(&tokenizer, &tags[3], end, &synthesize(options.seed, index, steps_of(index)))?;
            index += 1;
            count += sample.ids.len();
            samples.push(sample);
        }
        seen += count as u64;
        let loss = loss(&model, &samples);
        loss.backward();
        losses.push(f64::try_from(&loss)?);
        optimiser.step(step, steps, options.learning_rate);
        if (step + 1) % 50 == 0 || step + 1 == steps {
            let rate = seen as f64 / start.elapsed().as_secs_f64();
            let mean = losses.iter().sum::<f64>() / losses.len() as f64;
            let left = (steps - step - 1) as f64 * start.elapsed().as_secs_f64() / (step + 1) as f64;
            eprintln!("step {}/{steps}  loss {mean:.4}  {rate:.0} tokens/s  {left:.0} s left", step + 1);
            losses.clear();
            curve.push((seen, mean));
        }
        if (step + 1) * REPORTS / steps != step * REPORTS / steps {
            let accuracy = accuracy(&model, &tokenizer, options.seed + FRESH, 200, end)?;
            eprintln!("step {}/{steps}  greedy accuracy on 200 fresh problems {:.1} %", step + 1, 100.0 * accuracy);
            let _guard = tch::no_grad_guard();
            save_directory(&options.output, &model, &tokenizer, end, true)?;
            let line = |(tokens, loss): &(u64, f64)| format!("{tokens},{loss:.5}\n");
            let csv: String = curve.iter().map(line).collect();
            let path = options.output.join("loss.csv");
            std::fs::write(&path, format!("tokens,loss\n{csv}")).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// Every other problem is a long one: it holds more arithmetic a token than a short one does.
fn steps_of(index: u64) -> std::ops::RangeInclusive<u32> {
    if index.is_multiple_of(2) { STEPS } else { 3..=*STEPS.end() }
}

pub(crate) fn initial(config: ModelConfig, seed: u64) -> Transformer {
    tch::manual_seed(seed as i64);
    let options = (Kind::Float, Device::Cpu);
    let normal = |shape: [i64; 2], deviation: f64| (Tensor::randn(shape, options) * deviation).set_requires_grad(true);
    let ones = || Tensor::ones([config.hidden], options).set_requires_grad(true);
    let layer = |_| {
        let projections = ProjectionKind::ALL.map(|kind| {
            let (input, output) = config.projection_shape(kind);
            let residual = matches!(kind, ProjectionKind::Output | ProjectionKind::Down);
            let scale = if residual { (2.0 * config.layers as f64).powf(-0.5) } else { 1.0 };
            let biased = matches!(kind, ProjectionKind::Query | ProjectionKind::Key | ProjectionKind::Value);
            Projection {
                weight: FrozenWeight::Dense(normal([output, input], scale * (input as f64).powf(-0.5))),
                bias: biased.then(|| Tensor::zeros([output], options).set_requires_grad(true)),
            }
        });
        Layer { attention_norm: ones(), projections: projections.into(), mlp_norm: ones() }
    };
    let layers = (0..config.layers).map(layer).collect();
    let embedding = normal([config.vocabulary, config.hidden], 0.05);
    Transformer { embedding, layers, norm: ones(), head: None, config }
}

/// How much more a token of EXECUTE weighs: that is where arithmetic is learned, the rest is copied or worded.
const EXECUTE_WEIGHT: f32 = 3.0;

/// Weighted mean cross-entropy over the tokens of the traces.
fn loss(model: &Transformer, samples: &[tokens::Sample]) -> Tensor {
    let sequences: Vec<&[u32]> = samples.iter().map(|sample| sample.ids.as_slice()).collect();
    let batch = PackedBatch::of_sequences(&sequences, Device::Cpu);
    let (mut rows, mut targets, mut weights, mut start) = (vec![], vec![], vec![], 0i64);
    for sample in samples {
        for position in 1..sample.ids.len() {
            if sample.weights[position] > 0.0 {
                rows.push(start + position as i64 - 1);
                targets.push(i64::from(sample.ids[position]));
                let calculates = sample.stages[position] == Some(Stage::Execute);
                weights.push(if calculates { EXECUTE_WEIGHT } else { 1.0 });
            }
        }
        start += sample.ids.len() as i64;
    }
    let hidden = model.hidden(&batch, None).index_select(0, &Tensor::from_slice(&rows));
    let targets = Tensor::from_slice(&targets).unsqueeze(1);
    let weights = Tensor::from_slice(&weights);
    let nll = -model.logits(&hidden).log_softmax(-1, Kind::Float).gather(1, &targets, false).squeeze_dim(1);
    (nll * &weights).sum(Kind::Float) / weights.sum(Kind::Float)
}

/// Share of fresh problems whose final answer is right, greedily.
pub fn accuracy(model: &Transformer, tokenizer: &Tokenizer, seed: u64, count: u64, end: u32) -> Result<f64> {
    let problems: Vec<_> = (0..count).map(|index| synthesize(seed, index, STEPS)).collect();
    let prompts: Vec<Vec<u32>> =
        problems.iter().map(|problem| tokens::ids(tokenizer, &prompt(&problem.question))).collect::<Result<_, _>>()?;
    let request = Request {
        prompts: &prompts,
        tag: &[],
        stop: &[end],
        max_tokens: 300,
        context: model.config.context as usize,
        batch: 100,
        refill: true,
        vocabulary: model.config.vocabulary,
        sampling: Sampling::Greedy,
    };
    let generated = generate(prepare(model).decoder(model, None).as_mut(), &request, &mut |_| ());
    let mut right = 0;
    for (problem, ids) in problems.iter().zip(generated.continuations) {
        let text = tokenizer.decode(&ids, false).map_err(|error| anyhow::anyhow!("decoding: {error}"))?;
        let answer = text.rsplit_once("Final Answer:").map(|(_, answer)| answer.trim());
        right += u64::from(answer == Some(problem.answer.as_str()));
    }
    Ok(right as f64 / count as f64)
}

struct Parameter {
    tensor: Tensor,
    first: Tensor,
    second: Tensor,
    decays: bool,
}

struct Optimiser {
    parameters: Vec<Parameter>,
}

impl Optimiser {
    const BETAS: (f64, f64) = (0.9, 0.98);
    const WEIGHT_DECAY: f64 = 0.05;

    fn new(model: &Transformer) -> Self {
        let named: BTreeMap<String, Tensor> = named_tensors(model);
        let parameter = |tensor: Tensor| Parameter {
            first: tensor.zeros_like().detach(),
            second: tensor.zeros_like().detach(),
            decays: tensor.dim() == 2,
            tensor,
        };
        Optimiser { parameters: named.into_values().map(parameter).collect() }
    }

    /// AdamW with a short warm-up and a cosine to a fiftieth.
    fn step(&mut self, step: u64, steps: u64, peak: f64) {
        let _guard = tch::no_grad_guard();
        let warmup = (steps / 40).max(1);
        let share = step as f64 / steps as f64;
        let cosine = 0.02 + 0.98 * (1.0 + (std::f64::consts::PI * share).cos()) / 2.0;
        let lr = peak * ((step + 1) as f64 / warmup as f64).min(1.0) * cosine;
        let squares: Vec<Tensor> = self.parameters.iter().map(|p| p.tensor.grad().square().sum(Kind::Float)).collect();
        let norm = f64::try_from(Tensor::stack(&squares, 0).sum(Kind::Float).sqrt()).unwrap_or(f64::NAN);
        let clip = (1.0 / (norm + 1e-6)).min(1.0);
        let (b1, b2) = Self::BETAS;
        let t = (step + 1) as f64;
        for parameter in &mut self.parameters {
            let gradient = parameter.tensor.grad() * clip;
            parameter.first = &parameter.first * b1 + &gradient * (1.0 - b1);
            parameter.second = &parameter.second * b2 + gradient.square() * (1.0 - b2);
            let denominator = (&parameter.second / (1.0 - b2.powf(t))).sqrt() + 1e-8;
            let update = &parameter.first / (1.0 - b1.powf(t)) / denominator;
            if parameter.decays {
                let _ = parameter.tensor.g_mul_scalar_(1.0 - lr * Self::WEIGHT_DECAY);
            }
            let _ = parameter.tensor.g_sub_(&(update * lr));
            parameter.tensor.zero_grad();
        }
    }
}
