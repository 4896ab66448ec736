//! Samples to a pack with targets, weights and the VERIFY tag's shadow copy.
//!
//! When generating, the tag's own later tokens are predicted with the verification adapter off, so their loss is taken
//! from a shadow of the tag (m = 0, same positions) that nothing else sees. Source: docs/architecture.md, "The dual
//! adapter".

use polya_datasets::tokens::Tag;
use polya_datasets::trajectory::Stage;
use polya_proto::v1::{Plan, Sample};
use tch::Tensor;

use crate::adapters::dropout::token_key;
use crate::model::{PackedBatch, Segment};

/// One prediction that counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Row of the pack that predicts.
    pub row: i64,
    /// The right next token.
    pub target: i64,
    /// Weight of its cross-entropy in the step's loss; 0 where only the transition term counts.
    pub weight: f64,
    /// Stage of the target.
    pub stage: usize,
    /// Which sample of the pack.
    pub sample: usize,
    /// What it means for the transition term.
    pub transition: Transition,
}

/// A prediction's place in the order of stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// The target opens this stage's name: every other name is wrong.
    Opens(usize),
    /// The target ends the text: every name is wrong.
    Ends,
    /// Inside a stage: every other stage's name is wrong.
    Inside,
}

/// A microbatch, ready for the model.
#[derive(Debug)]
pub struct Prepared {
    /// Tokens and sequences.
    pub batch: PackedBatch,
    /// m, one a token.
    pub verify: Vec<f32>,
    /// Keys of the dropout, one a token.
    pub keys: Vec<u64>,
    /// What is learned, by row.
    pub predictions: Vec<Prediction>,
    /// Whether each sample's EXECUTE is right.
    pub clean: Vec<bool>,
}

/// How tokens are weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighing {
    /// Every learned token of the step weighs the same.
    pub uniform: bool,
    /// w_s.
    pub stages: [f64; 4],
    /// Samples in the step.
    pub samples: f64,
    /// Learned tokens in the step.
    pub learned_tokens: f64,
}

impl Weighing {
    /// As the plan says.
    pub fn of_plan(plan: &Plan, uniform: bool) -> Self {
        let mut stages = [0.0; 4];
        for (weight, bits) in stages.iter_mut().zip(&plan.stage_weight_bits) {
            *weight = f64::from(f32::from_bits(*bits));
        }
        let (samples, learned_tokens) = (f64::from(plan.samples.max(1)), plan.learned_tokens.max(1) as f64);
        Weighing { uniform, stages, samples, learned_tokens }
    }
}

/// A sample that breaks the rules of the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sample `{id}`: {reason}")]
pub struct SampleError {
    id: String,
    reason: &'static str,
}

/// Packs samples. `shadow`: the verification adapter exists.
pub fn prepare(
    samples: &[Sample],
    tags: &[Tag; 4],
    weighing: Weighing,
    shadow: bool,
    (seed, step): (u64, u64),
) -> Result<Prepared, SampleError> {
    let (mut ids, mut positions, mut segments, mut verify, mut keys) = (vec![], vec![], vec![], vec![], vec![]);
    let mut predictions = vec![];
    for (index, sample) in samples.iter().enumerate() {
        check(sample)?;
        let start = ids.len() as i64;
        let (tag_start, tag_end) = (sample.verify_tag_start as usize, sample.verify_tag_end as usize);
        let copied = if shadow { tag_end - tag_start - 1 } else { 0 };
        let real = sample.ids.len();
        ids.extend(sample.ids.iter().map(|id| i64::from(*id)));
        ids.extend(sample.ids[tag_start..tag_start + copied].iter().map(|id| i64::from(*id)));
        positions.extend(0..real as i64);
        positions.extend((tag_start..tag_start + copied).map(|position| position as i64));
        verify.extend((0..real).map(|position| f32::from(u8::from(shadow && position >= tag_start))));
        verify.extend(std::iter::repeat_n(0f32, copied));
        keys.extend((0..real).map(|p| token_key(seed, step, &sample.id, p as u64, false)));
        keys.extend((tag_start..tag_start + copied).map(|p| token_key(seed, step, &sample.id, p as u64, true)));
        let end = ids.len() as i64;
        segments.push(Segment { tokens: start..end, shadow: copied as i64, before_tag: tag_start as i64 });
        predict(sample, index, start, copied, tags, weighing, &mut predictions);
    }
    let batch = PackedBatch { ids: Tensor::from_slice(&ids), positions, segments };
    let clean = samples.iter().map(|sample| !sample.corrective).collect();
    Ok(Prepared { batch, verify, keys, predictions, clean })
}

fn check(sample: &Sample) -> Result<(), SampleError> {
    let error = |reason| Err(SampleError { id: sample.id.clone(), reason });
    let (start, end) = (sample.verify_tag_start as usize, sample.verify_tag_end as usize);
    if sample.ids.len() < 2 || sample.stages.len() != sample.ids.len() {
        return error("it has no stage for each of its tokens");
    }
    if start < 1 || end <= start || end >= sample.ids.len() {
        return error("its VERIFY tag is not inside");
    }
    if !sample.weight_bits.is_empty() && sample.weight_bits.len() != sample.ids.len() {
        return error("it has no weight for each of its tokens");
    }
    Ok(())
}

fn predict(
    sample: &Sample,
    index: usize,
    start: i64,
    copied: usize,
    tags: &[Tag; 4],
    weighing: Weighing,
    predictions: &mut Vec<Prediction>,
) {
    let stage_of = |position: usize| Some(sample.stages[position] as usize).filter(|stage| *stage < 4);
    let token_weight = |position: usize| match sample.weight_bits.get(position) {
        Some(bits) => f64::from(f32::from_bits(*bits)),
        None if sample.corrective && stage_of(position) == Some(Stage::Execute.index()) => 0.0,
        None => 1.0,
    };
    let mut learned = [0u32; 4];
    for position in 1..sample.ids.len() {
        if let Some(stage) = stage_of(position) {
            learned[stage] += u32::from(token_weight(position) > 0.0);
        }
    }
    let (tag_start, tag_end) = (sample.verify_tag_start as usize, sample.verify_tag_end as usize);
    for position in 1..sample.ids.len() {
        let Some(stage) = stage_of(position) else { continue };
        let factor = token_weight(position);
        if factor <= 0.0 {
            continue;
        }
        let in_tag = copied > 0 && position > tag_start && position < tag_end;
        let row = if in_tag { sample.ids.len() + position - 1 - tag_start } else { position - 1 };
        let weight = match weighing.uniform {
            true => factor / weighing.learned_tokens,
            false => factor * weighing.stages[stage] / f64::from(learned[stage]) / weighing.samples,
        };
        let opens = position.checked_sub(tags[stage].name_at).is_some_and(|tag_at| {
            let is_first = tag_at == 0 || stage_of(tag_at - 1) != Some(stage);
            is_first && sample.ids[tag_at..].starts_with(&tags[stage].line)
        });
        let transition = if position + 1 == sample.ids.len() {
            Transition::Ends
        } else if opens {
            Transition::Opens(stage)
        } else {
            Transition::Inside
        };
        let target = i64::from(sample.ids[position]);
        predictions.push(Prediction { row: start + row as i64, target, weight, stage, sample: index, transition });
    }
}
