//! The numbers of transformers, PEFT, bitsandbytes and torch. `scripts/interop/make_fixtures.py` made the files; `make
//! interop` makes them again and compares. Tolerances are relative l2 errors in fp32.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as the tests do")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use polya_datasets::tokens::Tag;
use polya_proto::v1::Sample;
use safetensors::SafeTensors;
use tch::{Kind, Tensor};
use worker::adamw::AdamW;
use worker::adapters::{Layout, LoraSet, NAMES};
use worker::decode;
use worker::formats::adapter_folder;
use worker::formats::huggingface::{Directory, Quantisation, load_model};
use worker::formats::peft::key;
use worker::generate::{Request, Sampling, generate};
use worker::logits::{gradients, logits};
use worker::model::{FrozenWeight, Transformer};
use worker::quantization::{double, nf4};
use worker::step::batch::{Prepared, Weighing, prepare};
use worker::step::loss::Loss;
use worker::step::microbatch;
use worker::step::optimiser::TrainingState;

const FAMILIES: [&str; 2] = ["qwen2", "llama"];
/// Same function, two implementations.
const FP32: f64 = 2e-5;
/// 4-bit codes made at load: bitsandbytes' CPU kernel does not always take the nearest 8-bit code.
const NF4_AT_LOAD: f64 = 1e-3;
const TAG: std::ops::Range<usize> = 26..29;

struct Fixture {
    folder: PathBuf,
    figures: BTreeMap<String, Tensor>,
    ids: Vec<u32>,
}

fn parity() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity")
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap();
    let parsed = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |view: &safetensors::tensor::TensorView| {
        let kind = match view.dtype() {
            safetensors::Dtype::F32 => Kind::Float,
            safetensors::Dtype::F64 => Kind::Double,
            safetensors::Dtype::I64 => Kind::Int64,
            safetensors::Dtype::U8 => Kind::Uint8,
            other => panic!("{other:?}"),
        };
        let shape: Vec<i64> = view.shape().iter().map(|size| *size as i64).collect();
        Tensor::from_data_size(view.data(), &shape, kind)
    };
    parsed.tensors().iter().map(|(name, view)| (name.clone(), tensor(view))).collect()
}

fn fixture(family: &str) -> Fixture {
    tch::set_num_threads(1);
    let folder = parity().join(family);
    let figures = tensors(&folder.join("figures.safetensors"));
    let ids = Vec::<i64>::try_from(&figures["ids"]).unwrap().into_iter().map(|id| id as u32).collect();
    Fixture { folder, figures, ids }
}

impl Fixture {
    fn model(&self, quantisation: Quantisation) -> Transformer {
        load_model(&Directory(self.folder.clone()), quantisation).unwrap()
    }

    /// The adapters of a case, and where the verification adapter begins.
    fn adapters(&self, case: &str, model: &Transformer) -> (LoraSet, Vec<usize>, Option<usize>) {
        let folder = self.folder.join("adapters");
        let (folder, verify_from) = match case {
            "reasoning" => (folder.join("reasoning"), None),
            "verification" => (folder.join("verification"), Some(TAG.start)),
            _ => (folder, Some(TAG.start)),
        };
        let found = adapter_folder::load(&folder, &model.config, true).unwrap();
        (found.set, found.present, verify_from)
    }

    fn close(&self, name: &str, found: &Tensor, tolerance: f64) {
        let expected = &self.figures[name];
        let error = relative(found, expected);
        assert!(error < tolerance, "{}, {name}: {error:.1e} off", self.folder.display());
    }
}

fn relative(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    ((found - &expected).norm() / expected.norm().clamp_min(1e-30)).double_value(&[])
}

#[test]
fn logits_are_those_of_transformers() {
    for fixture in FAMILIES.map(fixture) {
        fixture.close("logits", &logits(&fixture.model(Quantisation::None), &fixture.ids, None, None), FP32);
    }
}

#[test]
fn adapter_logits_and_gradients_are_those_of_peft() {
    for fixture in FAMILIES.map(fixture) {
        let model = fixture.model(Quantisation::None);
        for case in ["reasoning", "verification", "both"] {
            let (set, present, verify_from) = fixture.adapters(case, &model);
            let found = logits(&model, &fixture.ids, Some(&set), verify_from);
            fixture.close(&format!("{case}.logits"), &found, FP32);
            let (_, gradients) = gradients(&model, &fixture.ids, &set, verify_from);
            let mut compared = 0;
            for (slot, gradient) in set.layout.slots.iter().zip(&gradients) {
                if present.contains(&slot.adapter) {
                    fixture.close(&format!("{case}.grad.{}.{}", NAMES[slot.adapter], key(slot)), gradient, FP32);
                    compared += 1;
                }
            }
            assert_eq!(compared, 28 * present.len());
        }
    }
}

#[test]
fn a_verification_adapter_that_is_on_nowhere_has_no_gradient() {
    let fixture = fixture("llama");
    let model = fixture.model(Quantisation::None);
    let (set, ..) = fixture.adapters("both", &model);
    let (_, found) = gradients(&model, &fixture.ids, &set, None);
    for (slot, gradient) in set.layout.slots.iter().zip(&found) {
        let zero = gradient.abs().max().double_value(&[]) == 0.0;
        assert_eq!(zero, slot.adapter == 1, "{}", key(slot));
        assert_eq!(gradient.size(), slot.shape);
    }
}

#[test]
fn nf4_codes_and_constants_are_those_of_bitsandbytes_bit_for_bit() {
    let expected = tensors(&parity().join("nf4.safetensors"));
    let floats = |name: &str| Vec::<f32>::try_from(expected[name].view(-1)).unwrap();
    let bytes = |name: &str| Vec::<u8>::try_from(expected[name].view(-1)).unwrap();
    let weight: Vec<f32> = (0..200 * 192u64)
        .map(|index| {
            let uniform = ((index * 2_654_435_761 % (1 << 32)) >> 8) as f32 / 2f32.powi(24) - 0.5;
            let scale = 0.5 + (index / 64 % 97) as f32 / 97.0;
            if (64..128).contains(&index) { 0.0 } else { uniform * scale }
        })
        .collect();
    assert_eq!((nf4::CODE.to_vec(), double::code().to_vec()), (floats("code4"), floats("code8")));
    let (packed, absmax) = nf4::quantise(&weight);
    assert!(packed == bytes("packed") && absmax == floats("absmax"));
    let found = double::quantise(&absmax);
    // The mean of the scales is summed in an order that depends on the width of torch's vectors: an ulp or two.
    let (offset, nested) = (floats("offset")[0], floats("nested"));
    let close = |ours: f32, theirs: f32| (ours - theirs).abs() <= 4.0 * f32::EPSILON * theirs.abs();
    assert!(close(found.offset, offset), "{} {offset}", found.offset);
    assert!(nested.len() == found.nested.len() && nested.iter().zip(&found.nested).all(|(a, b)| close(*b, *a)));
    let theirs = bytes("scale_codes");
    let scale = |codes: &[u8], block: usize| double::code()[usize::from(codes[block])] * nested[block / 256];
    let mut other = 0;
    for (block, absmax) in absmax.iter().enumerate() {
        // Their CPU kernel looks codes up in a table of 65,536 cells: now and then not the nearest, never nearer.
        let wanted = absmax - offset;
        let (ours, table) = (scale(&found.codes, block), scale(&theirs, block));
        other += usize::from(found.codes[block] != theirs[block]);
        let cell = 2.0 / 65_535.0 * nested[block / 256];
        assert!((ours - wanted).abs() <= (table - wanted).abs() + 1e-6 && (ours - table).abs() <= 0.01 + cell);
    }
    assert!(other * 50 < theirs.len(), "{other} of {} codes differ", theirs.len());
    let mut dequantised = vec![0f32; 8 * 192];
    nf4::dequantise(&packed[..4 * 192], |block| scale(&theirs, block) + offset, &mut dequantised);
    assert_eq!(dequantised, floats("dequantised"));
}

#[test]
fn nf4_made_at_load_gives_the_logits_of_bitsandbytes() {
    for fixture in FAMILIES.map(fixture) {
        let model = fixture.model(Quantisation::Nf4);
        fixture.close("nf4.logits", &logits(&model, &fixture.ids, None, None), NF4_AT_LOAD);
        let (set, _, verify_from) = fixture.adapters("both", &model);
        let found = logits(&model, &fixture.ids, Some(&set), verify_from);
        fixture.close("nf4.both.logits", &found, NF4_AT_LOAD);
    }
}

#[test]
fn checkpoints_that_bitsandbytes_has_quantised_load_with_their_own_constants() {
    for fixture in FAMILIES.map(fixture) {
        for name in ["nf4", "nf4-single"] {
            for quantisation in [Quantisation::Nf4, Quantisation::None] {
                let model = load_model(&Directory(fixture.folder.join(name)), quantisation).unwrap();
                fixture.close(&format!("{name}.logits"), &logits(&model, &fixture.ids, None, None), FP32);
                let packed = matches!(model.layers[0].projections[0].weight, FrozenWeight::Nf4(_));
                assert_eq!(packed, name == "nf4", "scales in fp32 have no place in the packed form");
            }
        }
    }
}

#[test]
fn greedy_generation_is_that_of_transformers_token_for_token() {
    for fixture in FAMILIES.map(fixture) {
        let prompts: Vec<Vec<u32>> = [3u32, 9, 17].iter().map(|length| (10..10 + length).collect()).collect();
        let request = Request {
            prompts: &prompts,
            tag: &[],
            stop: &[],
            max_tokens: 24,
            context: 512,
            batch: 2,
            refill: true,
            vocabulary: 64,
            sampling: Sampling::Greedy,
        };
        let model = fixture.model(Quantisation::None);
        let prepared = decode::prepare(&model);
        let found = generate(prepared.decoder(&model, None).as_mut(), &request, &mut |_| ());
        for (index, found) in found.continuations.into_iter().enumerate() {
            let expected = Vec::<i64>::try_from(&fixture.figures[&format!("greedy.{index}")]).unwrap();
            assert_eq!(found.into_iter().map(i64::from).collect::<Vec<_>>(), expected);
        }
    }
}

const WEIGHING: Weighing =
    Weighing { uniform: false, stages: [0.15, 0.35, 0.35, 0.15], samples: 1.0, learned_tokens: 32.0 };

/// The fixture's one training sample: context, then the four stages, VERIFY from its tag on.
fn prepared(fixture: &Fixture) -> Prepared {
    let stages = [[255u8; 8].as_slice(), &[0; 5], &[1; 6], &[2; 7], &[3; 14]].concat();
    let sample = Sample {
        id: "fixture".to_owned(),
        ids: fixture.ids.clone(),
        stages,
        verify_tag_start: TAG.start as u32,
        verify_tag_end: TAG.end as u32,
        ..Sample::default()
    };
    let tag = |first: u32| Tag { line: vec![first, 8, 9], name_at: 0 };
    prepare(&[sample], &[1, 2, 3, 7].map(tag), WEIGHING, true, (1, 1)).unwrap()
}

fn loss(transition: f64) -> Loss {
    Loss { label_smoothing: 0.1, transition, names: [1, 2, 3, 7] }
}

#[test]
fn fifty_steps_are_those_of_torch_from_loss_to_clipping_and_adamw() {
    for fixture in FAMILIES.map(fixture) {
        let model = fixture.model(Quantisation::None);
        let (set, ..) = fixture.adapters("both", &model);
        let values = set.tensors.iter().flat_map(|tensor| Vec::<f32>::try_from(tensor.reshape([-1])).unwrap());
        let mut state = TrainingState::new(values.collect());
        let adamw = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
        let prepared = prepared(&fixture);
        let of = |name: &str| Vec::<f64>::try_from(fixture.figures[name].to_kind(Kind::Double)).unwrap();
        let (losses, norms, rates) = (of("losses"), of("norms"), of("rates"));
        let (mut clipped, mut whole) = (0, 0);
        for step in 0..50 {
            let set = LoraSet::new(set.layout.clone(), &state.parameters, true);
            let found = microbatch::gradient(&model, &set, &prepared, (&loss(0.0), WEIGHING), 0.0, (1.0, 0));
            assert!((found.loss / losses[step] - 1.0).abs() < FP32, "step {step}: {} {}", found.loss, losses[step]);
            let (next, norm) = state.stepped(&adamw, rates[step], 0.05, found.values);
            assert!((norm / norms[step] - 1.0).abs() < 1e-4, "step {step}: {norm} {}", norms[step]);
            *(if norm > 0.05 { &mut clipped } else { &mut whole }) += 1;
            state = next;
        }
        assert!(clipped > 0 && losses[49] < losses[0], "{clipped} steps were clipped, {whole} were not");
        for (slot, tensor) in set.layout.slots.iter().zip(tensors_of(&set.layout, &state.parameters)) {
            let name = format!("trained.{}.{}", NAMES[slot.adapter], key(slot));
            fixture.close(&name, &tensor, 1e-4);
        }
    }
}

fn tensors_of(layout: &Layout, values: &[f32]) -> Vec<Tensor> {
    layout.tensors(values, false)
}

/// Guards against silent changes of the objective: the whole loss of the first step, transition term included. The figures
/// are those of the formulas in docs/architecture.md, computed with torch and PEFT in fp64.
#[test]
fn the_first_loss_is_that_of_the_formulas() {
    for (family, expected) in [("qwen2", 4.793_673), ("llama", 4.366_263)] {
        let fixture = fixture(family);
        let model = fixture.model(Quantisation::None);
        let (set, ..) = fixture.adapters("both", &model);
        let found = microbatch::gradient(&model, &set, &prepared(&fixture), (&loss(0.1), WEIGHING), 0.0, (1.0, 0)).loss;
        assert!((found / expected - 1.0).abs() < 1e-5, "{family}: {found:.6}");
    }
}
