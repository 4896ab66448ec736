//! One microbatch of the built-in base on a device, against fp32 on the processor: what `worker selftest` says of a GPU.

use polya_datasets::plant::{BUILT_IN_KINDS, plant};
use polya_datasets::synthesize::{STEPS, synthesize};
use polya_datasets::tokens;
use polya_proto::v1::Sample;
use tch::Kind;

use super::batch::{Prepared, Weighing, prepare};
use super::exact_sum;
use super::loss::Loss;
use super::microbatch::{Gradient, gradient_on_graph};
use crate::adapters::dropout::Dropout;
use crate::adapters::{Layout, LoraSet};
use crate::formats::huggingface::Quantisation;
use crate::model::{Placement, Transformer};
use crate::trainer::load_base;

/// log2 of the loss scale in fp16, the one that a run begins with.
const LOSS_SCALE_LOG2: i32 = 12;

/// What a device makes of the microbatch.
#[derive(Debug, Clone, PartialEq)]
pub struct StepComparison {
    /// Loss in fp32 on the processor.
    pub loss: f64,
    /// Relative difference of the device's loss.
    pub loss_error: f64,
    /// Relative l2 distance of the whole gradient.
    pub gradient_error: f64,
    /// The largest of the tensors' relative l2 distances.
    pub worst_tensor_error: f64,
    /// Whether the device gives the same quantised words a second time.
    pub repeats: bool,
    /// The most bytes that tensors took on a GPU.
    pub peak_bytes: Option<u64>,
}

impl StepComparison {
    /// Whether the errors are those of the arithmetic and nothing else: 3e-2 in fp16, 2e-5 in fp32 (docs/benchmarks.md).
    pub fn passes(&self, place: Placement) -> bool {
        let tolerance = if place.kind == Kind::Half { 3e-2 } else { 2e-5 };
        self.repeats && self.loss_error <= tolerance && self.gradient_error <= tolerance
    }
}

struct Problem {
    model: Transformer,
    layout: Layout,
    values: Vec<f32>,
    prepared: Prepared,
    loss: Loss,
    weighing: Weighing,
}

/// Computes the microbatch at both places. Errors: the base does not load, or a GPU fails.
pub fn compare(place: Placement) -> Result<StepComparison, String> {
    let reference = problem()?;
    let expected = reference.gradient(Placement::CPU);
    let Problem { model, layout, values, prepared, loss, weighing } = reference;
    let tested = Problem { model: model.placed(place), layout, values, prepared, loss, weighing };
    let scale = 2f64.powi(log2(place));
    let (found, again) = (tested.gradient(place), tested.gradient(place));
    let distance = |range: std::ops::Range<usize>| {
        let pairs = || found.values[range.clone()].iter().zip(&expected.values[range.clone()]);
        let square = |value: f64| value * value;
        let error: f64 = pairs().map(|(found, exact)| square(f64::from(*found) / scale - f64::from(*exact))).sum();
        let norm: f64 = pairs().map(|(_, exact)| square(f64::from(*exact))).sum();
        (error / norm.max(f64::MIN_POSITIVE)).sqrt()
    };
    let peak_bytes = match place.device {
        tch::Device::Cuda(index) => Some(crate::ffi::libtorch_cuda::peak_bytes(index)?),
        _ => None,
    };
    Ok(StepComparison {
        loss: expected.loss,
        loss_error: (found.loss - expected.loss).abs() / expected.loss.abs(),
        gradient_error: distance(0..expected.values.len()),
        worst_tensor_error: tested.layout.slots.iter().map(|slot| distance(slot.range.clone())).fold(0.0, f64::max),
        repeats: tested.words(&found, place) == tested.words(&again, place),
        peak_bytes,
    })
}

fn log2(place: Placement) -> i32 {
    if place.kind == Kind::Half { LOSS_SCALE_LOG2 } else { 0 }
}

impl Problem {
    fn gradient(&self, place: Placement) -> Gradient {
        let adapters = LoraSet::new(self.layout.clone(), &self.values, true).to_device(place.device);
        let (loss, scale) = ((&self.loss, self.weighing), 2f64.powi(log2(place)));
        let dropout = Dropout { probability: 0.05, keys: self.prepared.keys.clone() };
        gradient_on_graph(&self.model, &adapters, &self.prepared, loss, &dropout, (scale, 0))
    }

    fn words(&self, gradient: &Gradient, place: Placement) -> Vec<i32> {
        let mut words = vec![0; gradient.values.len()];
        exact_sum::take(&gradient.values, log2(place), 20, 27, &mut words);
        words
    }
}

/// The built-in base in NF4 with adapters that do something, four right samples and one with a planted error.
fn problem() -> Result<Problem, String> {
    let base = load_base("", Quantisation::Nf4).map_err(|error| error.to_string())?;
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let tags = tokens::tags(&base.tokenizer).map_err(|error| text(&error))?;
    let end = tokens::end_of_text(&base.tokenizer).map_err(|error| text(&error))?;
    let planted = (4..40).find_map(|index| plant(&synthesize(8, index, STEPS), &BUILT_IN_KINDS, 1).ok());
    let trajectories = (0..4).map(|index| synthesize(8, index, STEPS)).chain(planted);
    let samples = trajectories
        .map(|trajectory| tokens::encode(&base.tokenizer, &tags[3], end, &trajectory).map(wire))
        .collect::<Result<Vec<Sample>, _>>()
        .map_err(|error| text(&error))?;
    let layout = Layout::new(&base.model.config, 8, 16.0, true);
    let mut values = layout.initial(3);
    for (index, value) in values.iter_mut().enumerate().filter(|(_, value)| **value == 0.0) {
        *value = ((index * 37 % 101) as f32 / 101.0 - 0.5) * 0.1; // B is not zero, as after some training
    }
    let weighing = Weighing {
        uniform: false,
        stages: [0.15, 0.35, 0.35, 0.15],
        samples: samples.len() as f64,
        learned_tokens: 500.0,
    };
    let prepared = prepare(&samples, &tags, weighing, true, (1, 1)).map_err(|error| text(&error))?;
    let names = [0, 1, 2, 3].map(|stage: usize| i64::from(tags[stage].name_token()));
    let loss = Loss { label_smoothing: 0.1, transition: 0.1, names };
    Ok(Problem { model: base.model, layout, values, prepared, loss, weighing })
}

/// An encoded sample as the coordinator would send it.
pub(crate) fn wire(sample: tokens::Sample) -> Sample {
    Sample {
        stages: sample.stages.iter().map(|stage| stage.map_or(255, |stage| stage.index() as u8)).collect(),
        weight_bits: vec![],
        verify_tag_start: sample.verify_tag.start as u32,
        verify_tag_end: sample.verify_tag.end as u32,
        corrective: sample.corrective,
        id: sample.id,
        ids: sample.ids,
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn the_processor_agrees_with_itself_exactly_and_fp16_within_its_tolerance() {
        let same = compare(Placement::CPU).unwrap();
        assert_eq!((same.loss_error, same.gradient_error, same.repeats), (0.0, 0.0, true), "{same:?}");
        let half = Placement { device: Device::Cpu, kind: Kind::Half };
        let found = compare(half).unwrap();
        println!("{found:?}");
        assert!(found.passes(half) && found.gradient_error > 1e-5, "{found:?}");
        assert!(!found.passes(Placement::CPU), "fp16 does not pass for fp32");
    }
}
