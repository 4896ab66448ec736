//! The step on a small random model: what packing, recomputing, the shadow and the cache must not change.

use std::cell::OnceCell;

use polya_datasets::plant::{BUILT_IN_KINDS, plant};
use polya_datasets::synthesize::{STEPS, synthesize};
use polya_datasets::tokens::{self, Tag};
use polya_datasets::trajectory::SpanWeight;
use polya_proto::v1;
use tch::{Device, Kind, Tensor};
use tokenizers::Tokenizer;

use super::batch::{Prepared, Weighing, prepare};
use super::check::wire;
use super::exact_sum;
use super::loss::Loss;
use super::microbatch::{Gradient, gradient, gradient_on_graph};
use crate::adapters::dropout::Dropout;
use crate::adapters::{Layout, LoraSet};
use crate::builtin::Builtin;
use crate::decode::cpu::Weights;
use crate::formats::huggingface::Files;
use crate::generate::mask_of;
use crate::model::{ModelConfig, PackedBatch, Placement, Transformer};
use crate::pretrain::initial;

pub(crate) struct World {
    pub(crate) model: Transformer,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) tags: [Tag; 4],
    pub(crate) layout: Layout,
    pub(crate) values: Vec<f32>,
    weights: OnceCell<Weights>,
}

pub(crate) fn world() -> World {
    world_of("qwen2")
}

fn world_of(family: &str) -> World {
    let tokenizer = Tokenizer::from_bytes(Builtin.read("tokenizer.json").unwrap().unwrap()).unwrap();
    let config = ModelConfig {
        model_type: family.to_owned(),
        hidden: 32,
        intermediate: 48,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        vocabulary: tokenizer.get_vocab_size(true) as i64 + 6,
        norm_epsilon: 1e-6,
        rope_theta: 10_000.0,
        tied: true,
        qkv_bias: family == "qwen2",
        output_bias: false,
        context: 512,
    };
    let model = tch::no_grad(|| {
        let mut model = initial(config, 5);
        model.embedding = &model.embedding * 4.0;
        model
    });
    let layout = Layout::new(&model.config, 4, 8.0, true);
    // B is not zero, as after some training: else the adapters would do nothing.
    let mut values = layout.initial(3);
    for (index, value) in values.iter_mut().enumerate().filter(|(_, value)| **value == 0.0) {
        *value = ((index * 37 % 101) as f32 / 101.0 - 0.5) * 0.3;
    }
    let tags = tokens::tags(&tokenizer).unwrap();
    World { model, tokenizer, tags, layout, values, weights: OnceCell::new() }
}

impl World {
    /// The model as decoding on CPUs reads it.
    pub(crate) fn decoding_weights(&self) -> &Weights {
        self.weights.get_or_init(|| Weights::new(&self.model))
    }

    pub(crate) fn samples(&self) -> Vec<v1::Sample> {
        let end = tokens::end_of_text(&self.tokenizer).unwrap();
        let right = (0..3).map(|index| synthesize(8, index, STEPS));
        let wrong = (3..5).filter_map(|index| plant(&synthesize(8, index, STEPS), &BUILT_IN_KINDS, 1).ok());
        let sample = |trajectory| tokens::encode(&self.tokenizer, &self.tags[3], end, &trajectory).unwrap();
        right.chain(wrong).map(|trajectory| wire(sample(trajectory))).collect()
    }

    fn prepare(&self, samples: &[v1::Sample]) -> Prepared {
        prepare(samples, &self.tags, weighing(), true, (1, 1)).unwrap()
    }

    fn loss(&self) -> Loss {
        let names = [0, 1, 2, 3].map(|stage: usize| i64::from(self.tags[stage].name_token()));
        Loss { label_smoothing: 0.1, transition: 0.1, names }
    }

    fn gradient(&self, samples: &[v1::Sample], values: &[f32], dropout: f64, recomputed: usize) -> Gradient {
        let adapters = LoraSet::new(self.layout.clone(), values, true);
        let prepared = self.prepare(samples);
        gradient(&self.model, &adapters, &prepared, (&self.loss(), weighing()), dropout, (1.0, recomputed))
    }

    /// The unscaled gradient of all samples in a type, with a weight of each sample and a loss scale.
    fn scaled(&self, kind: Kind, share: f64, log2: i32) -> Tensor {
        let samples = self.samples();
        let adapters = LoraSet::new(self.layout.clone(), &self.values, true);
        let weighing = Weighing { samples: 5.0 / share, ..weighing() };
        let prepared = prepare(&samples, &self.tags, weighing, true, (1, 1)).unwrap();
        let model = world().model.placed(Placement { device: Device::Cpu, kind });
        let (loss, scale) = (Loss { transition: 0.0, ..self.loss() }, 2f64.powi(log2));
        let dropout = Dropout { probability: 0.05, keys: prepared.keys.clone() };
        let found = gradient_on_graph(&model, &adapters, &prepared, (&loss, weighing), &dropout, (scale, 0));
        self.flat(&found) * 2f64.powi(-log2) / share
    }

    fn flat(&self, gradient: &Gradient) -> Tensor {
        Tensor::from_slice(&gradient.values)
    }
}

fn weighing() -> Weighing {
    Weighing { uniform: false, stages: [0.15, 0.35, 0.35, 0.15], samples: 5.0, learned_tokens: 500.0 }
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    f64::try_from((a - b).norm() / b.norm()).unwrap()
}

#[test]
fn packed_and_one_by_one_give_the_same_loss_and_gradients() {
    let world = world();
    let samples = world.samples();
    assert_eq!(samples.len(), 5);
    let packed = world.gradient(&samples, &world.values, 0.05, 0);
    let mut sum = world.flat(&packed).zeros_like();
    let mut loss = 0.0;
    for sample in &samples {
        let alone = world.gradient(std::slice::from_ref(sample), &world.values, 0.05, 0);
        sum += world.flat(&alone);
        loss += alone.loss;
    }
    assert!(distance(&world.flat(&packed), &sum) < 2e-5, "{}", distance(&world.flat(&packed), &sum));
    assert!((packed.loss - loss).abs() < 1e-5 * loss.abs(), "{} {loss}", packed.loss);
}

/// Objective, l2 norm of its gradient and unsmoothed nats of the first step, as this version computes them: whoever changes
/// one of them changes what is learned, and says so here.
#[test]
fn the_first_step_s_objective_is_the_golden_one_in_both_families() {
    const GOLDEN: [(&str, [f64; 3]); 2] =
        [("llama", [6.200_919, 1.303_659, 5_119.070_5]), ("qwen2", [6.557_555, 1.583_112, 5_420.276_2])];
    for (family, golden) in GOLDEN {
        let mut world = world_of(family);
        // Fresh models are Qwen2's with biases of zero, and then the families compute the same.
        for projection in world.model.layers.iter_mut().flat_map(|layer| &mut layer.projections) {
            let options = (Kind::Float, Device::Cpu);
            let biases = projection.bias.take().filter(|_| family == "qwen2").map(|bias| bias.size()[0]);
            projection.bias = biases.map(|count| Tensor::linspace(-0.5, 0.5, count, options));
        }
        let found = world.gradient(&world.samples(), &world.values, 0.05, 0);
        let nats: i64 = found.statistics.stages.iter().map(|stage| stage.loss).sum();
        let found = [found.loss, world.flat(&found).norm().double_value(&[]), nats as f64 / f64::from(1 << 20)];
        println!("{family}: {found:?}");
        for (found, golden) in found.into_iter().zip(golden) {
            assert!((found / golden - 1.0).abs() < 1e-5, "{family}: {found} instead of {golden}");
        }
    }
}

#[test]
fn recomputed_layers_give_the_same_bits_and_so_does_a_second_run() {
    let world = world();
    let samples = world.samples();
    let kept = world.gradient(&samples, &world.values, 0.05, 0);
    for recomputed in [0, 1, 2] {
        let again = world.gradient(&samples, &world.values, 0.05, recomputed);
        assert!(world.flat(&kept).equal(&world.flat(&again)), "{recomputed} layers");
        assert_eq!(kept.statistics, again.statistics);
    }
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    let world = world();
    let samples = world.samples();
    let found = crate::quantization::floats(&world.flat(&world.gradient(&samples, &world.values, 0.0, 0)));
    // Along a fixed direction the loss changes by the gradient's projection on it.
    let direction: Vec<f32> = (0..found.len()).map(|i| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * 2.0).collect();
    let at = |step: f32| {
        let moved: Vec<f32> = world.values.iter().zip(&direction).map(|(v, d)| v + step * d).collect();
        world.gradient(&samples, &moved, 0.0, 0).loss
    };
    let slope = (at(2e-3) - at(-2e-3)) / 4e-3;
    let expected: f64 = found.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
    assert!((slope - expected).abs() < 0.02 * expected.abs().max(0.01), "{slope} {expected}");
}

#[test]
fn the_shadow_sees_what_generation_sees_and_nothing_sees_the_shadow() {
    let world = world();
    let adapters = LoraSet::new(world.layout.clone(), &world.values, false);
    let _guard = tch::no_grad_guard();
    for sample in world.samples() {
        let prepared = world.prepare(std::slice::from_ref(&sample));
        let on = adapters.on(&prepared.verify, None);
        let with_shadow = world.model.hidden(&prepared.batch, Some(&on));
        let plain = PackedBatch::of_sequences(&[&sample.ids], Device::Cpu);
        let (start, length) = (i64::from(sample.verify_tag_start), sample.ids.len() as i64);
        let copied = prepared.batch.tokens() - length;
        assert_eq!(copied, world.tags[3].line.len() as i64 - 1);
        let verifying = adapters.on(&mask_of(&sample.ids, &world.tags[3].line), None);
        let real = world.model.hidden(&plain, Some(&verifying));
        assert!(distance(&with_shadow.narrow(0, 0, length), &real) < 2e-5);
        let before = adapters.on(&vec![0.0; sample.ids.len()], None);
        let off = world.model.hidden(&plain, Some(&before));
        assert!(distance(&with_shadow.narrow(0, length, copied), &off.narrow(0, start, copied)) < 2e-5);
        assert!(
            distance(&real.narrow(0, start, copied), &off.narrow(0, start, copied)) > 1e-3,
            "the adapter does something"
        );
    }
}

#[test]
fn every_stage_is_learned_once_and_a_masked_execute_not_at_all() {
    let world = world();
    for sample in world.samples() {
        let prepared = world.prepare(std::slice::from_ref(&sample));
        let mut weights = [0.0; 4];
        prepared.predictions.iter().for_each(|p| weights[p.stage] += p.weight * 5.0);
        let execute = if sample.corrective { 0.0 } else { 0.35 };
        for (found, expected) in weights.iter().zip([0.15, 0.35, execute, 0.15]) {
            assert!((found - expected).abs() < 1e-6, "{weights:?}");
        }
        let rows: std::collections::BTreeSet<i64> = prepared.predictions.iter().map(|p| p.row).collect();
        assert_eq!(rows.len(), prepared.predictions.len(), "no row predicts twice");
    }
}

#[test]
fn a_span_s_weight_goes_from_the_file_through_packing_and_smoothing_into_the_loss() {
    let world = world();
    let end = tokens::end_of_text(&world.tokenizer).unwrap();
    // Half of EXECUTE counts twice, the answer's last bytes not at all; the second sample has no weights.
    let mut weighed = synthesize(8, 0, STEPS);
    let canonical = weighed.canonical();
    let execute = canonical.stages[2].clone();
    let span = |start: usize, end: usize, weight| SpanWeight { start: start as u32, end: end as u32, weight };
    let middle = (execute.start + execute.end) / 2;
    let length = canonical.text.len();
    weighed.weights = Some(vec![span(middle, execute.end, 2.0), span(length - 6, length, 0.0)]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weighed.parquet");
    polya_datasets::parquet::write(&file, [&weighed, &synthesize(8, 1, STEPS)], &Default::default()).unwrap();
    let samples: Vec<v1::Sample> = polya_datasets::parquet::read(&file)
        .unwrap()
        .iter()
        .map(|trajectory| {
            let sample = tokens::encode(&world.tokenizer, &world.tags[3], end, trajectory).unwrap();
            let weight_bits = sample.weights.iter().map(|weight| weight.to_bits()).collect();
            v1::Sample { weight_bits, ..wire(sample) }
        })
        .collect();
    let loss = Loss { transition: 0.0, ..world.loss() };
    let prepared = prepare(&samples, &world.tags, weighing(), false, (1, 1)).unwrap();
    let adapters = LoraSet::new(world.layout.clone(), &world.values, true);
    let found = gradient(&world.model, &adapters, &prepared, (&loss, weighing()), 0.0, (1.0, 0));

    let _guard = tch::no_grad_guard();
    let (mut expected, mut doubled, mut dropped) = (0.0, 0, 0);
    for sample in &samples {
        let weight = |position: usize| f64::from(f32::from_bits(sample.weight_bits[position]));
        let mut learned = [0f64; 4];
        for position in (1..sample.ids.len()).filter(|position| weight(*position) > 0.0) {
            learned[sample.stages[position] as usize] += 1.0;
        }
        let batch = PackedBatch::of_sequences(&[&sample.ids], Device::Cpu);
        let on = adapters.on(&vec![0.0; sample.ids.len()], None);
        let log_p = world.model.logits(&world.model.hidden(&batch, Some(&on))).to_kind(Kind::Double);
        let log_p = log_p.log_softmax(-1, Kind::Double);
        for position in (1..sample.ids.len()).filter(|position| sample.stages[*position] < 4) {
            let row = log_p.get(position as i64 - 1);
            let nll = -row.double_value(&[i64::from(sample.ids[position])]);
            let smoothed = 0.9 * nll - 0.1 * f64::try_from(row.mean(Kind::Double)).unwrap();
            let stage = sample.stages[position] as usize;
            expected += weight(position) * weighing().stages[stage] / learned[stage] / weighing().samples * smoothed;
            doubled += usize::from(weight(position) == 2.0);
            dropped += usize::from(weight(position) == 0.0);
        }
    }
    assert!(doubled > 3 && dropped > 0, "{doubled} {dropped}");
    assert!((found.loss - expected).abs() < 1e-5 * expected, "{} {expected}", found.loss);
}

#[test]
fn a_loss_scale_changes_nothing_in_fp32() {
    let world = world();
    let distance = distance(&world.scaled(Kind::Float, 1.0, 12), &world.scaled(Kind::Float, 1.0, 0));
    assert!(distance < 1e-6, "{distance}");
}

#[test]
fn fp16_gives_the_gradient_of_fp32_and_small_ones_need_the_scale() {
    let world = world();
    let exact = world.scaled(Kind::Float, 1.0, 0);
    let half = distance(&world.scaled(Kind::Half, 1.0, 12), &exact);
    assert!(half < 3e-2, "the tolerance of fp16: {half}");
    // A sample of a large step weighs little: below 6e-8 fp16 has nothing.
    let share = 2f64.powi(-14);
    let (with, without) =
        (distance(&world.scaled(Kind::Half, share, 14), &exact), distance(&world.scaled(Kind::Half, share, 0), &exact));
    println!("fp16: {half:.1e}; small gradients {with:.1e} with a scale, {without:.1e} without");
    assert!(with < 3e-2 && without > 2.0 * with, "{with} {without}");
}

#[test]
fn an_overflow_in_fp16_is_a_magnitude_that_is_not_finite() {
    let world = world();
    let floats = crate::quantization::floats(&world.scaled(Kind::Half, 1.0, 40));
    let mut words = vec![0; floats.len()];
    assert_eq!(exact_sum::take(&floats, 40, 20, 27, &mut words), polya_proto::GRADIENT_NOT_FINITE);
}
