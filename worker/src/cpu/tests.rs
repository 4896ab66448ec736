//! The step without a graph beside the one on libtorch's graph: losses, statistics and gradients.

use polya_proto::v1::Sample;
use tch::{Device, Kind, Tensor};

use super::operand::{Frozen, Right, View};
use super::product::{Onto, product};
use super::step;
use crate::adapters::dropout::{Dropout, mix};
use crate::adapters::{Layout, LoraSet};
use crate::formats::huggingface::Quantisation;
use crate::model::{ModelConfig, shapes};
use crate::quantization::Nf4Weight;
use crate::step::batch::{Weighing, prepare};
use crate::step::loss::Loss;
use crate::step::microbatch::gradient_on_graph;
use polya_datasets::tokens::Tag;

fn config(model_type: &str, tied: bool) -> ModelConfig {
    let mut config = shapes::named("tiny").unwrap();
    config.model_type = model_type.to_owned();
    (config.hidden, config.intermediate, config.layers, config.vocabulary) = (96, 208, 3, 500);
    (config.heads, config.kv_heads, config.head_dim) = (6, 2, 16);
    (config.qkv_bias, config.tied) = (model_type == "qwen2", tied);
    config
}

/// Three samples of random tokens, the longest over more than one block of attention.
fn samples() -> (Vec<Sample>, [Tag; 4]) {
    let tags = [10u32, 20, 30, 40].map(|first| Tag { line: vec![first, first + 1, first + 2, 3], name_at: 1 });
    let sample = |(index, length): (usize, usize)| {
        let mut ids: Vec<u32> = (0..length).map(|at| (mix((index * 1000 + at) as u64) % 490) as u32).collect();
        let starts = [length / 4, length / 2, length * 5 / 8, length * 3 / 4];
        let mut stages = vec![255u8; length];
        for (stage, start) in starts.into_iter().enumerate() {
            ids[start..start + 4].copy_from_slice(&tags[stage].line);
            stages[start..].fill(stage as u8);
        }
        let (start, end) = (starts[3] as u32, starts[3] as u32 + 4);
        let corrective = index == 1;
        Sample {
            id: format!("s{index}"),
            ids,
            stages,
            verify_tag_start: start,
            verify_tag_end: end,
            corrective,
            ..Sample::default()
        }
    };
    ([150usize, 41, 60].into_iter().enumerate().map(sample).collect(), tags)
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut b.iter().map(|b| f64::from(*b)))
}

#[test]
fn losses_and_every_gradient_are_those_of_the_graph() {
    let (samples, tags) = samples();
    let weighing = Weighing { uniform: false, stages: [0.15, 0.35, 0.35, 0.15], samples: 3.0, learned_tokens: 90.0 };
    let loss = Loss { label_smoothing: 0.1, transition: 0.1, names: [11, 21, 31, 41] };
    for (model_type, tied, quantisation, verification, probability) in [
        ("qwen2", true, Quantisation::Nf4, true, 0.05),
        ("qwen2", true, Quantisation::None, false, 0.0),
        ("llama", false, Quantisation::Nf4, true, 0.0),
    ] {
        let model = shapes::random(config(model_type, tied), quantisation, 4);
        let layout = Layout::new(&model.config, 4, 8.0, verification);
        let mut values = layout.initial(3);
        for (index, value) in values.iter_mut().enumerate().filter(|(_, value)| **value == 0.0) {
            *value = ((index * 37 % 101) as f32 / 101.0 - 0.5) * 0.2;
        }
        let set = LoraSet::new(layout.clone(), &values, true);
        let prepared = prepare(&samples, &tags, weighing, verification, (1, 1)).unwrap();
        let dropout = Dropout { probability, keys: prepared.keys.clone() };
        let reference = gradient_on_graph(&model, &set, &prepared, (&loss, weighing), &dropout, (1.0, 0));
        let found = step::gradient(&model, &set, &prepared, (&loss, weighing), &dropout, 0);
        let case = format!("{model_type}, tied {tied}, {quantisation:?}, {verification}, {probability}");
        assert!((found.loss - reference.loss).abs() < 2e-6 * reference.loss, "{case}");
        for slot in &layout.slots {
            let far = distance(&found.values[slot.range.clone()], &reference.values[slot.range.clone()]);
            assert!(far < 2e-5, "{case}: {slot:?}: {far}");
        }
        for (found, reference) in found.statistics.stages.iter().zip(&reference.statistics.stages) {
            assert_eq!((found.tokens, found.clean_tokens), (reference.tokens, reference.clean_tokens), "{case}");
            assert_eq!(found.correct, reference.correct, "{case}");
            assert!((found.loss - reference.loss).abs() <= reference.loss / 100_000, "{case}");
        }
        let gap = (found.statistics.transition - reference.statistics.transition).abs();
        assert!(gap <= 8, "{case}: {gap}");
        let again = step::gradient(&model, &set, &prepared, (&loss, weighing), &dropout, 2);
        assert!(again.values == found.values && again.statistics == found.statistics, "{case}: recomputed");
    }
}

#[test]
fn threads_change_no_bit_of_the_step() {
    let (samples, tags) = samples();
    let weighing = Weighing { uniform: true, stages: [1.0; 4], samples: 3.0, learned_tokens: 90.0 };
    let loss = Loss { label_smoothing: 0.0, transition: 0.1, names: [11, 21, 31, 41] };
    let model = shapes::random(config("qwen2", true), Quantisation::Nf4, 4);
    let layout = Layout::new(&model.config, 4, 8.0, true);
    let set = LoraSet::new(layout.clone(), &layout.initial(5), true);
    let prepared = prepare(&samples, &tags, weighing, true, (1, 1)).unwrap();
    let dropout = Dropout { probability: 0.1, keys: prepared.keys.clone() };
    let with = |threads| {
        tch::set_num_threads(threads);
        step::gradient(&model, &set, &prepared, (&loss, weighing), &dropout, 0)
    };
    let (one, three) = (with(1), with(3));
    tch::set_num_threads(1);
    assert!(one.values == three.values && one.loss == three.loss && one.statistics == three.statistics);
}

#[test]
fn products_of_every_storage_are_libtorch_s_and_a_row_s_bits_do_not_depend_on_its_neighbours() {
    tch::manual_seed(7);
    for (rows, out, input) in [(1i64, 5i64, 64i64), (7, 33, 128), (40, 70, 320), (203, 96, 300)] {
        let cpu = |kind| (kind, Device::Cpu);
        let x = Tensor::randn([rows, input], cpu(Kind::Float));
        let g = Tensor::randn([rows, out], cpu(Kind::Float));
        let dense = Tensor::randn([out, input], cpu(Kind::Float));
        let nf4 = Nf4Weight::quantise(&dense);
        let (half, brain) = (dense.to_kind(Kind::Half), dense.to_kind(Kind::BFloat16));
        let weights = [
            (Frozen::of_tensor(&dense), dense.shallow_clone()),
            (Frozen::of_tensor(&half), half.to_kind(Kind::Float)),
            (Frozen::of_tensor(&brain), brain.to_kind(Kind::Float)),
            (Frozen::of_nf4(&nf4), nf4.dequantise()),
        ];
        for (frozen, dense) in &weights {
            for (left, right, expected) in
                [(&x, *frozen, x.matmul(&dense.tr())), (&g, frozen.backward(), g.matmul(dense))]
            {
                let data = crate::quantization::floats(left);
                let view = View::new(&data, left.size()[1] as usize);
                let mut found = vec![1f32; expected.numel()];
                product(view, &Right::Frozen(right), &mut found, Onto::Nothing);
                let expected = crate::quantization::floats(&expected);
                assert!(distance(&found, &expected) < 1e-6, "{rows} {out} {input}");
                let width = found.len() / rows as usize;
                let mut last = vec![0f32; width];
                product(
                    view.part(rows as usize - 1, 1, 0, view.columns),
                    &Right::Frozen(right),
                    &mut last,
                    Onto::Nothing,
                );
                assert_eq!(last, found[found.len() - width..]);
            }
        }
    }
}
