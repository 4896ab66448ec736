//! Scores of one model on trajectories that it has not learned: texts generated and judged, tokens predicted by stage.

use anyhow::Result;
use polya_datasets::evaluation::{Bench, Row, Verdicts};
use polya_datasets::prompt::PromptForm;
use polya_datasets::scores::{Summary, TokenCount};
use polya_datasets::tokens::{self, Sample, Tag};
use polya_datasets::trajectory::Trajectory;
use polya_proto::STATISTICS_UNIT;
use polya_proto::v1;

use crate::adapters::{Layout, LoraSet};
use crate::cli::generate::{Plan, continue_all, decode};
use crate::formats::huggingface::Pretrained;
use crate::generate::{Event, Sampling};
use crate::step::batch::{Weighing, prepare};
use crate::step::loss::Loss;
use crate::step::microbatch;

/// Tokens of a pack for the accuracy by stage.
const PACK_TOKENS: usize = 1024;
/// Samples on which it is measured, as in a run.
const PREDICTED_SAMPLES: usize = 128;

/// How to score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Problems, probes and controls, each.
    pub samples: usize,
    /// Longest continuation in tokens.
    pub max_tokens: usize,
    /// Rows decoded together.
    pub batch: usize,
    /// Chooses the planted errors and drives the bootstrap.
    pub seed: u64,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Scores {
    /// The figures, as in evaluation/final.json.
    pub summary: Summary,
    /// Mean loss a learned token, nats.
    pub holdout_loss: Option<f64>,
    /// One a text.
    pub rows: Vec<Row>,
}

/// Scores a model on trajectories whose questions are asked in a form. `progress` hears how many of how many texts are done.
pub fn evaluate(
    base: &Pretrained,
    adapters: Option<&LoraSet>,
    (form, trajectories): (&PromptForm, &[Trajectory]),
    options: Options,
    mut progress: impl FnMut(usize, usize),
) -> Result<Scores> {
    let bench = Bench::of_holdout(trajectories, options.samples, options.seed);
    let (counts, holdout_loss) = predicted(base, adapters, (form, trajectories))?;
    let mut prompts = vec![];
    for (set, index, text) in bench.prompts(form)? {
        let ids = tokens::ids(&base.tokenizer, &text)?;
        prompts.push((set, index, text, ids));
    }
    let mut verdicts = Verdicts::default();
    let (mut done, all) = (0, prompts.len());
    progress(done, all);
    let ids: Vec<Vec<u32>> = prompts.iter().map(|(_, _, _, ids)| ids.clone()).collect();
    let plan = Plan { max_tokens: options.max_tokens, batch: options.batch, sampling: Sampling::Greedy };
    let generated = continue_all(base, adapters, &ids, plan, &mut |event| {
        if let Event::Finished { .. } = event {
            done += 1;
            progress(done, all);
        }
    })?;
    for ((set, index, prompt, _), ids) in prompts.iter().zip(&generated.continuations) {
        verdicts.judge(&bench, (*set, *index), prompt, &decode(base, ids)?);
    }
    let summary = verdicts.summary(&counts, options.seed);
    Ok(Scores { summary, holdout_loss, rows: verdicts.rows })
}

/// Tokens predicted right by stage, and the mean loss, with the right text before each.
fn predicted(
    base: &Pretrained,
    adapters: Option<&LoraSet>,
    asked: (&PromptForm, &[Trajectory]),
) -> Result<([TokenCount; 4], Option<f64>)> {
    let tags = tokens::tags(&base.tokenizer)?;
    let names = [0, 1, 2, 3].map(|stage: usize| i64::from(tags[stage].name_token()));
    let loss = Loss { label_smoothing: 0.0, transition: 0.0, names };
    let shadow = adapters.is_some_and(|set| set.layout.adapters == 2);
    let weighing = Weighing { uniform: false, stages: [1.0; 4], samples: 1.0, learned_tokens: 1.0 };
    // What is switched off where there are no adapters.
    let layout = Layout::new(&base.model.config, 1, 1.0, false);
    let zeros = vec![0.0; layout.parameters()];
    let none = LoraSet::new(layout, &zeros, false);
    let (mut counts, mut nats, mut all) = ([TokenCount::default(); 4], 0i64, 0u64);
    for pack in packs(base, &tags, asked)? {
        let prepared = prepare(&pack, &tags, weighing, shadow, (0, 0))?;
        let loss = (&loss, weighing);
        let set = adapters.unwrap_or(&none);
        let statistics = microbatch::evaluate(&base.model, set, &prepared, loss, adapters.is_some());
        for (count, stage) in counts.iter_mut().zip(&statistics.stages) {
            count.correct += stage.correct;
            count.tokens += stage.tokens;
            nats += stage.loss;
            all += stage.tokens;
        }
    }
    Ok((counts, (all > 0).then(|| nats as f64 * STATISTICS_UNIT / all as f64)))
}

/// The first samples that the model has room for, several to a pack.
fn packs(
    base: &Pretrained,
    tags: &[Tag; 4],
    (form, trajectories): (&PromptForm, &[Trajectory]),
) -> Result<Vec<Vec<v1::Sample>>> {
    form.check(&base.tokenizer, &tags[0])?;
    let end = form.end(&base.tokenizer)?;
    let encoded = trajectories.iter().filter_map(|t| tokens::encode_as(form, &base.tokenizer, &tags[3], end, t).ok());
    let fitting = encoded.filter(|sample| sample.ids.len() as i64 <= base.model.config.context);
    let mut packs: Vec<Vec<v1::Sample>> = vec![];
    let mut held = usize::MAX;
    for sample in fitting.take(PREDICTED_SAMPLES) {
        if held.saturating_add(sample.ids.len()) > PACK_TOKENS {
            packs.push(vec![]);
            held = 0;
        }
        held += sample.ids.len();
        if let Some(pack) = packs.last_mut() {
            pack.push(message(sample));
        }
    }
    Ok(packs)
}

/// A sample as the wire has it.
pub fn message(sample: Sample) -> v1::Sample {
    v1::Sample {
        stages: sample.stages.iter().map(|stage| stage.map_or(255, |stage| stage.index() as u8)).collect(),
        weight_bits: sample.weights.iter().map(|weight| weight.to_bits()).collect(),
        verify_tag_start: sample.verify_tag.start as u32,
        verify_tag_end: sample.verify_tag.end as u32,
        corrective: sample.corrective,
        id: sample.id,
        ids: sample.ids,
    }
}
